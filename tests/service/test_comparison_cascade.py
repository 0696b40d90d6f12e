"""A cascade in POST /compare over the real app: what it is of, what it gains, what it costs."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.comparison.render import markdown
from service.comparison.schema.report import Report
from tests.repositories import (
    compared,
    examples,
    known_logits,
    known_probabilities,
    write_cascade,
)

QUICK: dict[str, Any] = {"blocks": 3, "batch": 1, "scenarios": []}


@pytest.fixture(scope="module")
def with_cascade(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a pair with a rule between them, and the report on the cascade and its two models."""
    root = tmp_path_factory.mktemp("cascade")
    write_cascade(root)
    body = {"models": ["digits-cascade", "digits-student", "digits-ensemble"], "limit": 40, **QUICK}
    return root, asyncio.run(compared(root, it=body))["it"]


def test_a_cascade_names_both_of_its_models_and_the_rule_between_them(
    with_cascade: tuple[Path, dict[str, Any]],
) -> None:
    """In the JSON and where provenance is shown: with that, whoever reads it can tell what was compared."""
    root, report = with_cascade
    (cascade, student, ensemble) = report["models"]
    hashes = {
        name: hashlib.sha256((root / name / "1" / "model.onnx").read_bytes()).hexdigest()
        for name in ("digits-student", "digits-ensemble")
    }
    assert cascade["sha256"] == student["sha256"] == hashes["digits-student"]
    assert cascade["cascade"] == {
        "student": "digits-student/1",
        "asks": "digits-ensemble",
        "asks_version": 1,
        "asks_sha256": hashes["digits-ensemble"],
        "threshold": 0.8,
        "temperature": 0.5,
    }
    assert student["cascade"] is ensemble["cascade"] is None
    told = " ".join(markdown(Report.model_validate(report)).split())
    assert (
        f"sha256 {hashes['digits-student']} of its student digits-student/1; where the confidence of that at "
        f"temperature 0.5 is below 0.8, digits-ensemble/1 answers, sha256 {hashes['digits-ensemble']}"
    ) in told


def test_the_gain_of_a_cascade_is_stated(with_cascade: tuple[Path, dict[str, Any]]) -> None:
    """The share that it passes on, its accuracy against the ensemble's, and what it costs of the ensemble's cost."""
    report = with_cascade[1]
    inputs, labels = (part[np.random.default_rng(0).choice(40, size=40, replace=False)] for part in examples())
    deferred = known_probabilities(inputs, seed=1, temperature=0.5).max(axis=1) < 0.8
    student, ensemble = (known_logits(inputs, seed=seed) for seed in (1, 0))
    right = np.where(deferred[:, None], ensemble, student).argmax(axis=1) == labels
    cascade, _, asked = report["models"]
    assert cascade["deferred"] == pytest.approx(deferred.mean())
    assert cascade["accuracy"] == pytest.approx(right.mean())
    assert (cascade["multiply_accumulates"], asked["multiply_accumulates"]) == (round(640 * (1 + deferred.mean())), 640)
    (gain,) = report["cascades"]
    assert (gain["name"], gain["version"], gain["asks"], gain["asks_version"]) == (
        *("digits-cascade", 1),
        *("digits-ensemble", 1),
    )
    assert gain["deferred"] == cascade["deferred"]
    against = next(pair for pair in report["pairs"] if (pair["a"], pair["b"]) == (gain["name"], gain["asks"]))
    assert gain["accuracy_difference"] == against["accuracy_difference"]
    assert gain["multiply_accumulates_ratio"] == pytest.approx(cascade["multiply_accumulates"] / 640)
    ratio = cascade["latency_ms"]["mean"] / asked["latency_ms"]["mean"]
    assert gain["time_ratio"]["value"] == pytest.approx(ratio)
    assert gain["time_ratio"]["interval"][0] <= ratio <= gain["time_ratio"]["interval"][1]
    assert gain["text"].startswith(
        f"digits-cascade/1 passes {100 * deferred.mean():.1f} % of the examples on to digits-ensemble/1, is right on "
        f"{100 * right.mean():.1f} % where that is on 90.0 % (difference "
    )
    work, time = 100 * (1 + deferred.mean()), 100 * ratio
    assert f"takes {work:.1f} % of that model's multiply-accumulates and {time:.1f} % of its time, one" in gain["text"]
    told = " ".join(markdown(Report.model_validate(report)).split())
    assert gain["text"] in told
    assert told.index(gain["text"]) < told.index("## Speed") < told.index("What the cascades save")
    assert "passed on" not in told


async def test_a_cascade_whose_ensemble_is_not_compared_states_its_cost_alone(tmp_path: Path) -> None:
    write_cascade(tmp_path)
    bodies = {"it": {"models": ["digits-student", "digits-cascade"], **QUICK}}
    report = (await compared(tmp_path, **bodies))["it"]
    assert report["cascades"] == []
    assert report["models"][1]["multiply_accumulates"] > 640
    assert "What the cascades save" in markdown(Report.model_validate(report))
