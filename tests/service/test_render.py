"""Reports as people read them: figures are there, what strangers wrote stays text, nothing needs a network."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from service.comparison.render import html, html_body, markdown
from service.comparison.render.markup import clean, tag
from service.comparison.render.numbers import figures, p_value, probability, size
from service.comparison.render.plots.confusion import shade
from service.comparison.render.plots.tradeoff import Point, frontier
from service.comparison.render.sentences import headline
from service.comparison.schema.report import Report
from tests.reports import FULL, N, made, report

STYLE = (Path(__file__).parents[2] / "service" / "page" / "report.css").read_text()
WIDEST = 110
EVIL = "<script>alert(1)</script>\"'`|[x](http://evil.example/)\x1b[31m\u202e"

CASES: dict[str, dict[str, Any]] = {
    "two models": {},
    "six models": {"models": 6},
    "two classes": {"classes": 2},
    "a thousand classes": {"models": 3, "classes": 1000},
    "no labels": {"labelled": False},
    "no pictures": {"pictures": False},
    "nothing but single stream and batches": {"scenarios": ()},
    "no margin": {"margin": None},
    "files and few calls": {"few": True, "scenarios": ()},
    "long names and very unlike models": {
        "models": 3,
        "slower": 999.0,
        "names": tuple(f"a-recipe-with-a-rather-long-name-student-int{n}" for n in range(3)),
    },
    "six without labels": {"models": 6, "labelled": False, "scenarios": ("server",)},
}


@cache
def known(case: str) -> Report:
    return report(**CASES[case])


class Strict(HTMLParser):
    """Fails where an element is not closed; remembers what it met."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("case", CASES)
def test_every_report_becomes_markup_that_parses_and_needs_no_network(case: str):
    """As HTML and as XML; no script, no style of its own, no address but data: and its own parts."""
    body = html_body(known(case))
    root = ElementTree.fromstring(f"<main>{body}</main>")
    found = parsed(body)
    assert not {"script", "style", "link", "iframe", "object"} & {element.tag for element in root.iter()}
    assert [it for it in found.attributes if it[1] == "style" or it[1].startswith("on")] == []
    addresses = [value for _, name, value in found.attributes if name in {"src", "href", "action", "data"}]
    assert [it for it in addresses if not it.startswith(("data:image/png;base64,", "#report-"))] == []
    names = {value for _, name, value in found.attributes if name == "id"}
    assert {it[1:] for it in addresses if it.startswith("#")} <= names
    assert len(names) == sum(name == "id" for _, name, _ in found.attributes)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


@pytest.mark.parametrize("case", CASES)
def test_every_plot_says_what_it_shows(case: str):
    """Each SVG is decoration beside a number or an image with a title and a description, drawn within its frame."""
    for svg in ElementTree.fromstring(f"<main>{html_body(known(case))}</main>").iter("svg"):
        if svg.get("aria-hidden") == "true":
            continue
        assert svg.get("role") == "img"
        assert (svg.findtext("title"), svg.findtext("desc")) != ("", "")
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        for element in svg.iter():
            ends = dict.fromkeys(("x", "x1", "x2", "cx"), width) | dict.fromkeys(("y", "y1", "y2", "cy"), height)
            for name, end in ends.items():
                assert -1 <= float(element.get(name, 0)) <= end + 1, ElementTree.tostring(element)


@pytest.mark.parametrize("case", CASES)
def test_no_line_crosses_the_words_of_a_row(case: str):
    """Where estimates stand below one another, neither the grid nor a margin runs through what they are called."""
    for svg in ElementTree.fromstring(f"<main>{html_body(known(case))}</main>").iter("svg"):
        told = [float(text.attrib["y"]) for text in svg.iter("text") if text.get("class") == "told"]
        lines = [element.attrib for element in svg.iter("line") if element.get("class") in {"grid", "zero", "margin"}]
        for y in told:
            assert [it for it in lines if float(it["y1"]) < y + 3 and float(it["y2"]) > y - 11] == []
        assert not told or lines


@pytest.mark.parametrize("case", CASES)
def test_markdown_fits_a_terminal(case: str):
    """Tables are aligned and no line of ours is wider than 110 columns."""
    text = markdown(known(case))
    assert max(map(len, text.split("\n"))) <= WIDEST
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.M):
        rows = block.splitlines()
        assert len({len(row) for row in rows}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


@pytest.mark.parametrize("write", [markdown, html], ids=["Markdown", "HTML"])
def test_the_figures_of_the_report_appear(write: Any):
    """Verdict, speed, quality, cost, where it came from: as numbers with their intervals."""
    it = report()
    text = parsed(write(it)).text.replace("\xa0", " ") if write is html else write(it)
    pair, model = it.pairs[0], it.models[0]
    assert pair.verdict
    assert text.index(pair.verdict.text) < text.index("One row at a time" if "One row" in text else "Speed")
    assert text.index(pair.verdict.text) < text.index("p99")
    for expected in (
        f"{pair.speed_up.value:.1f}×",
        f"[{pair.speed_up.interval[0]:.1f}×, {pair.speed_up.interval[1]:.1f}×]",
        f"{100 * (model.accuracy or 0):.1f} %",
        f"{model.nll:.3f}",
        f"{model.brier:.3f}",
        f"{model.ece:.3f}",
        "0.453",
        "p99.9",
        "Poisson arrivals at 500 requests per second",
        "http://127.0.0.1:8000/predict",
        "price/million",
        f"give different labels to {pair.disagreed} of {N} examples",
        "5d" * 32,
        "01" * 32,
        "CPUExecutionProvider",
        "onnxruntime 1.26.0",
        '"price_per_hour": 0.096',
    ):
        assert expected in text, expected


@pytest.mark.parametrize("models", [2, 6])
def test_without_labels_there_is_no_word_of_accuracy(models: int):
    """Nor of what is built on it."""
    it = report(models, labelled=False)
    for text in (markdown(it), html_body(it)):
        body = text[: text.index("To repeat this comparison")].lower()
        for word in ("accura", "calibrat", "ece", "brier", "mcnemar", "inferior", "reliab", "confus", "margin -"):
            assert re.search(rf"\b{word}", body) is None, word
    assert "nothing says which of the models is the better one" in markdown(it)


def test_what_was_not_measured_is_not_told():
    """A scenario that nobody asked for has no table; what too few calls cannot tell is said so."""
    text = markdown(report(scenarios=(), few=True))
    for word in ("Offline", "Server", "Alternating", "Through HTTP"):
        assert word not in text
    assert "too few calls" in text
    assert "digits-student/" not in text
    assert "Whether digits-student or digits-ensemble saw these examples in training is not known." in text
    every = markdown(report(scenarios=FULL))
    for word in ("Offline", "Server", "Alternating", "Through HTTP"):
        assert word in every
    assert "too few calls" not in every


def test_without_a_margin_there_is_no_verdict():
    """A difference without a margin that was stated beforehand shows nothing."""
    it = report(margin=None)
    assert "No margin was stated beforehand, so there is no verdict" in markdown(it)
    assert 'class="verdict' not in html_body(it)
    assert 'class="verdict open"' in html_body(report())


def test_a_headline_without_a_margin_says_that_there_is_no_verdict():
    """And nothing of a difference that was not clear, which is no verdict on anything."""
    unjudged = "No margin was stated beforehand, so there is no verdict on whether one may stand in for the other."
    accuracy = "the accuracy of digits-student/1 minus that of digits-ensemble/1 is −1.1 points, 95 % [−3.4, +1.2]."
    assert (headline(report(margin=None)) or "").endswith(f"On 360 examples {accuracy} {unjudged}")
    assert (headline(report(margin=1.0)) or "").endswith(accuracy)
    assert (headline(report(labelled=False)) or "").endswith(
        "There are no right labels, so nothing says which of the models is the better one."
    )
    for it in (report(margin=None), report(margin=1.0)):
        assert "clear difference" not in markdown(it) + html(it) + str(headline(it))


def test_the_faster_one_is_named_and_what_it_costs():
    """In one sentence each, whichever of the two was named first."""
    it = made(margin=None)

    def told() -> str:
        return " ".join(markdown(Report.model_validate(it)).split())

    assert (
        "digits-student/1 is 23.3× as fast as digits-ensemble/1, one row at a time (95 % [21.9×, 24.7×]). "
        "On 360 examples the accuracy of digits-student/1 minus that of digits-ensemble/1 is −1.1 points, "
        "95 % [−3.4, +1.2]."
    ) in told()
    it["pairs"][0]["speed_up"] = {"value": 0.05, "interval": (0.04, 0.0625)}
    it["pairs"][0]["accuracy_difference"] = {"value": -0.03, "interval": (-0.05, -0.01)}
    assert (
        "digits-ensemble/1 is 20.0× as fast as digits-student/1, one row at a time (95 % [16.0×, 25.0×]). "
        "digits-student/1 is less accurate than digits-ensemble/1 on 360 examples (−3.0 points, 95 % [−5.0, −1.0])."
    ) in told()
    it["pairs"][0]["speed_up"] = {"value": 1.02, "interval": (0.98, 1.06)}
    assert "are about as fast as each other (1.02×, 95 % [0.980×, 1.06×])." in told()
    it["pairs"][0]["speed_up"] = {"value": 2.02, "interval": (0.82, 4.58)}
    assert (
        "One row at a time, neither digits-student/1 nor digits-ensemble/1 is shown to be the faster (2.02×, "
        "95 % [0.820×, 4.58×])."
    ) in told()


def test_names_labels_and_addresses_of_strangers_stay_text():
    """No markup, no link, no picture from elsewhere, no escape sequence for the terminal."""
    labels = (EVIL, *map(str, range(1, 10)))
    it = made(names=(EVIL, "</main><img src=x onerror=alert(1)>"), labels=labels)
    it["models"][0]["http"]["url"] = "http://evil.example/<script>alert(2)</script>"
    it["machine"]["processor"] = it["data"]["dataset"] = EVIL
    it["pairs"][0]["disagreements"][0]["image"] = "http://evil.example/pixel.png"
    it["pairs"][0]["verdict"]["text"] = EVIL
    evil = Report.model_validate(it)
    page, text = html(evil), markdown(evil)
    assert "<script" not in page
    assert "<img src=x" not in page
    found = parsed(page)
    assert [it for it in found.attributes if it[1] in {"src", "href"} and "evil" in it[2]] == []
    assert "<script>alert(1)</script>" in found.text
    for written in (page, text):
        assert "\x1b" not in written
        assert "\u202e" not in written
    said = text[: text.index("```json")]
    assert "](http" not in said
    assert re.search(r"(?<!\\)<script", said) is None
    assert len(re.findall(r"^```", text, flags=re.M)) == 2


def test_a_page_of_its_own_holds_its_style_and_a_policy():
    """It is the body of the service's page, in a frame that allows neither scripts nor a network."""
    it = report()
    page = html(it)
    assert page.startswith("<!doctype html>")
    assert html_body(it) in page
    assert STYLE in page
    policy = ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert policy in parsed(page).attributes


def test_what_weakens_a_figure_is_said_at_once():
    """Overlap, a shared machine, another provider, a queue that grew, labels that depend on the batch."""
    it = made(3)
    it["other_runs"] = 4
    it["machine"]["load_average"] = 1.9
    it["data"]["overlap"][0]["examples"] = 12
    it["data"]["overlap"][1] |= {"known": False, "examples": None}
    it["models"][0]["provider"] = "CUDAExecutionProvider"
    it["models"][1]["server"]["kept_up"] = False
    it["models"][1]["http"]["failures"] = 3
    it["models"][2]["label_flips"]["flips"] = 2
    text = " ".join(markdown(Report.model_validate(it)).split())
    for sentence in (
        "digits-student/1 was trained on 12 of the 360 examples: it looks better than it is.",
        "Whether digits-ensemble/1 saw these examples in training is not known.",
        "The models answered 4 other batches meanwhile: measure again when the service is quiet.",
        "The machine was busy before: 1.9 processes ran or waited on 2 CPUs in the minute before.",
        "digits-student/1 was to run on cpu and ran on CUDAExecutionProvider.",
        "The models ran on different providers or numbers of threads.",
        "digits-ensemble/1 did not keep up with 500 requests per second: its queue grew.",
        "digits-ensemble/1 failed 3 requests through HTTP.",
        "digits-baseline/1 gives another label to 2 of 360 examples when 1 and 64 rows travel together.",
        "The 3 verdicts are one-sided tests at 2.5 % each, without correction for their number.",
    ):
        assert text.index(sentence) < text.index("## Speed")
    assert "Before you rely on it" not in markdown(report())


def test_two_models_of_the_same_name_are_told_apart():
    """By their letters."""
    it = report(names=("same", "same"))
    assert "same/1 (A) is 23.3× as fast as same/1 (B)" in markdown(it)


def test_one_name_at_two_servers_is_told_apart_by_their_urls():
    """In every sentence; what is true of both and names neither is said once."""
    it = made(names=("same", "same"))
    for model, port in zip(it["models"], (8000, 8100), strict=True):
        model["role"], model["http"]["url"] = "remote", f"http://host:{port}"
    for overlap in it["data"]["overlap"]:
        overlap |= {"known": False, "examples": None}
    text = markdown(Report.model_validate(it))
    assert "same/1 at http://host:8000 is 23.3× as fast as same/1 at http://host:8100" in text
    assert "Whether same/1 saw these examples" in text
    assert "POST /compare" not in text


def test_the_frontier_is_of_models_that_none_beats_in_both():
    """Equal accuracy at a longer latency is beaten."""
    points = [
        Point(place, accuracy, (0, 1), ms, (ms, ms))
        for place, (accuracy, ms) in enumerate([(0.9, 1), (0.95, 5), (0.93, 7), (0.95, 9), (0.99, 20), (0.8, 0.5)])
    ]
    assert [point.place for point in frontier(points)] == [5, 0, 1, 4]


def test_numbers_are_written_as_people_read_them():
    """Three figures, no exponents, decimal units, a power of ten below a thousandth."""
    assert [figures(value) for value in (0, 0.0012345, 9.996, 12.34, 1234, 98765, -0.5)] == [
        *("0", "0.00123", "10.0", "12.3", "1,230", "98,800", "−0.500")
    ]
    assert [size(value) for value in (0, 999, 10_700, 3.4e6, 2e12)] == ["0 B", "999 B", "10.7 kB", "3.40 MB", "2.00 TB"]
    assert [probability(p) for p in (1.0, 0.0123, 0.0004, 1e-12, 0.0)] == [
        *("100.0 %", "1.2 %", "4 × 10⁻⁴", "1 × 10⁻¹²", "0")
    ]
    assert (p_value(0.0234), p_value(1e-9)) == ("0.023", "< 0.001")
    assert [shade(count, 8) for count in (1, 2, 4, 8)] == [1, 2, 4, 5]
    assert shade(1, 1) == 5


def test_memory_below_a_megabyte_is_told_as_that():
    """Where it is known at all."""
    it = made()
    for model, resident in zip(it["models"], (160_000, 4_080_000), strict=True):
        model["cost"]["resident_bytes"] = resident
    text = markdown(Report.model_validate(it))
    assert "< 1.00 MB |" in text
    assert "4.08 MB |" in text


def test_markup_is_escaped_unless_it_is_markup():
    """Attributes and text; control characters are replaced."""
    assert tag("p", {"title": '"<'}, "a < b", tag("b", None, "c")) == '<p title="&quot;&lt;">a &lt; b<b>c</b></p>'
    assert clean("a\n\tb\x00\u202e") == "a b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


def test_models_of_the_same_name_are_told_apart_by_their_letters_in_every_pair() -> None:
    """Three times the same: A and B, A and C, B and C."""
    three = report(models=3)
    name = {"a": "model", "a_version": None, "b": "model", "b_version": None}
    same = [model.model_copy(update={"name": "model", "version": None}) for model in three.models]
    pairs = [pair.model_copy(update=name) for pair in three.pairs]
    text = markdown(three.model_copy(update={"models": same, "pairs": pairs}))
    for letters in ("A vs B", "A vs C", "B vs C"):
        assert f"| {letters} " in text
