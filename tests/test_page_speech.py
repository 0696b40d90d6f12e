"""The page with models that hear: a file, the microphone, held-out recordings; in headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from service.inputs.audio import read_samples
from tests.listeners import WORDS, write_listener
from tests.page import PHONE, SKIP, Visit, chromium, serve
from tests.recordings import encoded, tone, tune
from tests.repositories import write_model

pytestmark = SKIP


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears, again and again."""
    path = tmp_path_factory.mktemp("sound") / "said.wav"
    path.write_bytes(encoded(tune(2, seed=99)))
    return path


@pytest.fixture(scope="module")
def browser(said: Path) -> Iterator[Browser]:
    """With a microphone that nobody is asked about."""
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(*fake, f"--use-file-for-fake-audio-capture={said}") as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("models")
    ensemble = write_listener(root, "tunes-ensemble", role="ensemble")
    write_listener(root, teacher=ensemble, noise=3.0)
    with serve(root) as url:
        yield url


def choose(page: Page, name: str, raw: bytes) -> None:
    page.locator("#sound").set_input_files({"name": name, "mimeType": "audio/wav", "buffer": raw})


def test_a_file_is_heard_by_both_models(visit: Visit, address: str):
    page = visit(address)
    expect(page.locator("#drawing")).to_be_hidden()
    choose(page, "word.wav", encoded(tune(1, seed=99)))
    expect(page.locator("#verdict")).to_have_text("They agree: re.")
    expect(page.locator("#speaking-note")).to_have_text("Heard: word.wav.")
    expect(page.locator("#cards .second .says strong")).to_have_text("re")
    choose(page, "other.flac", encoded(tune(3, seed=99), kind="FLAC"))
    expect(page.locator("#verdict")).to_have_text("They agree: fa.")


def test_a_file_that_is_no_sound_is_told(visit: Visit, address: str):
    page = visit(address)
    choose(page, "word.wav", b"hello")
    expect(page.locator("#failure")).to_have_text(re.compile(r"^audio: got 5 bytes that are no recording"))
    choose(page, "word.mp3", b"hello")
    expect(page.locator("#speaking-note")).to_have_text("This browser cannot play word.mp3: choose a WAV or FLAC file.")
    choose(page, "long.wav", encoded(tone(440, 2.0)))
    expect(page.locator("#failure")).to_have_text("audio: the recording lasts 2.0 s, expected at most 1 s")


def test_another_kind_of_file_is_decoded_by_the_browser(visit: Visit, address: str):
    page = visit(address)
    choose(page, "word.ogg", encoded(tune(1, seed=99), kind="OGG"))
    expect(page.locator("#verdict")).to_have_text("They agree: re.")


def test_the_microphone_is_heard(visit: Visit, address: str):
    """It stops by itself after as long as the models take, or at a press."""
    page = visit(address, permissions=["microphone"])
    button = page.get_by_role("button", name="Say a word")
    button.click()
    expect(page.locator("#speaking-note")).to_have_text("Listening…")
    expect(page.get_by_role("button", name="Stop")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#speaking-note")).to_have_text("Heard: what you said.")
    expect(page.locator("#verdict")).to_have_text(re.compile(rf"^They (agree|differ): .*({'|'.join(WORDS)})"))
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#failure")).to_be_hidden()


def test_held_out_recordings_are_pictures_of_their_sound(visit: Visit, address: str):
    """Only as wide as they are long, and one press away."""
    page = visit(address)
    expect(page.locator("#examples canvas")).to_have_count(12)
    widths = page.locator("#examples canvas").evaluate_all("all => all.map(canvas => canvas.width)")
    heights = page.locator("#examples canvas").evaluate_all("all => all.map(canvas => canvas.height)")
    assert set(heights) == {20}
    assert all(40 < width < 80 for width in widths)
    first = page.locator("#examples button").first
    first.focus()
    page.keyboard.press("Enter")
    word = re.search(r"true class (\w+)", first.get_attribute("aria-label") or "")
    assert word
    expect(page.locator("#verdict")).to_have_text(re.compile(rf"The true class is {word[1]}\.$"))


def test_the_wav_that_the_page_writes_is_one(visit: Visit, address: str):
    """Read back by another library, to the last of 16 bits; what is too loud is clipped."""
    page = visit(address)
    script = """async () => {
      const { wav } = await import("/page/sound.js");
      return [...new Uint8Array(await wav(Float32Array.of(0, 0.5, -0.25, 1, -1, 2), 44100).arrayBuffer())];
    }"""
    samples = read_samples(bytes(page.evaluate(script)), 44_100, 1)
    assert samples == pytest.approx(np.array([0, 0.5, -0.25, 1, -1, 1]), abs=1e-4)


def test_it_fits_a_phone(visit: Visit, address: str):
    page = visit(address, **PHONE)
    expect(page.locator("#record")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_other_models_may_be_chosen_while_it_listens(visit: Visit, tmp_path: Path):
    """The recording goes, and the microphone can be used again."""
    ensemble = write_listener(tmp_path, "tunes-ensemble", role="ensemble")
    write_listener(tmp_path, teacher=ensemble, created=datetime(2027, 1, 1, tzinfo=UTC))
    write_model(tmp_path, "digits-student")
    with serve(tmp_path) as url:
        page = visit(url, permissions=["microphone"])
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.get_by_role("button", name="Say a word").click()
        expect(page.locator("#speaking-note")).to_have_text("Listening…")
        page.locator("#cards .second select").select_option("digits-student")
        expect(page.locator("#drawing")).to_be_visible()
        expect(page.locator("#speaking")).to_be_hidden()
        page.locator("#cards .second select").select_option("tunes-student")
        expect(page.get_by_role("button", name="Say a word")).to_have_attribute("aria-pressed", "false")
        page.get_by_role("button", name="Say a word").click()
        expect(page.locator("#speaking-note")).to_have_text("Heard: what you said.")
        assert problems == []
