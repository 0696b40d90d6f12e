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
from playwright.sync_api import Browser, FilePayload, Page, Request, Route, expect

from service.comparison.render import html
from service.comparison.schema.report import Report
from tests.page import PHONE, SKIP, Visit, answered, chromium, serve, visits
from tests.reports import made
from tests.repositories import examples, known_logits, write_cascade, write_model

pytestmark = SKIP

QUICK_S = 30_000
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
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with visits(browser) as visit:
        yield visit


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
    expect(page.locator("#comparison")).to_be_visible(timeout=QUICK_S)
    yield page
    context.close()
    assert problems == []


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
    asked: list[dict[str, Any]] = []

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.continue_()
        asked.append(json.loads(route.request.post_data or ""))
        assert route.request.headers["prefer"] == "respond-async"
        return route.fulfill(status=400, json={"error": "margin: not today"})

    page.route("**/compare", refuse)
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


def csv(name: str, text: str | bytes) -> FilePayload:
    return {"name": name, "mimeType": "text/csv", "buffer": text.encode() if isinstance(text, str) else text}


OWN = "Or your own, as a CSV file"


def test_examples_of_ones_own_are_compared_on(visit: Visit, address: str):
    """From a CSV file to a report on the very rows and labels, as numpy knows them; then the held-out ones again."""
    page = answered(visit(address))
    inputs, labels = examples(12, seed=3)
    header = ["label", *(f"p{n}" for n in range(64))]
    rows = [[str(label), *map(str, row)] for label, row in zip(labels, inputs.reshape(12, -1), strict=True)]
    page.get_by_label(OWN).set_input_files(
        csv("own.csv", "\ufeff" + "\r\n".join(map(",".join, [header, *rows])) + "\r\n")
    )
    expect(page.locator("#own-state")).to_have_text("12 examples with labels.")
    expect(page.get_by_label("Held-out examples, at most")).to_be_disabled()
    quickly(page)
    expect(page.locator("#comparison")).to_be_visible(timeout=QUICK_S)
    report = report_of(page, address)
    assert (report["data"]["dataset"], report["data"]["examples"], report["data"]["labelled"]) == (None, 12, True)
    assert report["data"]["sha256"] == hashlib.sha256(inputs.tobytes()).hexdigest()
    right = known_logits(inputs, seed=0).argmax(axis=1) == labels
    assert report["models"][1]["accuracy"] == pytest.approx(right.mean())
    page.get_by_role("button", name="Use held-out examples").click()
    expect(page.get_by_label(OWN)).to_be_focused()
    expect(page.locator("#own-state")).to_be_hidden()
    expect(page.get_by_label("Held-out examples, at most")).to_be_enabled()


ROW = ",".join(["1"] * 64)
HEADER = ",".join(f"p{n}" for n in range(64))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "own.csv: holds no examples, expected a header and a row for each."),
        (f"{HEADER}\n\n", "own.csv: holds no examples, expected a header and a row for each."),
        (f"{HEADER}\n{ROW}\n{ROW},2\n", "own.csv: row 2 has 65 values, the header has 64."),
        (
            f"label,{HEADER}\n3,{ROW}\n3,x{ROW}\n",
            "own.csv: row 2 holds “x1”, expected numbers in every column but label.",
        ),
        (f"{HEADER}\n,{ROW[2:]}\n", "own.csv: row 1 holds “”, expected numbers in every column but label."),
        ('a,b\n1,"2\n', "own.csv: row 1 has a quotation mark that nothing ends, or text behind one."),
        ("a,b\n1,2\n", "own.csv: a row has 2 numbers, the models take 8 × 8."),
        ("a\n" + "1\n" * 10_001, "own.csv: holds 10,001 rows, expected at most 10,000."),
        (b"\xff\xfe\x00", "own.csv: is no text in UTF-8, expected a CSV file."),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_nothing_is_asked(
    text: str | bytes, words: str, visit: Visit, address: str
):
    """Beside its field, where whoever does not see it hears it, and once more where one asks all the same."""
    page = answered(visit(address))
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if request.method == "POST" else None)
    page.get_by_label(OWN).set_input_files(csv("own.csv", text))
    expect(page.locator("#own-failure")).to_have_text(words)
    expect(page.get_by_role("alert").filter(has_text=words)).to_have_count(1)
    assert page.get_by_label(OWN).get_attribute("aria-invalid") == "true"
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-failure")).to_have_text(words)
    assert [request.url for request in asked if "compare" in request.url] == []


def test_what_is_read_from_a_file_is_what_is_asked(visit: Visit, address: str):
    """Quotes, empty lines and exponents; whole numbers that are no class's name are places of classes."""
    page = answered(visit(address))
    asked: list[dict[str, Any]] = []

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.continue_()
        asked.append(json.loads(route.request.post_data or ""))
        return route.fulfill(status=413, json={"error": "too much"})

    page.route("**/compare", refuse)
    values = ["-1.5e-1", " .5", "2.", "+3", *["0"] * 60]
    rows = [f'"{values[0]}",{",".join(values[1:])},"a ""b"", c"', "", f"{','.join(values)},7"]
    page.get_by_label(OWN).set_input_files(csv("own.csv", "\n".join([f"{HEADER},label", *rows])))
    expect(page.locator("#own-state")).to_have_text("2 examples with labels.")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-failure")).to_have_text("too much")
    page.get_by_label(OWN).set_input_files(csv("own.csv", f"{HEADER},label\n{ROW},12\n"))
    expect(page.locator("#own-state")).to_have_text("1 example with labels.")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_label(OWN).set_input_files(csv("own.csv", f"{HEADER}\n{ROW}\n"))
    expect(page.locator("#own-state")).to_have_text("1 example without labels, so that nothing is said of accuracy.")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_enabled()
    page.wait_for_timeout(200)
    assert [body["inputs"] for body in asked] == [[[-0.15, 0.5, 2, 3, *[0] * 60]] * 2, [[1] * 64], [[1] * 64]]
    assert [body["labels"] for body in asked] == [['a "b", c', "7"], [12], None]
    assert [(body["limit"], "dataset" in body) for body in asked] == [(None, False)] * 3


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
