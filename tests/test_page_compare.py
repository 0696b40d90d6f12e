"""The instrument on the page: comparisons begun, followed, read, kept; the real service in headless Chromium."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from service.comparison.render import html
from service.comparison.schema.report import Report
from tests.page import PHONE, QUICK_MS, SKIP, Visit, answered, quickly, refused, report_of, serve
from tests.reports import made
from tests.repositories import write_cascade, write_model

pytestmark = SKIP

JOB = {
    "id": "made-up",
    "state": "done",
    "created": "2026-03-01T12:30:00Z",
    "started": "2026-03-01T12:30:00Z",
    "ended": "2026-03-01T12:30:21Z",
    "models": ["digits-student/1", "digits-ensemble/1"],
    "progress": None,
    "headline": "the student is 23 times as fast",
    "verdict": "not inferior by 1 point: not shown",
    "error": None,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with an ensemble and three versions of its student."""
    root = tmp_path_factory.mktemp("models")
    ensemble = write_model(root, "digits-ensemble", role="ensemble")
    for version in (1, 2, 3):
        write_model(root, "digits-student", version, seed=version, teacher=ensemble)
    with serve(root) as url:
        yield url


@pytest.fixture(scope="module")
def finished(browser: Browser, address: str) -> Iterator[Page]:
    """The page after a short comparison with a margin; nothing was said in its console."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_default_timeout(10_000)
    page.goto(address)
    answered(page)
    quickly(page, margin="5")
    expect(page.locator("#comparison")).to_be_visible(timeout=QUICK_MS)
    yield page
    context.close()
    assert problems == []


def test_the_verdict_comes_first_and_then_the_figures(finished: Page, address: str):
    """The page adopts the report's own markup: the same words and plots as in the file."""
    report = report_of(finished, address)
    verdict = report["pairs"][0]["verdict"]["text"]
    expect(finished.locator("#compare-state")).to_have_text(verdict)
    shown = finished.locator("#comparison-report")
    expect(shown.locator("section").first.locator("h3 + p")).to_have_text(verdict)
    expect(shown.locator("h2")).to_have_text("digits-student/3 vs digits-ensemble/1")
    assert shown.get_by_role("img", name="Latency of one row at a time").count() == 1
    assert shown.get_by_role("img", name="Reliability of digits-student/3").count() == 1
    expect(shown.locator(".confusion")).to_have_count(2)
    assert shown.locator("script, style, [style]").count() == 0
    expect(finished.locator("#compare-cancel")).to_be_hidden()
    expect(finished.get_by_role("button", name="Compare", exact=True)).to_be_enabled()


def test_the_files_of_a_report_are_offered(finished: Page, address: str):
    """A page of its own, Markdown, JSON and the raw latencies."""
    kinds = {"as a page": "text/html", "as Markdown": "text/markdown", "as JSON": "application/json"}
    for name, kind in {**kinds, "raw latencies": "application/zip"}.items():
        link = finished.get_by_role("link", name=name).get_attribute("href")
        assert finished.request.get(f"{address}{link}").headers["content-type"].startswith(kind)


def test_the_file_stands_alone_without_a_word_in_the_console(finished: Page, address: str):
    """Opened from the service, report.html keeps its looks under its own policy and asks nobody for anything."""
    link = finished.get_by_role("link", name="as a page").get_attribute("href")
    page = finished.context.new_page()
    problems: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{address}{link}")
    assert page.locator(".deciding strong").first.evaluate("it => getComputedStyle(it).fontSize") == "28px"
    assert [url for url in urls if not url.startswith("data:")] == [f"{address}{link}"]
    assert problems == []
    page.close()


def test_disagreements_soften_with_the_temperature(finished: Page, address: str):
    """Both models' probabilities at the slider's temperature: softmax(log p / T), without asking again."""
    cards = finished.locator("#comparison-report .disagreement")
    first = report_of(finished, address)["pairs"][0]["disagreements"][0]
    slider = finished.locator("#report-temperature")
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "temperature 50")
    for table, key in zip(cards.first.locator(".top").all(), ("a", "b"), strict=True):
        p = np.array(first[key])
        soft = np.maximum(p, 1e-300) ** (1 / 50)
        expected = np.sort(soft / soft.sum())[::-1][:3]
        texts = table.locator("td:last-child").all_inner_texts()
        assert [float(text.rstrip(" %")) for text in texts] == pytest.approx(100 * expected, abs=0.06)
        widths = table.locator("rect.bar").evaluate_all("bars => bars.map(bar => Number(bar.getAttribute('width')))")
        assert widths == pytest.approx(100 * expected, abs=0.01)
    expect(cards.first.locator("img")).to_have_attribute("alt", re.compile(rf"^Example {first['index']}, in truth \d$"))
    finished.locator("#report-disagreements").get_by_role("button", name="T = 1").click()
    expect(slider).to_have_attribute("aria-valuetext", "temperature 1")


def test_a_comparison_is_kept_opened_again_and_deleted(finished: Page, visit: Visit, address: str):
    """Its address shows it again after a reload; in the list it can be opened and deleted."""
    page = visit(finished.url)
    expect(page.locator("#comparison-report h2")).to_have_text("digits-student/3 vs digits-ensemble/1")
    page = visit(address)
    row = page.locator("#history-list li").first
    expect(row).to_contain_text("digits-student/3, digits-ensemble/1")
    expect(page.locator("#comparison")).to_be_hidden()
    row.get_by_role("button", name=re.compile("^Open the comparison of digits-student.3, digits-ensemble.1")).click()
    expect(page.locator("#comparison-report h2")).to_be_visible()
    row.get_by_role("button", name=re.compile("^Delete")).click()
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator("#comparison")).to_be_hidden()
    assert "comparison=" not in page.url
    page.goto(finished.url)
    expect(page.locator("#compare-failure")).to_contain_text("comparison")
    assert "comparison=" not in page.url


def test_a_comparison_is_followed_and_cancelled(visit: Visit, address: str):
    """A progress bar with its words while it runs; then it is said that there is no report."""
    page = answered(visit(address))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("progressbar", name="Comparing")).to_be_visible()
    expect(page.locator("#compare-doing")).to_have_text(re.compile(r"^\d+ of about \d+ s: \w"))
    expect(page.locator("#compare-state")).to_have_text("Comparing digits-student/3, digits-ensemble/1.")
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#compare-failure")).to_have_text("There is no report: it was cancelled.")
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_enabled()
    row = page.locator("#history-list li").first
    expect(row).to_contain_text("It was cancelled.")
    expect(row.get_by_role("button")).to_have_text(["Delete"])


def test_a_report_goes_as_soon_as_another_comparison_begins(visit: Visit, address: str):
    """It would stand below as if it were that one's."""
    page = visit(address)
    with_made_up_report(page)
    page.goto(f"{address}?comparison=made-up")
    expect(page.locator("#comparison-report h2")).to_have_text("6 models compared")
    answered(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-state")).to_have_text("Comparing digits-student/3, digits-ensemble/1.")
    expect(page.locator("#comparison")).to_be_hidden()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#compare-failure")).to_have_text("There is no report: it was cancelled.")


def test_a_finger_hits_a_box(visit: Visit, address: str):
    """With its words it is 44 pixels high, on a phone as on a touch screen."""
    page = answered(visit(address, **PHONE))
    for label in page.locator("label.check:visible").all():
        box, own = label.bounding_box(), label.locator("input").bounding_box()
        assert box is not None
        assert own is not None
        assert (box["height"] >= 44, own["width"], own["height"]) == (True, 24, 24)


def test_what_is_asked_is_what_the_form_says(visit: Visit, address: str):
    """Models in their order, any version, up to six; empty fields are left to the service."""
    page = answered(visit(address))
    asked = refused(page, 400, "margin: not today")
    page.get_by_label("Model B", exact=True).select_option("digits-student/1")
    for _ in range(4):
        page.get_by_role("button", name="Add a model").click()
    expect(page.get_by_label("Model F", exact=True)).to_be_focused()
    expect(page.get_by_role("button", name="Add a model")).to_be_disabled()
    for letter in "FED":
        page.get_by_role("button", name=f"Remove model {letter}").click()
    page.get_by_label("Margin, in points of accuracy").fill("0.5")
    page.get_by_label("Price of this machine, an hour").fill("0.1")
    page.get_by_label("through HTTP").check()
    page.get_by_label("server").uncheck()
    page.get_by_label("Margin, in points of accuracy").press("Enter")
    expect(page.locator("#compare-failure")).to_have_text("margin: not today")
    assert asked == [
        {
            "models": ["digits-student/3", "digits-student/1", "digits-ensemble/1"],
            "dataset": "held-out",
            "scenarios": ["offline", "alternating", "http"],
            "margin": 0.5,
            "limit": 500,
            "price_per_hour": 0.1,
            **dict.fromkeys(("batch", "blocks", "calls", "threads", "rate", "seed")),
        }
    ]


def test_a_cascade_can_be_chosen_beside_its_student(visit: Visit, tmp_path: Path):
    """As if it were a model."""
    write_cascade(tmp_path)
    with serve(tmp_path) as url:
        page = visit(url)
        choices = page.get_by_label("Model A", exact=True).locator("option")
        expect(choices).to_have_text(["digits-ensemble/1", "digits-student/1", "digits-cascade/1"])
        page.close()


def test_the_versions_of_a_student_are_shown(visit: Visit, address: str):
    """Accuracy with its interval and size, as each version's manifest states them, the newest first."""
    page = answered(visit(address))
    rows = page.locator("#versions-table tbody tr")
    expect(rows).to_have_count(3)
    for row, version in zip(rows.all(), (3, 2, 1), strict=True):
        metrics = page.request.get(f"{address}models/digits-student?version={version}").json()["metrics"]
        expect(row.locator("th")).to_have_text(str(version))
        expect(row).to_contain_text(f"{100 * metrics['accuracy']:.1f} %")
    plot = page.get_by_role("img", name=re.compile("^digits-student: accuracy on its held-out set by version"))
    expect(plot.locator(".marker")).to_have_count(3)


def with_made_up_report(page: Page, asked: list[Request] | None = None) -> None:
    """The service answers as if it had just made a report of six models, with a stranger's words in it."""
    evil = "<img src=x onerror=alert(1)>"
    report = Report.model_validate(made(6, names=(evil, *(f"digits-{n}" for n in range(5)))))
    done = {**JOB, "verdict": evil, "report": report.model_dump(mode="json")}
    going = {**JOB, "state": "running", "progress": {"done": 3.2, "total": 21.0, "doing": "trying batches of 64"}}
    turns = iter([going])
    events = f": it goes on\n\nevent: progress\ndata: {json.dumps(going)}\n\nevent: end\ndata: {json.dumps(JOB)}\n\n"
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "": lambda: {"json": next(turns, done)},
        "/events": lambda: {"body": events, "content_type": "text/event-stream"},
        "/report.html": lambda: {"body": html(report), "content_type": "text/html"},
        "/report.md": lambda: {"body": "# A report", "content_type": "text/markdown"},
    }

    def answer(route: Route) -> None:
        if asked is not None:
            asked.append(route.request)
        route.fulfill(**answers[route.request.url.partition("made-up")[2]]())

    page.route("**/compare/made-up**", answer)


def test_a_key_goes_with_everything_that_is_asked(visit: Visit, tmp_path: Path):
    """The page asks for it once; events carry it, which EventSource could not, and files, which links could not."""
    ensemble = write_model(tmp_path, "digits-ensemble", role="ensemble")
    write_model(tmp_path, seed=1, teacher=ensemble)
    with serve(tmp_path, api_keys=f"me:predict+compare:{hashlib.sha256(b'secret').hexdigest()}") as url:
        page = visit("about:blank")
        page.on("dialog", lambda dialog: dialog.accept("secret"))
        page.goto(url)
        answered(page)
        asked: list[Request] = []
        with_made_up_report(page, asked)
        page.goto(f"{url}?comparison=made-up")
        expect(page.locator("#comparison-report h2")).to_have_text("6 models compared")
        with page.expect_download() as download:
            page.get_by_role("link", name="as Markdown").click()
        assert download.value.path().read_text() == "# A report"
        page.close()
    ends = [request.url.rpartition("/")[2] for request in asked]
    assert ends == ["made-up", "events", "made-up", "report.html", "report.md"]
    assert {request.headers.get("authorization") for request in asked} == {"Bearer secret"}


def test_a_key_without_the_right_to_compare_shows_no_history(visit: Visit, tmp_path: Path):
    """The rest of the page works; comparing is refused in the service's words."""
    ensemble = write_model(tmp_path, "digits-ensemble", role="ensemble")
    write_model(tmp_path, seed=1, teacher=ensemble)
    with serve(tmp_path, api_keys=f"me:predict:{hashlib.sha256(b'secret').hexdigest()}") as url:
        page = visit("about:blank")
        page.on("dialog", lambda dialog: dialog.accept("secret"))
        page.goto(url)
        answered(page)
        page.get_by_role("button", name="Compare", exact=True).click()
        expect(page.locator("#compare-failure")).to_contain_text("compare")
        expect(page.locator("#history")).to_be_hidden()
        page.close()


def test_a_phone_shows_a_large_report_without_horizontal_scrolling(visit: Visit, address: str):
    """At 360 pixels nothing sticks out, words in plots are ten pixels high at least, what strangers wrote is text."""
    page = visit(address, **PHONE)
    with_made_up_report(page)
    page.goto(f"{address}?comparison=made-up")
    shown = page.locator("#comparison-report")
    expect(shown.locator("h2")).to_have_text("6 models compared")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = shown.locator(".plot .tick").evaluate_all(
        "ticks => ticks.map(tick => tick.getBoundingClientRect().height)"
    )
    assert min(heights) >= 10
    assert shown.locator("img[onerror]").count() == 0
    expect(page.locator("#compare-state")).to_have_text("<img src=x onerror=alert(1)>")
    frame = shown.get_by_role("region", name="Single stream: one row at a time")
    assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth && frame.tabIndex === 0")


def test_everything_in_the_form_has_a_name_and_is_reached_by_tab(visit: Visit, address: str):
    """Labels for all fields; Tab goes from the first model to the button."""
    page = answered(visit(address))
    unnamed = "nodes => nodes.filter(node => !node.labels.length && !node.ariaLabel).map(node => node.outerHTML)"
    assert page.locator("#compare-form :is(input, select)").evaluate_all(unnamed) == []
    page.get_by_label("Model A", exact=True).focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "compare-start":
            break
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_focused()
