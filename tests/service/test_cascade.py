"""service/cascade.py: the student answers, and the ensemble where the student is not confident; by numpy's word.

Which cascades there are, and why one is not, is here too; test_cascade_served.py asks one over HTTP.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from service.board import Board
from service.cascade import Cascade, cascade_name, confidence, find_cascades
from service.errors import ModelError, NotFoundError
from service.library import Library
from service.manifest import MANIFEST, read_manifest
from service.statistics import Statistics
from tests.repositories import (
    DIGITS,
    examples,
    known_logits,
    known_probabilities,
    rule_for,
    write_cascade,
    write_model,
    write_pair,
)

INPUTS, _ = examples(40)
THRESHOLD, TEMPERATURE = 0.8, 0.5
DEFERRED = known_probabilities(INPUTS, seed=1, temperature=TEMPERATURE).max(axis=1) < THRESHOLD
EXPECTED = np.where(DEFERRED[:, None], known_logits(INPUTS, seed=0), known_logits(INPUTS, seed=1))
FIRST, SURE = int(np.flatnonzero(DEFERRED)[0]), int(np.flatnonzero(~DEFERRED)[0])


def probabilities(temperature: float = 1.0) -> NDArray[np.float64]:
    return np.asarray(special.softmax(EXPECTED / temperature, axis=1))


def library(root: Path) -> Library:
    found = Library(root, device="cpu")
    found.scan()
    return found


def cascade_of(root: Path, **rule: float) -> Cascade:
    write_cascade(root, **rule)
    found = library(root).get("digits-cascade")
    assert isinstance(found, Cascade)
    return found


def test_confidence_is_the_largest_softened_probability():
    """As scipy has it, in float64; of two equal logits a half, of a hundred classes at a high T a hundredth."""
    logits = np.random.default_rng(0).normal(0, 5, (50, 7)).astype(np.float32)
    for temperature in (0.3, 1.0, 4.0):
        expected = special.softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
        np.testing.assert_allclose(confidence(logits, temperature), expected, rtol=1e-12)
    np.testing.assert_array_equal(confidence(np.array([[3.0, 3.0], [900.0, -900.0]]), 1.0), [0.5, 1.0])
    np.testing.assert_allclose(confidence(np.arange(100.0)[None], 1e9), [0.01], rtol=1e-6)


def test_of_no_number_there_is_no_confidence():
    """In silence: such a row goes to the ensemble."""
    logits = np.array([[np.nan, 0.0], [np.inf, np.inf], [np.inf, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert np.isnan(confidence(logits, 1.0)).tolist() == [True, True, True, False]


def test_it_answers_as_the_student_and_where_that_is_unsure_as_the_ensemble(tmp_path: Path):
    """Both happen here, and the two models differ; its name is its own, its version the student's."""
    cascade = cascade_of(tmp_path)
    assert 5 < DEFERRED.sum() < 35
    found = cascade.run(INPUTS)
    np.testing.assert_allclose(found.logits_BK, EXPECTED, atol=1e-5)
    np.testing.assert_allclose(found.probabilities_BK, probabilities(), atol=1e-5)
    np.testing.assert_array_equal(cascade.deferred(INPUTS), DEFERRED)
    assert (cascade.name, cascade.place, cascade.manifest.version) == ("digits-cascade", "digits-cascade/1", 1)
    assert cascade.manifest.parameters == 2 * 650
    assert cascade.stored.name == "digits-student"


@pytest.mark.parametrize(("threshold", "seed"), [(0.0, 1), (1.0, 0)])
def test_at_the_ends_it_is_one_of_the_two(threshold: float, seed: int, tmp_path: Path):
    """No confidence is below 0; at a high temperature every one is below 1."""
    cascade = cascade_of(tmp_path, threshold=threshold, temperature=10.0)
    np.testing.assert_allclose(cascade.run(INPUTS).logits_BK, known_logits(INPUTS, seed=seed), atol=1e-5)
    assert set(cascade.deferred(INPUTS)) == {threshold == 1.0}


@pytest.mark.parametrize(
    ("student", "name"),
    [
        ("mnist-student", "mnist-cascade"),
        ("mnist", "mnist-cascade"),
        ("mnist-student-int8", "mnist-student-int8-cascade"),
    ],
)
def test_its_name_is_made_of_the_students(student: str, name: str):
    """The end `-student` becomes `-cascade`; without that end it is added."""
    assert cascade_name(student) == name


def test_a_manifest_without_a_rule_is_written_without_the_key(tmp_path: Path):
    """A service of before it refuses keys that it does not know; with a rule it reads back what was written."""
    _, student = write_pair(tmp_path / "plain")
    assert "cascade" not in json.loads((student / MANIFEST).read_text())
    ensemble, student = write_cascade(tmp_path / "ruled")
    manifest = read_manifest(student)
    assert manifest.cascade == rule_for(ensemble)
    assert json.loads((student / MANIFEST).read_text())["cascade"] == {
        "name": "digits-ensemble",
        "version": 1,
        "sha256": manifest.teacher.sha256,
        "threshold": 0.8,
        "temperature": 0.5,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": 1.5}, "cascade.threshold: Input should be less than or equal to 1"),
        ({"threshold": -0.1}, "cascade.threshold: Input should be greater than or equal to 0"),
        ({"temperature": 0.0}, "cascade.temperature: Input should be greater than 0"),
        ({"sha256": "x"}, "cascade.sha256: String should match pattern '^[0-9a-f]{64}$'"),
        ({"mood": 1}, "cascade.mood: Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_is_none_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path):
    """With its key and what was expected; the student is refused with it, as for any manifest that is not valid."""
    _, student = write_cascade(tmp_path)
    values = json.loads((student / MANIFEST).read_text())
    values["cascade"] |= changes
    (student / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(ModelError) as refused:
        read_manifest(student)
    assert str(refused.value) == f"digits-student/1: manifest.json is not valid: {reason}"


def test_only_a_student_has_a_rule(tmp_path: Path):
    """The role is named."""
    _, student = write_cascade(tmp_path)
    values = json.loads((student / MANIFEST).read_text())
    (student / MANIFEST).write_text(json.dumps({**values, "role": "baseline"}))
    with pytest.raises(ModelError, match=r"Value error, cascade is for a student, got the role 'baseline'$"):
        read_manifest(student)


def test_a_model_of_that_name_has_the_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Whatever its versions; the cascade is refused, its student is not."""
    write_cascade(tmp_path)
    write_model(tmp_path, "digits-cascade", version=3, role="baseline")
    found = library(tmp_path)
    assert type(found.get("digits-cascade")) is not Cascade
    assert found.get("digits-student").manifest.version == 1
    reason = "a model of that name is in the repository, so the cascade of digits-student/1 cannot have it"
    assert found.refused == [("digits-cascade", 1, f"digits-cascade/1: {reason}")]
    assert f"refused digits-cascade/1: digits-cascade/1: {reason}" in caplog.messages
    caplog.clear()
    found.scan()
    assert caplog.messages == []


def test_two_students_cannot_have_one_name(tmp_path: Path):
    """The first by name has it, in all versions."""
    ensemble, _ = write_cascade(tmp_path)
    write_model(tmp_path, "digits", version=2, seed=2, teacher=ensemble, cascade=rule_for(ensemble))
    found = library(tmp_path)
    assert found.get("digits-cascade").stored.name == "digits"
    assert found.versions("digits-cascade") == [2]
    reason = "digits-cascade/1: digits has a cascade of that name already, so digits-student cannot have it"
    assert found.refused == [("digits-cascade", 1, reason)]


def test_without_its_ensemble_it_is_refused_and_the_student_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """With the reason; it comes as soon as the ensemble does, and goes with it."""
    caplog.set_level(logging.INFO)
    ensemble, _ = write_cascade(tmp_path / "models")
    shutil.move(ensemble.parent, tmp_path / "away")
    found = library(tmp_path / "models")
    reason = "digits-cascade/1: the ensemble of its student digits-student/1 is digits-ensemble/1, which is not loaded"
    assert found.refused == [("digits-cascade", 1, reason)]
    assert [model.manifest.name for model in found.newest()] == ["digits-student"]
    with pytest.raises(NotFoundError, match=r"^unknown model 'digits-cascade'; available: digits-student$"):
        found.get("digits-cascade")
    shutil.move(tmp_path / "away", ensemble.parent)
    found.scan()
    kept = found.get("digits-cascade", 1)
    assert (found.refused, found.versions("digits-cascade")) == ([], [1])
    with pytest.raises(NotFoundError, match=r"^unknown model 'no'; available: digits-cascade, digits-ensemble, "):
        found.get("no")
    shutil.rmtree(ensemble.parent)
    found.scan()
    assert found.refused == [("digits-cascade", 1, reason)]
    np.testing.assert_allclose(kept.run(INPUTS).logits_BK, EXPECTED, atol=1e-5)
    told = [text for text in caplog.messages if "digits-cascade" in text]
    assert told == [
        f"refused digits-cascade/1: {reason}",
        "loaded digits-cascade/1: cascade",
        "dropped digits-cascade/1: cascade",
        f"refused digits-cascade/1: {reason}",
    ]


def test_another_ensemble_of_that_version_is_refused(tmp_path: Path):
    """By the bytes of its graph, not by its name."""
    ensemble, student = write_cascade(tmp_path)
    shutil.rmtree(ensemble.parent)
    write_model(tmp_path, "digits-ensemble", role="ensemble", seed=7)
    (refusal,) = library(tmp_path).refused
    expected = read_manifest(student).cascade.sha256[:12]
    found = read_manifest(ensemble).files["model.onnx"].sha256[:12]
    assert refusal.reason == (
        "digits-cascade/1: digits-ensemble/1 is not the ensemble of its student digits-student/1: "
        f"its graph has SHA-256 {found}…, expected {expected}…"
    )


def test_an_ensemble_of_other_classes_is_refused(tmp_path: Path):
    """Its rows would have other meanings."""
    ensemble = write_model(tmp_path, "digits-ensemble", role="ensemble", classes=DIGITS[::-1])
    write_model(tmp_path, cascade=rule_for(ensemble))
    (refusal,) = library(tmp_path).refused
    assert refusal.reason == (
        "digits-cascade/1: digits-ensemble/1 and its student digits-student/1 do not take the same inputs and know the "
        "same classes"
    )


def test_it_can_be_unloaded_by_itself_and_goes_with_its_ensemble(tmp_path: Path):
    """And comes back when it is loaded; it is never the default."""
    write_cascade(tmp_path)
    found = library(tmp_path)
    assert type(found.get()) is not Cascade
    found.unload("digits-cascade")
    assert (found.cascades(), len(found.models()), found.refused) == ({}, 2, [])
    found.load("digits-cascade")
    assert list(found.cascades()) == [("digits-cascade", 1)]
    found.unload("digits-ensemble")
    assert found.cascades() == {}
    with pytest.raises(ModelError, match=r"which is not loaded$"):
        found.load("digits-cascade")


def test_a_student_may_be_the_only_one_with_a_rule(tmp_path: Path):
    """Without any there is nothing to find."""
    write_pair(tmp_path)
    assert find_cascades(library(tmp_path).models(), [], []) == ({}, {})


def test_the_counts_of_all_workers_are_one():
    """Each writes its own into the board; one that begins anew goes on with them."""
    board = Board(2)
    workers = [Statistics(), Statistics()]
    for slot, worker in enumerate(workers):
        worker.share(board, slot)
        worker.relayed(Placed(), 10, 3 + slot, 0.1, 0.2)
        worker.relay_failed(Placed(), 0.5)
        worker.publish()
    again = Statistics()
    again.share(board, 0)
    for worker in (*workers[1:], again):
        tally = worker.total().cascades["digits-cascade/1"]
        assert (tally.rows, tally.deferred, tally.queue.count, tally.failures["model"].count) == (20, 7, 2, 2)


class Placed:
    place = "digits-cascade/1"
