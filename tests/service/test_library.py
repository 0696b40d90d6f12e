"""service/library.py: what stands in the folder is what can be had; what is broken is refused and disturbs nobody."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from service.errors import BusyError, NotFoundError
from service.library import Library
from service.manifest import GRAPH, MANIFEST
from tests.repositories import examples, known_logits, write_model, write_pair


def library(root: Path, **options: object) -> Library:
    return Library(root, device="cpu", **options)


def scanned(root: Path) -> Library:
    found = library(root)
    found.scan()
    return found


def names(found: Library) -> list[str]:
    return [f"{model.manifest.name}/{model.manifest.version}" for model in found.newest()]


def spoil(version: Path) -> bytes:
    """Damages a graph, and gives what it was."""
    raw = (version / GRAPH).read_bytes()
    (version / GRAPH).write_bytes(raw[:-3])
    return raw


def test_every_model_is_found_in_its_newest_version(tmp_path: Path):
    """By name; every version can be had."""
    write_pair(tmp_path)
    write_model(tmp_path, "digits-student", 2)
    found = scanned(tmp_path)
    assert names(found) == ["digits-ensemble/1", "digits-student/2"]
    assert found.versions("digits-student") == [1, 2]
    assert found.get("digits-student", 1).manifest.version == 1
    assert found.get("digits-student").manifest.version == 2


def test_newest_is_by_creation_and_not_by_number(tmp_path: Path):
    """Version 1 may have been made after version 2."""
    write_model(tmp_path, version=1, created=datetime(2026, 6, 1, tzinfo=UTC))
    write_model(tmp_path, version=2, created=datetime(2026, 5, 1, tzinfo=UTC))
    assert scanned(tmp_path).get("digits-student").manifest.version == 1


def test_the_default_is_the_newest_student_else_the_newest_model(tmp_path: Path):
    """Whatever the names are."""
    write_model(tmp_path, "old", role="ensemble", created=datetime(2026, 1, 1, tzinfo=UTC))
    write_model(tmp_path, "new", role="baseline", created=datetime(2026, 9, 1, tzinfo=UTC))
    found = scanned(tmp_path)
    assert found.get().manifest.name == "new"
    write_model(tmp_path, "small", role="student", created=datetime(2026, 2, 1, tzinfo=UTC))
    write_model(tmp_path, "smaller", role="student", created=datetime(2026, 3, 1, tzinfo=UTC))
    found.scan()
    assert found.get().manifest.name == "smaller"


def test_what_does_not_exist_is_answered_with_what_does(tmp_path: Path):
    """Names, and versions of a name."""
    write_pair(tmp_path)
    found = scanned(tmp_path)
    with pytest.raises(NotFoundError, match=r"^unknown model 'nope'; available: digits-ensemble, digits-student$"):
        found.get("nope")
    with pytest.raises(NotFoundError, match=r"^unknown version 9 of digits-student; available: 1$"):
        found.get("digits-student", 9)
    with pytest.raises(NotFoundError, match=r"^unknown version 9 of digits-student; available: 1$"):
        found.get(version=9)


def test_without_models_it_says_what_it_waits_for(tmp_path: Path):
    """Loading, an empty or missing folder, nothing but broken models."""
    found = library(tmp_path / "missing")
    with pytest.raises(BusyError, match=r"^the models are still loading$"):
        found.get()
    found.scan()
    with pytest.raises(BusyError, match=r"^there is no model yet: waiting for the trainer to publish one$"):
        found.get()
    spoil(write_model(tmp_path / "missing"))
    found.scan()
    with pytest.raises(BusyError, match=r"^no model can be served: digits-student/1: model\.onnx does not match"):
        found.get()


def test_what_is_no_version_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Dot-folders, documents, Triton's files, folders that are no number."""
    version = write_model(tmp_path)
    (tmp_path / "README.md").write_text("the format")
    for folder in (".models.staging/x/1", "digits-student/.2", "digits-student/0", "digits-student/01", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    (version.parent / "3").write_text("a file")
    found = scanned(tmp_path)
    assert (names(found), found.refused) == (["digits-student/1"], [])
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_broken_model_is_refused_and_the_others_are_served(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Its reason is in the log and can be asked for; a half-written one is no different."""
    write_pair(tmp_path)
    spoil(write_model(tmp_path, "bad"))
    (write_model(tmp_path, "half", 4) / MANIFEST).unlink()
    found = scanned(tmp_path)
    assert names(found) == ["digits-ensemble/1", "digits-student/1"]
    assert [(refusal.name, refusal.version) for refusal in found.refused] == [("bad", 1), ("half", 4)]
    assert found.refused[0].reason.startswith("bad/1: model.onnx does not match its manifest")
    assert found.refused[1].reason == "half/4: cannot read manifest.json: No such file or directory"
    assert f"refused bad/1: {found.refused[0].reason}" in caplog.messages


def test_a_model_that_cannot_be_listed_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """As where its folder belongs to somebody else; the log says it once."""
    write_pair(tmp_path)
    listed = Path.iterdir

    def forbidden(folder: Path) -> Iterator[Path]:
        if folder.name == "digits-ensemble":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    found = scanned(tmp_path)
    found.scan()
    assert names(found) == ["digits-student/1"]
    assert caplog.messages == ["cannot read the model digits-ensemble: Permission denied"]


def test_a_model_that_fails_in_a_way_that_nobody_foresaw_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Its reason names no path of the machine; the log has the traceback."""
    write_pair(tmp_path)
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.parent.parent.name == "digits-ensemble":
            raise MemoryError(f"no room for {path}")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    found = scanned(tmp_path)
    assert names(found) == ["digits-student/1"]
    reason = "digits-ensemble/1: cannot be loaded (MemoryError); the log has the reason"
    assert found.refused == [("digits-ensemble", 1, reason)]
    assert "no room for" in caplog.text


def test_a_broken_new_version_leaves_the_last_good_one(tmp_path: Path):
    """Which goes on being the newest."""
    write_model(tmp_path)
    found = scanned(tmp_path)
    spoil(write_model(tmp_path, version=2))
    found.scan()
    assert names(found) == ["digits-student/1"]
    assert [refusal.version for refusal in found.refused] == [2]


def test_a_refused_version_is_tried_again_when_its_files_change(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """And not before: the log says it once."""
    version = write_model(tmp_path)
    raw = spoil(version)
    found = scanned(tmp_path)
    found.scan()
    assert sum("refused digits-student/1" in message for message in caplog.messages) == 1
    (version / GRAPH).write_bytes(raw)
    found.scan()
    assert (names(found), found.refused) == (["digits-student/1"], [])


def test_a_good_version_that_is_damaged_in_place_goes_on_from_memory(tmp_path: Path):
    """It was checked when it was loaded; the damage is told."""
    version = write_model(tmp_path)
    found = scanned(tmp_path)
    before = found.get()
    spoil(version)
    found.scan()
    assert found.get() is before
    assert "does not match its manifest" in found.refused[0].reason


def test_new_versions_appear_and_deleted_ones_go(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """What has not changed is not loaded again; a request keeps the model that it got."""
    caplog.set_level(logging.INFO)
    first = write_model(tmp_path)
    found = scanned(tmp_path)
    kept = found.get()
    write_model(tmp_path, version=2, seed=2)
    found.scan()
    assert found.get("digits-student", 1) is kept
    shutil.rmtree(first)
    found.scan()
    assert found.versions("digits-student") == [2]
    inputs, _ = examples(3)
    np.testing.assert_allclose(kept.run(inputs).logits_BK, known_logits(inputs), atol=1e-5)
    assert caplog.messages == [
        "loaded digits-student/1: student, 650 parameters, CPUExecutionProvider",
        "loaded digits-student/2: student, 650 parameters, CPUExecutionProvider",
        "dropped digits-student/1: its folder is gone",
    ]


def test_a_version_that_was_replaced_is_loaded_anew(tmp_path: Path):
    """As after deleting everything and training again."""
    version = write_model(tmp_path, seed=0)
    found = scanned(tmp_path)
    shutil.rmtree(version.parent)
    write_model(tmp_path, seed=5)
    found.scan()
    assert found.get().manifest.seeds == (5,)


def test_a_repository_that_is_away_keeps_its_models(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A volume that cannot be read for a moment; the log says it once."""
    root = tmp_path / "models"
    write_model(root)
    found = scanned(root)
    root.rename(tmp_path / "away")
    root.symlink_to(root)  # a loop of links: neither there nor missing
    found.scan()
    found.scan()
    assert names(found) == ["digits-student/1"]
    assert caplog.messages == [f"cannot read the model repository {root}: Too many levels of symbolic links"]


def test_a_repository_that_vanishes_keeps_its_models(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A volume that is unmounted looks like a folder that was never there."""
    root = tmp_path / "models"
    write_model(root)
    found = scanned(root)
    root.rename(tmp_path / "away")
    found.scan()
    assert names(found) == ["digits-student/1"]
    assert caplog.messages == [f"cannot read the model repository {root}: No such file or directory"]


@pytest.mark.parametrize("linked", ["digits-student", "digits-student/1"])
def test_a_link_that_leaves_the_repository_is_refused(linked: str, tmp_path: Path):
    """Of a model or of a version; one that stays inside is a folder like any other."""
    root, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    write_model(elsewhere)
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(elsewhere / linked)
    found = scanned(root)
    assert names(found) == []
    assert [refusal.reason for refusal in found.refused] == [
        "digits-student/1: it is a link that leaves the repository"
    ]
    inside = tmp_path / "inside"
    write_model(inside / ".store")
    (inside / linked).parent.mkdir(parents=True, exist_ok=True)
    (inside / linked).symlink_to(inside / ".store" / linked)
    assert names(scanned(inside)) == ["digits-student/1"]


def test_it_says_once_that_it_waits_and_once_that_it_is_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """And for which folder."""
    ready: list[bool] = []
    found = library(tmp_path / "models")
    found.when_ready(lambda: ready.append(bool(found.models())))
    found.scan()
    found.scan()
    waiting = f"no model in {tmp_path / 'models'} can be served yet: waiting for the trainer to publish one"
    assert (caplog.messages, ready) == ([waiting], [])
    write_model(tmp_path / "models")
    found.scan()
    found.scan()
    assert ready == [True]


def test_the_thread_finds_what_appears_while_it_runs(tmp_path: Path):
    """From start to stop."""
    ready = threading.Event()
    found = library(tmp_path, reload_s=0.01)
    found.when_ready(ready.set)
    found.start()
    try:
        write_model(tmp_path)
        assert ready.wait(20)
    finally:
        found.stop()
    assert names(found) == ["digits-student/1"]
