"""service/manifest.py: what is written can be read, and what is not to be trusted is refused with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelError
from service.manifest import GRAPH, HELD_OUT, MANIFEST, read_checked, read_manifest, write_manifest
from tests.repositories import write_model, write_pair


def rewrite(version_dir: Path, **changes: Any) -> None:
    """Changes keys of manifest.json; a value of None removes its key."""
    values = json.loads((version_dir / MANIFEST).read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None}
    (version_dir / MANIFEST).write_text(json.dumps(kept))


def test_what_is_written_is_what_is_read(tmp_path: Path):
    """Of a student, with its teacher and its weights."""
    ensemble, student = write_pair(tmp_path)
    manifest = read_manifest(student)
    assert manifest.teacher.sha256 == read_manifest(ensemble).files[GRAPH].sha256
    write_manifest(student, manifest)
    assert read_manifest(student) == manifest
    assert (student / MANIFEST).read_bytes().endswith(b"}\n")


def test_a_manifest_does_not_change(tmp_path: Path):
    """It is frozen, and says the size of its input."""
    manifest = read_manifest(write_model(tmp_path, shape=(4, 6)))
    assert manifest.input.size == 24
    with pytest.raises(ValueError, match="frozen"):
        manifest.version = 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mood": "good"}, "mood: Extra inputs are not permitted"),
        ({"parameters": None}, "parameters: Field required"),
        ({"parameters": "650"}, "parameters: Input should be a valid integer"),
        ({"format": "stillroom.model/9"}, "format: Input should be 'stillroom.model/1'"),
        ({"role": "boss"}, "role: Input should be 'ensemble', 'student', 'baseline', 'specialists' or 'member'"),
        ({"classes": ["a"]}, "classes: Tuple should have at least 2 items after validation, not 1"),
        ({"classes": ["a", "a"]}, "top level: Value error, two classes have the same name"),
        ({"input": {"shape": []}}, "input: Value error, the shape of an example has at least one dimension"),
        ({"input": {"shape": [0, 8]}}, "input.shape.0: Input should be greater than or equal to 1"),
        (
            {"input": {"shape": [64], "image": {"range": [0, 16]}}},
            "input: Value error, an image is [height, width], got shape [64]",
        ),
        ({"files": {}}, "top level: Value error, files does not list model.onnx"),
        (
            {"files": {GRAPH: {"bytes": 1, "sha256": "0" * 64}, "../x": {"bytes": 1, "sha256": "0" * 64}}},
            "files lists '../x', which is not the plain name of a file beside the manifest",
        ),
        ({"created": "2026-01-01T00:00:00"}, "created: Input should have timezone info"),
        ({"name": "other"}, "manifest.json speaks of other/1, expected digits-student/1"),
        ({"version": 3}, "manifest.json speaks of digits-student/3, expected digits-student/1"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_place_and_reason(changes: dict[str, Any], reason: str, tmp_path: Path):
    """A reader never ignores what it does not understand."""
    version = write_model(tmp_path)
    rewrite(version, **changes)
    with pytest.raises(ModelError) as caught:
        read_manifest(version)
    assert str(caught.value).startswith("digits-student/1: ")
    assert reason in str(caught.value)


COMBINATION = {
    "generalists": 1,
    "groups": [["3", "8"], ["4", "9"]],
    "top_classes": 1,
    "method": "plain",
    "steps": 1,
    "largest_error": 1e-9,
}


def test_specialists_say_how_they_are_combined(tmp_path: Path):
    """And a manifest without it is written without the key, as one of before it."""
    version = write_model(tmp_path, "digits-specialists", role="specialists")
    assert "combination" not in json.loads((version / MANIFEST).read_text())
    rewrite(version, combination=COMBINATION)
    manifest = read_manifest(version)
    assert manifest.combination is not None
    assert manifest.combination.groups == (("3", "8"), ("4", "9"))
    write_manifest(version, manifest)
    assert json.loads((version / MANIFEST).read_text())["combination"] == COMBINATION


@pytest.mark.parametrize(
    ("role", "changes", "reason"),
    [
        ("student", {}, "combination is for specialists, got the role 'student'"),
        ("specialists", {"groups": [["3", "x"]]}, "combination.groups holds 'x', which is no class"),
        ("specialists", {"groups": []}, "combination.groups: Tuple should have at least 1 item"),
        ("specialists", {"method": "magic"}, "combination.method: Input should be 'plain' or 'newton'"),
        ("specialists", {"steps": 0}, "combination.steps: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_combination_is_refused(role: Any, changes: dict[str, Any], reason: str, tmp_path: Path):
    """With the reason."""
    version = write_model(tmp_path, "digits-specialists", role=role)
    rewrite(version, combination=COMBINATION | changes)
    with pytest.raises(ModelError) as caught:
        read_manifest(version)
    assert reason in str(caught.value)


def test_a_missing_or_truncated_manifest_is_refused(tmp_path: Path):
    """By name, without a path of the machine."""
    version = write_model(tmp_path)
    (version / MANIFEST).write_bytes((version / MANIFEST).read_bytes()[:100])
    with pytest.raises(ModelError, match=r"^digits-student/1: manifest\.json is not valid: top level: Invalid JSON"):
        read_manifest(version)
    (version / MANIFEST).unlink()
    with pytest.raises(ModelError, match=r"^digits-student/1: cannot read manifest\.json: No such file or directory$"):
        read_manifest(version)


def test_a_file_is_read_when_it_matches(tmp_path: Path):
    """Its bytes come back as they are."""
    version = write_model(tmp_path)
    assert read_checked(version, read_manifest(version), GRAPH) == (version / GRAPH).read_bytes()


def test_a_file_that_differs_is_refused_by_name_and_size(tmp_path: Path):
    """One changed byte is enough."""
    version = write_model(tmp_path)
    raw = (version / GRAPH).read_bytes()
    (version / GRAPH).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"digits-student/1: model\.onnx does not match its manifest: SHA-256 \w+…"):
        read_checked(version, read_manifest(version), GRAPH)


def test_a_file_that_is_unlisted_missing_or_a_link_is_refused(tmp_path: Path):
    """Each with its reason."""
    version = write_model(tmp_path)
    manifest = read_manifest(version)
    with pytest.raises(ModelError, match=r"lists no labels\.txt; it lists held-out\.npz, model\.onnx, train-hashes"):
        read_checked(version, manifest, "labels.txt")
    (version / HELD_OUT).rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"digits-student/1: cannot read held-out\.npz: No such file"):
        read_checked(version, manifest, HELD_OUT)
    (version / HELD_OUT).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"held-out\.npz is a symbolic link, expected a file"):
        read_checked(version, manifest, HELD_OUT)


@pytest.mark.parametrize("name", [HELD_OUT, "manifest.json"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path):
    """Reading one would hang whoever looks for new versions."""
    version = write_model(tmp_path)
    manifest = read_manifest(version)
    (version / name).unlink()
    os.mkfifo(version / name)
    with pytest.raises(ModelError, match=rf"digits-student/1: {name} is no regular file"):
        read_checked(version, read_manifest(version) if name == "manifest.json" else manifest, name)
