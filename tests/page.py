"""The service on a socket and a headless Chromium to look at its page with: what the tests of the page share."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from service.app import create_app
from service.settings import Settings

CHROMIUM = shutil.which("chromium")
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
SKIP = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH (apt-get install chromium)")

Visit = Callable[..., Page]


@contextmanager
def serve(models_dir: Path, **more: Any) -> Iterator[str]:
    """The service over a model repository, in a thread of its own: its address."""
    settings = Settings(models_dir=models_dir, device="cpu", threads=1, reload_s=0.05, **more)
    config = uvicorn.Config(create_app(settings), log_config=None, timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """A browser, without a window; with `more` arguments."""
    # Chromium's sandbox does not start for root, whom containers are fond of; these pages are our own.
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", *more]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visits(browser: Browser) -> Iterator[Visit]:
    """Opens an address in a browser of its own; the page answers within a few seconds or the test fails."""
    with ExitStack() as contexts:

        def open_page(url: str, **options: Any) -> Page:
            context = browser.new_context(**options)
            contexts.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.goto(url)
            return page

        yield open_page


def answered(page: Page) -> Page:
    """The page, once both models have answered to something."""
    expect(page.locator(".card .mark, .card .times").filter(has_text=re.compile(r"computing"))).to_have_count(2)
    return page


QUICK_MS = 30_000
"""Within which the shortest comparison is over."""


def quickly(page: Page, margin: str = "") -> None:
    """Begins the shortest comparison that the page can ask for."""
    page.get_by_label("Margin, in points of accuracy").fill(margin)
    for scenario in ("offline", "server", "alternating"):
        page.get_by_label(scenario).uncheck()
    page.locator("#compare details").evaluate("details => details.open = true")
    page.get_by_label("Blocks of each").fill("3")
    page.get_by_role("button", name="Compare", exact=True).click()


def report_of(page: Page, address: str) -> dict[str, Any]:
    identity = re.search(r"comparison=(\w+)", page.url)
    assert identity
    return page.request.get(f"{address}compare/{identity[1]}").json()["report"]


def refused(page: Page, status: int, error: str) -> list[dict[str, Any]]:
    """The bodies of all comparisons that the page asks for from now on, in their order; each is refused with this."""
    asked: list[dict[str, Any]] = []

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.continue_()
        asked.append(json.loads(route.request.post_data or ""))
        assert route.request.headers["prefer"] == "respond-async"
        return route.fulfill(status=status, json={"error": error})

    page.route("**/compare", refuse)
    return asked
