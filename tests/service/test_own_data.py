"""The user's own examples: .npz, CSV, folders of images; and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.comparison.own_data import draw, fitted, read_examples
from service.errors import InputError
from service.inputs.filterbanks import filterbanks
from service.manifest import ImageSpec
from tests.listeners import AUDIO, FILTERS, FRAMES, WORDS
from tests.recordings import encoded as recorded
from tests.recordings import tune

ROWS = np.arange(12, dtype=np.float64).reshape(3, 4)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def text(folder: Path, content: str) -> Path:
    (folder / "x.csv").write_text(content)
    return folder / "x.csv"


def test_an_npz_gives_inputs_in_the_models_shape_and_labels_by_the_names_of_the_classes(tmp_path: Path) -> None:
    path = npz(tmp_path, inputs=ROWS, labels=[2, 0, 1], classes=["a", "b", "c"])
    found = read_examples(path, (2, 2))
    np.testing.assert_array_equal(found.inputs, ROWS.reshape(3, 2, 2))
    assert found.inputs.dtype == np.float32
    assert (found.labels, found.classes) == (["c", "a", "b"], ["a", "b", "c"])


def test_without_classes_whole_numbers_stay_indices_and_text_stays_text(tmp_path: Path) -> None:
    assert read_examples(npz(tmp_path, inputs=ROWS, labels=[2, 0, 1]), None).labels == [2, 0, 1]
    assert read_examples(npz(tmp_path, inputs=ROWS, labels=["x", "y", "x"]), None).labels == ["x", "y", "x"]
    assert read_examples(npz(tmp_path, inputs=ROWS), (4,)).labels is None


def test_a_csv_has_its_label_in_a_column_and_numbers_in_the_others(tmp_path: Path) -> None:
    path = text(tmp_path, "u,kind,v\n1,cat,2.5\n3,dog,-1e3\n")
    found = read_examples(path, (2,), label="kind")
    np.testing.assert_array_equal(found.inputs, np.array([[1, 2.5], [3, -1000]], dtype=np.float32))
    assert found.labels == ["cat", "dog"]
    assert read_examples(text(tmp_path, "u,v\n1,2\n"), None).labels is None


def test_examples_are_drawn_with_their_labels_and_numbers_in_a_csv_may_be_indices(tmp_path: Path) -> None:
    found = read_examples(text(tmp_path, "\ufefflabel,v\n1,10\n0,20\n2,30\n"), None)
    drawn = draw(fitted(found, ["a", "b", "c"]), 2, seed=5)
    expected = np.random.default_rng(5).choice(3, size=2, replace=False)
    assert drawn.labels == [[1, 0, 2][index] for index in expected]
    np.testing.assert_array_equal(drawn.inputs[:, 0], np.array([10, 20, 30])[expected])
    assert fitted(found, ["0", "1", "2"]).labels == ["1", "0", "2"]
    assert draw(found, 3, seed=5) is found


def test_a_folder_has_images_or_a_folder_of_them_for_each_class(tmp_path: Path) -> None:
    for name, grey in (("no", 0), ("yes", 255)):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4), grey).save(tmp_path / name / "1.png")
        (tmp_path / name / "notes.txt").write_text("not an image")
    found = read_examples(tmp_path, (2, 3), image=ImageSpec(range=(0.0, 16.0)))
    np.testing.assert_array_equal(found.inputs, np.stack([np.zeros((2, 3)), np.full((2, 3), 16)]))
    assert found.labels == ["no", "yes"]
    assert read_examples(tmp_path / "yes", (2, 3)).labels is None


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "pickled.npz").write_bytes(b"\x80\x04")
    cases = [
        (lambda: tmp_path / "x.txt", "x.txt: expected an .npz file, a .csv file or a folder of images"),
        (lambda: tmp_path / "none.npz", "none.npz: is no .npz file of plain arrays: "),
        (lambda: tmp_path / "pickled.npz", "pickled.npz: is no .npz file of plain arrays: "),
        (lambda: npz(tmp_path, x=ROWS), "x.npz: holds x, expected inputs and optionally labels, classes"),
        (lambda: npz(tmp_path, inputs=ROWS[0]), "x.npz: inputs are float64 [4], expected numbers [N, ...]"),
        (lambda: npz(tmp_path, inputs=ROWS, labels=[1]), "x.npz: labels are int64 [1], expected [3] whole numbers or"),
        (
            lambda: npz(tmp_path, inputs=ROWS, labels=[0, 1, 9], classes=["a", "b"]),
            "x.npz: labels go from 0 to 9, expected 0 to 1",
        ),
        (lambda: npz(tmp_path, inputs=ROWS[:, :3]), "x.npz: examples have shape [3], the models take [2, 2]"),
        (lambda: npz(tmp_path, inputs=ROWS[:0]), "x.npz: holds no examples"),
        (lambda: npz(tmp_path, inputs=ROWS[:0], labels=np.zeros(0, int), classes=["a"]), "x.npz: holds no examples"),
        (lambda: npz(tmp_path, inputs=ROWS, classes=["a", "a"]), "x.npz: two classes have the same name, expected K"),
        (lambda: npz(tmp_path, inputs=ROWS, classes=[0.5, 1.5]), "x.npz: classes are float64 [2], expected [K] names"),
        (lambda: npz(tmp_path, inputs=ROWS * np.nan), "x.npz: holds NaN, infinity or numbers beyond float32"),
        (lambda: npz(tmp_path, inputs=ROWS * 1e300), "x.npz: holds NaN, infinity or numbers beyond float32"),
        (lambda: text(tmp_path, "a,b\n1\n"), "x.csv: row 1 has 1 values, the header has 2"),
        (lambda: text(tmp_path, "a,b\n1,?\n"), "x.csv: row 1 holds '?', expected numbers in every column but the"),
        (lambda: text(tmp_path, ""), "x.csv: holds no examples"),
        (lambda: tmp_path / "none.csv", "none.csv: cannot be read as CSV: "),
        (lambda: tmp_path / "empty", "empty: holds no PNG or JPEG images, nor folders of them"),
        (lambda: tmp_path / "broken", "a.png: "),
    ]
    for make, message in cases:
        with pytest.raises(InputError) as refused:
            read_examples(make(), (2, 2))
        assert message in str(refused.value)
    with pytest.raises(InputError, match=r"is a folder of images, but the models take \(4,\), expected \[height, w"):
        read_examples(tmp_path / "broken", (4,))


def test_a_folder_of_recordings_is_labelled_by_its_folders(tmp_path: Path):
    """WAV and FLAC of any rate, as the service reads them; others are left out, and one that is none is named."""
    for word, name, kind in ((0, "a.wav", "WAV"), (0, "b.FLAC", "FLAC"), (1, "a.wav", "WAV")):
        (tmp_path / WORDS[word]).mkdir(exist_ok=True)
        (tmp_path / WORDS[word] / name).write_bytes(recorded(tune(word, seed=5), kind=kind))
    (tmp_path / "do" / "notes.txt").write_text("hello")
    found = read_examples(tmp_path, (FRAMES, FILTERS), audio=AUDIO)
    assert found.labels == ["do", "do", "re"]
    frames = filterbanks(tune(1, seed=5), AUDIO.rate, FILTERS)
    assert np.allclose(found.inputs[2, : len(frames)], frames, atol=0.05)
    with pytest.raises(InputError, match=r"holds no PNG or JPEG images, nor folders of them$"):
        read_examples(tmp_path, (FRAMES, FILTERS))
    (tmp_path / "re" / "broken.wav").write_bytes(b"x")
    with pytest.raises(InputError, match=r"broken\.wav: audio: got 1 bytes that are no recording"):
        read_examples(tmp_path, (FRAMES, FILTERS), audio=AUDIO)
