"""The page at / as a person meets it: the real service on a socket, the page in headless Chromium."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.page import PHONE, SKIP, Visit, answered, serve
from tests.repositories import examples, known_probabilities, write_model, write_pair

pytestmark = SKIP

THREE = [(0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.7, 0.7), (0.5, 0.85), (0.3, 0.8)]
SEEDS = (0, 1)
"""Of the ensemble and of the student that write_pair writes."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with an ensemble and its student."""
    root = tmp_path_factory.mktemp("models")
    write_pair(root)
    with serve(root) as url:
        yield url


def draw(page: Page, points: Sequence[tuple[float, float]]) -> None:
    """One stroke with the mouse, through points in shares of the drawing area."""
    box = page.locator("#pad").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def shown_probabilities(card: Locator) -> list[float]:
    """The numbers beside the bars of one model: percent, or a power of ten."""
    return [read_probability(text) for text in card.locator(".value").all_inner_texts()]


def read_probability(text: str) -> float:
    if text.endswith("%"):
        return float(text[:-1]) / 100
    digit, exponent = text.replace(" ", "").split("×10⁻")
    return float(digit) / 10 ** int(exponent.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")))


def cards(page: Page) -> list[Locator]:
    return [page.locator("#cards .first"), page.locator("#cards .second")]


def assert_shown(page: Page, index: int, temperature: float) -> None:
    """Both models show what numpy works out for that held-out example, to the figures shown."""
    for card, seed in zip(cards(page), SEEDS, strict=True):
        expected = known_probabilities(examples()[0][index : index + 1], seed=seed, temperature=temperature)[0]
        for shown, known in zip(shown_probabilities(card), expected, strict=True):
            assert shown == (pytest.approx(known, abs=0.0006) if known >= 0.001 else pytest.approx(known, rel=0.5))


def pick(page: Page, index: int) -> None:
    """Picks the held-out example of that index, which the first sample must hold."""
    page.get_by_role("button", name=re.compile(rf"^example {index}, true class")).click()
    expect(page.locator("#examples [aria-pressed=true]")).to_have_count(1)


def first_indices(page: Page) -> list[int]:
    names = page.locator("#examples button").evaluate_all("buttons => buttons.map(b => b.getAttribute('aria-label'))")
    return [int(name.split()[1].rstrip(",")) for name in names]


def test_the_page_loads_from_this_host_alone_in_under_200_kb_and_without_an_error(browser: Browser, address: str):
    """Nothing in the console, no content policy broken, no other host asked, and it is quick on a slow line."""
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(address)
    answered(page)
    draw(page, THREE)
    page.locator("#logarithmic").check()
    sizes = "['navigation', 'resource'].flatMap(t => performance.getEntriesByType(t)).map(e => e.transferSize)"
    transferred = sum(page.evaluate(sizes))
    context.close()
    assert problems == []
    assert [url for url in urls if not url.startswith(address)] == []
    assert 10_000 < transferred < 200_000


def test_a_drawn_digit_gets_bars_from_both_models(visit: Visit, address: str):
    """Ten numbers each, adding up to one, and a sentence that says whether the two agree."""
    page = answered(visit(address))
    draw(page, THREE)
    expect(page.locator("#verdict")).to_have_text(re.compile(r"^They (agree: \d|differ: .* says \d, .* says \d)\.$"))
    for card in cards(page):
        assert sum(shown_probabilities(card)) == pytest.approx(1, abs=0.01)
        expect(card.locator(".mark")).to_have_text("")
        expect(card.locator(".times")).to_have_text(re.compile(r"^[\d.,]+ [µm]s computing, [\d.,]+ [µm]s in all$"))


def test_what_a_drawing_becomes_is_what_the_models_are_asked(visit: Visit, address: str):
    """The last request holds cells of ink from 0 to 16 that reach from the top row to the bottom row."""
    page = answered(visit(address))
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.post_data_json))
    draw(page, THREE)
    expect(page.locator("#verdict")).to_have_text(re.compile(r"^They .*\d\.$"))
    picture = np.array(asked[-1]["inputs"][0])
    assert picture.shape == (8, 8)
    assert (picture.min(), picture.max()) == (0, 16)
    assert picture[0].any()
    assert picture[-1].any()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#verdict")).to_have_text("Draw, or pick a held-out example.")


def test_a_held_out_example_is_picked_with_the_keyboard(visit: Visit, address: str):
    """Tab reaches it with a visible focus, Enter asks, and each model is marked right or wrong."""
    page = answered(visit(address))
    index = first_indices(page)[1]
    page.locator("#clear").focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    label = str(examples()[1][index])
    expect(page.locator("#verdict")).to_have_text(re.compile(rf"The true class is {label}\.$"))
    expect(page.locator("#examples button").nth(1)).to_have_attribute("aria-pressed", "true")
    for card, seed in zip(cards(page), SEEDS, strict=True):
        said = known_probabilities(examples()[0][index : index + 1], seed=seed).argmax()
        expect(card.locator(".mark")).to_have_text("right" if str(said) == label else "wrong")
    assert_shown(page, index, 1)


def test_the_slider_shows_every_temperature_without_asking_again(visit: Visit, address: str):
    """From one answer at T = 1 the page works out softmax(logits / T), and a high T comes near to uniform."""
    page = answered(visit(address))
    index = first_indices(page)[3]
    pick(page, index)
    expect(page.locator("#verdict")).to_have_text(re.compile(rf"true class is {examples()[1][index]}"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="T = 4, as distilled").click()
    assert_shown(page, index, 4)
    page.get_by_role("slider").press("Home")
    assert_shown(page, index, 0.5)
    page.get_by_role("slider").press("End")
    assert_shown(page, index, 50)
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", "temperature 50")
    assert all(0.08 < p < 0.13 for card in cards(page) for p in shown_probabilities(card))
    assert asked == []


def test_a_logarithmic_bar_shows_what_a_linear_one_hides(visit: Visit, address: str):
    """At T = 1 a class below a thousandth has no bar to see, until the scale is logarithmic."""
    page = answered(visit(address))
    page.get_by_role("slider").press("Home")
    lengths = "bars => bars.map(b => Number(b.style.getPropertyValue('--length')))"
    bars = page.locator("#cards .first .bar")
    linear = bars.evaluate_all(lengths)
    page.get_by_label("Log scale").check()
    logarithmic = bars.evaluate_all(lengths)
    assert all(0 <= line <= log <= 1 for line, log in zip(linear, logarithmic, strict=True))
    assert min(linear) < 0.01 < 0.2 < logarithmic[int(np.argmin(linear))] + 0.2


def test_the_examples_on_which_the_two_differ_can_be_searched(visit: Visit, address: str):
    """All of them are found, and the first one is shown at once."""
    inputs = examples()[0]
    ensemble, student = (known_probabilities(inputs, seed=seed).argmax(axis=1) for seed in SEEDS)
    different = set(np.flatnonzero(ensemble != student).tolist())
    page = answered(visit(address))
    page.get_by_label("Only where the two differ").check()
    expect(page.locator("#examples-note")).to_have_text(f"They differ on {len(different)} of these 40 examples.")
    assert set(first_indices(page)) == different
    expect(page.locator("#verdict")).to_have_text(re.compile("^They differ: digits-ensemble says "))


def test_another_sample_brings_other_examples(visit: Visit, address: str):
    """The seed moves on; what was asked stays."""
    page = answered(visit(address))
    before, verdict = first_indices(page), page.locator("#verdict").inner_text()
    with page.expect_response("**/examples*seed=1"):
        page.get_by_role("button", name="Another sample").click()
    expect(page.locator("#examples [aria-pressed=true]")).to_have_count(0)
    assert first_indices(page) != before
    expect(page.locator("#verdict")).to_have_text(verdict)


def test_the_results_table_shows_the_figures_of_the_manifests(visit: Visit, address: str):
    """Errors of how many, accuracy, sizes: as the service lists them, the ensemble first."""
    page = answered(visit(address))
    models = {model["name"]: model for model in page.request.get(f"{address}models").json()["models"]}
    rows = page.locator("#models tbody tr")
    for row, name in zip(rows.all(), ("digits-ensemble", "digits-student"), strict=True):
        metrics = models[name]["metrics"]
        expect(row).to_contain_text(name)
        expect(row).to_contain_text(f"{metrics['errors']} of {metrics['examples']}")
        expect(row).to_contain_text(f"{100 * metrics['accuracy']:.1f} %")
        low, high = (f"{100 * end:.1f}" for end in metrics["accuracy_interval"])
        expect(row).to_contain_text(f"{low} to {high}")
        expect(row).to_contain_text(f"{metrics['nll']:.3f}")
        expect(row).to_contain_text(f"{models[name]['parameters']:,}")
    expect(page.locator("#summary")).to_contain_text("digits-student has about as many parameters as digits-ensemble")


def test_a_failed_request_is_told_in_words(visit: Visit, address: str):
    """The service's own text where it gave one, else that it does not answer; the next answer clears it."""
    page = answered(visit(address))
    page.route("**/predict", lambda route: route.fulfill(status=503, json={"error": "too busy: try again in 1 s"}))
    draw(page, THREE)
    expect(page.locator("#failure")).to_have_text("too busy: try again in 1 s")
    page.route("**/predict", lambda route: route.abort())
    draw(page, THREE)
    expect(page.locator("#failure")).to_have_text("The service does not answer. Is it still running?")
    page.unroute("**/predict")
    draw(page, THREE)
    expect(page.locator("#failure")).to_be_hidden()
    page.route("**/compare", lambda route: route.abort())
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#compare-failure")).to_have_text("The service does not answer. Is it still running?")
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_enabled()


def test_an_answer_that_was_overtaken_is_not_shown(visit: Visit, address: str):
    """While one answer is on its way another example is picked: only the second one's answer appears."""
    page = answered(visit(address))
    labels = examples()[1]
    shown, first, *others = first_indices(page)
    second = next(index for index in others if labels[index] not in labels[[shown, first]])
    held: list[Route] = []
    page.route("**/predict", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/predict"):
        pick(page, first)
    pick(page, second)
    held[0].continue_()
    expect(page.locator("#cards .second .true th")).to_contain_text(str(labels[second]))
    assert_shown(page, second, 1)


def test_without_held_out_examples_one_can_still_draw(visit: Visit, tmp_path: Path):
    """The page says that there are none to pick from, in the service's words."""
    version = write_model(tmp_path)
    manifest = json.loads((version / "manifest.json").read_text())
    del manifest["files"]["held-out.npz"]
    (version / "manifest.json").write_text(json.dumps(manifest))
    with serve(tmp_path) as url:
        page = visit(url)
        expect(page.locator("#examples-note")).to_have_text(
            "There are none to pick from: digits-student/1 has no held-out examples"
        )
        draw(page, THREE)
        expect(page.locator("#verdict")).to_have_text(re.compile(r"^It says \d\.$"))
        page.close()


def test_an_empty_repository_says_what_is_missing_and_fills_by_itself(visit: Visit, tmp_path: Path):
    """First nothing, then one model alone, then the pair, without a reload."""
    with serve(tmp_path) as url:
        page = visit(url)
        expect(page.locator("#notice")).to_contain_text("No models yet: the trainer has not published any")
        expect(page.locator("#try")).to_be_hidden()
        ensemble = write_model(tmp_path, "digits-ensemble", role="ensemble")
        expect(page.locator("#cards .alone")).to_contain_text("There is one model to show.")
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.get_by_role("button", name="Compare", exact=True)).to_be_disabled()
        write_model(tmp_path, seed=1, teacher=ensemble)
        answered(page)
        expect(page.locator("#cards .second select")).to_have_value("digits-student")
        expect(page.get_by_role("button", name="Compare", exact=True)).to_be_enabled()
        page.close()


def test_inputs_that_are_no_pictures_are_picked_from_a_list(visit: Visit, tmp_path: Path):
    """There is nothing to draw on; a refused model is named with its reason; another pair can be chosen."""
    flowers = ("setosa", "versicolor", "virginica")
    ensemble = write_model(tmp_path, "iris-ensemble", role="ensemble", classes=flowers, shape=(4,))
    write_model(tmp_path, "iris-student", 2, classes=flowers, shape=(4,), seed=1, teacher=ensemble)
    write_pair(tmp_path)
    (write_model(tmp_path, "broken") / "model.onnx").write_bytes(b"no graph")
    with serve(tmp_path) as url:
        page = answered(visit(url))
        expect(page.locator("#cards .second select")).to_have_value("iris-student")
        expect(page.locator("#drawing")).to_be_hidden()
        page.get_by_role("button", name=re.compile(r"^example \d+, true class versicolor")).first.click()
        expect(page.locator("#verdict")).to_have_text(re.compile(r"The true class is versicolor\.$"))
        expect(page.locator("#refused")).to_contain_text("broken/1: model.onnx does not match its manifest")
        page.get_by_label("the second model").select_option("digits-student")
        expect(page.locator("#cards .first select")).to_have_value("digits-ensemble")
        expect(page.locator("#drawing")).to_be_visible()
        expect(page.locator("#cards .first .value")).to_have_count(10)
        page.close()


def test_a_phone_needs_no_horizontal_scrolling(visit: Visit, address: str):
    """At 360 pixels nothing sticks out: tables scroll in their own frame, which the keyboard reaches."""
    page = answered(visit(address, **PHONE))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    frame = page.locator("#results .scroll")
    assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth && frame.tabIndex === 0")
    first, second = (card.bounding_box() for card in cards(page))
    assert first
    assert second
    assert second["y"] >= first["y"] + first["height"]
    page.locator("#pad").tap()
    expect(page.locator("#verdict")).to_have_text(re.compile(r"^They (agree: \d|differ: .* says \d)\.$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(visit: Visit, address: str, scheme: str):
    """The ground follows the system's scheme, and every colour of text has a contrast of 4.5 to 1 on it (WCAG AA)."""
    page = visit(address, color_scheme=scheme)
    read = "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(`--${n}`).trim())"
    ground, card, *inks = page.evaluate(read, ["ground", "card", "ink", "muted", "first", "second", "right", "wrong"])
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb{tuple(channels(ground))}"
    for paper in (ground, card):
        for ink in inks:
            dark, light = sorted((luminance(paper), luminance(ink)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {paper}"


def channels(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(channels(colour)) / 255]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def render(page: Page, strokes: Any, **frame: Any) -> Any:
    """The picture [H, W] that ink.js makes of strokes."""
    script = "async ([strokes, frame]) => (await import('/page/ink.js')).render(strokes, frame)"
    return np.array(page.evaluate(script, [strokes, frame]))


def test_a_drawing_is_fitted_as_the_data_were(visit: Visit, address: str):
    """Where and how large one draws makes no difference; a margin is left free, and the mass is in the middle."""
    page = visit(address)
    frame = {"shape": [28, 28], "margin": 4 / 28, "paper": 0, "ink": 255}
    angle = np.linspace(0.5, 5.5, 40)
    letter = np.stack([np.cos(angle), 1.4 * np.sin(angle)], axis=1)
    large = render(page, [(14 + 8 * letter).tolist()], **frame)
    small = render(page, [(9 + 3 * letter).tolist()], **frame)
    assert large.shape == (28, 28)
    assert np.abs(large - small).max() <= 255 / 16  # one of the 16 points in a cell, at a rounding edge
    rows = np.flatnonzero(large.any(axis=1))
    assert rows[0] >= 3
    assert rows[-1] <= 24
    assert np.ptp(rows) == pytest.approx(20, abs=1)
    centre = (np.indices(large.shape) * large).sum(axis=(1, 2)) / large.sum() + 0.5
    assert centre == pytest.approx([14, 14], abs=0.5)


def test_ink_is_the_area_that_a_round_pen_covers(visit: Visit, address: str):
    """A straight line of length l and width w covers l w + pi w²/4, whatever the grid; a dot stays a dot."""
    page = visit(address)
    for side, width in ((8, 1.4), (28, 2.5)):
        frame = {"shape": [side, side], "margin": 0, "paper": 0, "ink": 16}
        line = render(page, [[[side / 2, 0], [side / 2, side]]], **frame)
        assert line.sum() / 16 == pytest.approx((side - width) * width + math.pi * width**2 / 4, rel=0.1)
        dot = render(page, [[[1, 1]]], **frame)
        assert dot.sum() / 16 == pytest.approx(math.pi * width**2 / 4, rel=0.2)
        assert dot[side // 2, side // 2] > 0


def test_dark_ink_on_light_paper_is_drawn_as_such(visit: Visit, address: str):
    """Data whose greater part is bright are dark on light: a drawing is reversed for them."""
    page = visit(address)
    script = "async inputs => (await import('/page/picture.js')).paperAndInk(inputs, [0, 16])"
    assert page.evaluate(script, [[[16, 16, 0], [16, 15, 16]]]) == {"paper": 16, "ink": 0}
    assert page.evaluate(script, [[[0, 0, 16], [0, 3, 0]]]) == {"paper": 0, "ink": 16}
    reversed_ = render(page, [[[4, 0], [4, 8]]], shape=[8, 8], margin=0, paper=16, ink=0)
    assert reversed_[0, 0] == 16
    assert reversed_[4, 4] < 8
