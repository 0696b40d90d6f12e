"""Examples of one's own on the page: a CSV file that is read, refused in words, compared on; in headless Chromium."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import FilePayload, Request, expect

from tests.page import QUICK_MS, SKIP, Visit, answered, quickly, refused, report_of, serve
from tests.repositories import examples, known_logits, write_pair

pytestmark = SKIP


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with an ensemble and its student."""
    root = tmp_path_factory.mktemp("models")
    write_pair(root)
    with serve(root) as url:
        yield url


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
    expect(page.locator("#comparison")).to_be_visible(timeout=QUICK_MS)
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
    asked = refused(page, 413, "too much")
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
