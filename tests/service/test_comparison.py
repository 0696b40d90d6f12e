"""POST /compare over the real app: the answer's numbers against numpy's own, and its shape. Never its speeds."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.comparison.choose import choose, place
from service.library import Library
from tests.repositories import examples, known_logits, serving, write_model, write_pair

QUICK = {"blocks": 3, "batch": 1}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Comparisons of a student, its teacher and a baseline, as many as the tests below look at."""
    root = tmp_path_factory.mktemp("models")
    write_pair(root)
    write_model(root, "digits-baseline", role="baseline", seed=2)
    inputs = examples(5)[0].tolist()
    return asyncio.run(
        _compare(
            root,
            held_out={"blocks": 3, "batch": 4, "limit": 30, "seed": 5},
            three={
                "models": ["digits-baseline", "digits-student/1", "digits-ensemble"],
                "inputs": inputs,
                "labels": ["3", 1, "4", 1, 5],
                "blocks": 3,
            },
            itself={"models": ["digits-student", "digits-student"], "inputs": inputs, **QUICK},
        )
    )


async def _compare(root: Path, **bodies: dict[str, Any]) -> dict[str, Any]:
    found = {}
    async with serving(root) as client:
        for name, body in bodies.items():
            answer = await client.post("/compare", json=body)
            assert answer.status_code == 200, answer.text
            found[name] = answer.json()
    return found


def log_p(inputs: np.ndarray, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    logits = known_logits(inputs, seed=seed)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def test_by_default_the_newest_student_is_compared_with_its_teacher(reports: dict[str, Any]) -> None:
    report = reports["held_out"]
    assert report["schema"] == "stillroom.compare/1"
    assert [(model["name"], model["version"], model["role"]) for model in report["models"]] == [
        ("digits-student", 1, "student"),
        ("digits-ensemble", 1, "ensemble"),
    ]
    (pair,) = report["pairs"]
    assert (pair["a"], pair["a_version"], pair["b"], pair["b_version"]) == ("digits-student", 1, "digits-ensemble", 1)


def test_quality_is_numpys_on_a_seeded_sample_of_the_held_out_set(reports: dict[str, Any]) -> None:
    report = reports["held_out"]
    inputs, labels = examples()
    drawn = np.random.default_rng(5).choice(40, size=30, replace=False)
    inputs, labels = inputs[drawn], labels[drawn]
    for model, seed in zip(report["models"], (1, 0), strict=True):
        expected = log_p(inputs, seed)
        low, high = model["accuracy_interval"]
        assert model["accuracy"] == pytest.approx((expected.argmax(axis=1) == labels).mean())
        assert low < model["accuracy"] < high
        assert model["nll"] == pytest.approx(-expected[np.arange(30), labels].mean(), abs=1e-5)
        assert 0.0 < model["ece"] < 1.0
    student, teacher = (log_p(inputs, seed).argmax(axis=1) for seed in (1, 0))
    (pair,) = report["pairs"]
    assert pair["agreement"] == pytest.approx((student == teacher).mean())
    difference = pair["accuracy_difference"]
    assert difference["value"] == pytest.approx((student == labels).mean() - (teacher == labels).mean())
    assert difference["interval"][0] < difference["value"] < difference["interval"][1]


def test_the_report_names_data_settings_and_machine(reports: dict[str, Any], tmp_path: Path) -> None:
    report = reports["held_out"]
    held_out = write_model(tmp_path) / "held-out.npz"
    assert report["data"] == {
        "dataset": "held-out",
        "examples": 30,
        "labelled": True,
        "seed": 5,
        "sha256": hashlib.sha256(held_out.read_bytes()).hexdigest(),
    }
    assert report["settings"] == {
        "request": {
            "models": ["digits-student/1", "digits-ensemble/1"],
            "dataset": "held-out",
            "limit": 30,
            "seed": 5,
            "batch": 4,
            "blocks": 3,
        },
        "traffic": "steady state",
        "block_ms": 200.0,
        "discarded": 0.1,
        "warm_up_ms": 100.0,
        "resamples": 2000,
        "spinning": False,
        "temperature": 1.0,
        "rows_repeat": False,
    }
    assert set(report["machine"]) == {"processor", "cpus", "load_average", "system", "python", "onnxruntime"}
    assert report["seconds"] >= 2 * 2 * 3 * 0.2


def test_each_model_tells_its_size_and_its_speed_at_both_batch_sizes(reports: dict[str, Any]) -> None:
    for model in reports["held_out"]["models"]:
        assert (model["parameters"], model["multiply_accumulates"]) == (650, 640)
        assert (model["provider"], model["threads"]) == ("CPUExecutionProvider", 1)
        assert model["bytes"] > 0
        assert model["batch"]["size"] == 4
        assert model["throughput"] == pytest.approx(4 / model["batch"]["latency_ms"]["mean"] * 1000)
        for latency in (model["latency_ms"], model["batch"]["latency_ms"]):
            assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
        assert model["calls"] >= 662


def test_a_speed_up_is_the_second_models_mean_latency_over_the_firsts(reports: dict[str, Any]) -> None:
    report = reports["held_out"]
    (pair,), (a, b) = report["pairs"], report["models"]
    for speed_up, first, second in (
        (pair["speed_up"], a["latency_ms"], b["latency_ms"]),
        (pair["batch_speed_up"], a["batch"]["latency_ms"], b["batch"]["latency_ms"]),
    ):
        assert speed_up["value"] == pytest.approx(second["mean"] / first["mean"])
        assert 0 < speed_up["interval"][0] <= speed_up["interval"][1]


def test_any_number_of_models_is_compared_pairwise_in_the_order_named(reports: dict[str, Any]) -> None:
    assert [(pair["a"], pair["b"]) for pair in reports["three"]["pairs"]] == [
        ("digits-baseline", "digits-student"),
        ("digits-baseline", "digits-ensemble"),
        ("digits-student", "digits-ensemble"),
    ]


def test_inputs_of_ones_own_are_used_whole_with_labels_by_name_or_index(reports: dict[str, Any]) -> None:
    """Five inputs do not fill a batch of 64, so they repeat in it; quality counts each once."""
    report, inputs = reports["three"], examples(5)[0]
    assert report["data"] == {
        "dataset": None,
        "examples": 5,
        "labelled": True,
        "seed": 0,
        "sha256": hashlib.sha256(inputs.astype("<f4").tobytes()).hexdigest(),
    }
    assert (report["settings"]["request"]["batch"], report["settings"]["rows_repeat"]) == (64, True)
    for model, seed in zip(report["models"], (2, 1, 0), strict=True):
        expected = log_p(inputs, seed)[np.arange(5), [3, 1, 4, 1, 5]]
        assert model["nll"] == pytest.approx(-expected.mean(), abs=1e-5)


def test_without_labels_there_is_no_word_of_accuracy(reports: dict[str, Any]) -> None:
    report = reports["itself"]
    assert report["data"]["labelled"] is False
    for model in report["models"]:
        assert [model[key] for key in ("accuracy", "accuracy_interval", "nll", "ece")] == [None] * 4
    assert report["pairs"][0]["accuracy_difference"] is None


def test_a_model_can_be_compared_with_itself(reports: dict[str, Any]) -> None:
    """What then differs is the measurement: it agrees with itself, and its two latencies are measured apart."""
    (pair,), (a, b) = reports["itself"]["pairs"], reports["itself"]["models"]
    assert (pair["a"], pair["b"], pair["agreement"]) == ("digits-student", "digits-student", 1.0)
    assert pair["speed_up"]["value"] == pytest.approx(1.0, abs=0.9)
    assert a["calls"] != b["calls"] or a["latency_ms"] != b["latency_ms"]


def test_a_batch_of_1_is_measured_once_and_told_twice(reports: dict[str, Any]) -> None:
    report = reports["itself"]
    for model in report["models"]:
        assert model["batch"] == {"size": 1, "latency_ms": model["latency_ms"], "calls": model["calls"]}
    assert report["pairs"][0]["speed_up"] == report["pairs"][0]["batch_speed_up"]


async def test_the_request_in_a_report_repeats_the_comparison(reports: dict[str, Any], tmp_path: Path) -> None:
    """The same data, quality and settings; only what was timed can differ."""
    write_pair(tmp_path)
    first = reports["held_out"]
    again = (await _compare(tmp_path, again=first["settings"]["request"]))["again"]
    assert (again["data"], again["settings"]) == (first["data"], first["settings"])
    assert [model["nll"] for model in again["models"]] == [model["nll"] for model in first["models"]]


def test_the_teacher_is_the_very_version_that_the_student_was_distilled_from(tmp_path: Path) -> None:
    """A newer ensemble does not take its place."""
    write_pair(tmp_path)
    write_model(tmp_path, "digits-ensemble", 2, role="ensemble", seed=3)
    library = Library(tmp_path, device="cpu")
    library.scan()
    assert [place(model) for model in choose(library, None)] == ["digits-student/1", "digits-ensemble/1"]
    assert place(choose(library, ["digits-student", "digits-ensemble"])[1]) == "digits-ensemble/2"


async def test_one_comparison_runs_at_a_time_and_the_service_answers_meanwhile(tmp_path: Path) -> None:
    """Of two at once, one is sent away at once, and the other is none the worse for it."""
    write_pair(tmp_path)
    async with serving(tmp_path) as client:
        both = [asyncio.create_task(client.post("/compare", json=QUICK)) for _ in range(2)]
        (refused,), (running,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result().status_code == 503
        assert refused.result().headers["retry-after"] == "10"
        assert refused.result().json() == {
            "error": "another comparison is running, and two would slow each other: try again in 10 s"
        }
        assert (await client.get("/health/live")).status_code == 200
        assert not running.done()
        assert (await running).status_code == 200


async def test_the_reference_documents_request_and_report(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        schema = (await client.get("/openapi.json")).json()
    operation = schema["paths"]["/compare"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(asked["properties"]) == {"models", "dataset", "limit", "seed", "inputs", "labels", "batch", "blocks"}
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Report"
    }
    assert set(schema["components"]["schemas"]["Report"]["properties"]) == {
        "schema", "models", "pairs", "data", "settings", "machine", "seconds", "other_runs",
    }  # fmt: skip
    assert asked["examples"] == [{"dataset": "held-out", "limit": 500, "batch": 64}]


async def test_the_report_counts_what_else_the_models_answered_meanwhile(tmp_path: Path) -> None:
    """Predictions share the machine with the measurement: a reader must know."""
    write_pair(tmp_path)
    inputs = examples(2)[0].tolist()
    async with serving(tmp_path) as client:
        quiet = (await client.post("/compare", json=QUICK)).json()
        comparing = asyncio.create_task(client.post("/compare", json=QUICK))
        asked = 0
        while not comparing.done():
            asked += (await client.post("/predict", json={"inputs": inputs})).status_code == 200
            await asyncio.sleep(0.01)
        busy = (await comparing).json()
    assert quiet["other_runs"] == 0
    assert 0 < busy["other_runs"] <= asked
