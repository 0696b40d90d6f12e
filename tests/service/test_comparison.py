"""POST /compare over the real app: the answer's numbers against numpy's own, and its shape. Never its speeds."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from service.comparison.choose import choose, place
from service.library import Library
from service.manifest import Role
from tests.repositories import (
    compared,
    examples,
    known_logits,
    serving,
    write_model,
    write_pair,
)

QUICK: dict[str, Any] = {"blocks": 3, "batch": 1, "scenarios": []}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Comparisons of a student, its teacher and a baseline, as many as the tests below look at."""
    root = tmp_path_factory.mktemp("models")
    write_pair(root)
    write_model(root, "digits-baseline", role="baseline", seed=2)
    inputs = examples(5)[0].tolist()
    return asyncio.run(
        compared(
            root,
            held_out={"blocks": 3, "batch": 4, "limit": 30, "seed": 5, "margin": 60, "price_per_hour": 3.6},
            three={
                "models": ["digits-baseline", "digits-student/1", "digits-ensemble"],
                "inputs": inputs,
                "labels": ["3", 1, "4", 1, 5],
                "blocks": 3,
                "scenarios": [],
            },
            itself={"models": ["digits-student", "digits-student"], "inputs": inputs, **QUICK},
        )
    )


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
        "classes": list("0123456789"),
        "overlap": [
            {"name": f"digits-{role}", "version": 1, "known": False, "examples": None}
            for role in ("student", "ensemble")
        ],
    }
    assert report["settings"] == {
        "request": {
            "models": ["digits-student/1", "digits-ensemble/1"],
            "dataset": "held-out",
            "limit": 30,
            "seed": 5,
            "batch": 4,
            "blocks": 3,
            "calls": 0,
            "margin": 60.0,
            "scenarios": ["offline", "server", "alternating"],
            "threads": 1,
            "rate": None,
            "price_per_hour": 3.6,
        },
        "traffic": "steady state",
        "block_ms": 200.0,
        "discarded": 0.1,
        "warm_up_ms": 100.0,
        "resamples": 2000,
        "spinning": False,
        "temperature": 1.0,
        "rows_repeat": False,
        "ece_bins": 15,
    }
    assert report["machine"]["cpus"] >= 1
    assert report["machine"]["numpy"] == np.__version__
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
        "classes": list("0123456789"),
        "overlap": report["data"]["overlap"],
    }
    assert (report["settings"]["request"]["batch"], report["settings"]["rows_repeat"]) == (64, True)
    for model, seed in zip(report["models"], (2, 1, 0), strict=True):
        expected = log_p(inputs, seed)[np.arange(5), [3, 1, 4, 1, 5]]
        assert model["nll"] == pytest.approx(-expected.mean(), abs=1e-5)


def test_without_labels_there_is_no_word_of_accuracy(reports: dict[str, Any]) -> None:
    report = reports["itself"]
    assert report["data"]["labelled"] is False
    untold = [
        "accuracy",
        "accuracy_interval",
        "nll",
        "brier",
        "ece",
        "reliability",
        "per_class",
        "confusion",
        "confused",
    ]
    for model in report["models"]:
        assert [model[key] for key in untold] == [None] * len(untold)
    untold = ["accuracy_difference", "table", "mcnemar", "verdict", "per_class"]
    (pair,) = report["pairs"]
    assert [pair[key] for key in untold] == [None] * len(untold)
    assert (pair["agreement"], pair["kl"], pair["disagreements"]) == (1.0, 0.0, [])


def test_quality_of_each_class_and_of_the_pair_is_numpys(reports: dict[str, Any]) -> None:
    report = reports["held_out"]
    inputs, labels = (part[np.random.default_rng(5).choice(40, size=30, replace=False)] for part in examples())
    student, teacher = (log_p(inputs, seed) for seed in (1, 0))
    for model, expected in zip(report["models"], (student, teacher), strict=True):
        answers = expected.argmax(axis=1)
        truth = np.eye(10)[labels]
        assert model["brier"] == pytest.approx(((np.exp(expected) - truth) ** 2).sum(axis=1).mean(), abs=1e-5)
        matrix = np.array([[((labels == i) & (answers == j)).sum() for j in range(10)] for i in range(10)])
        assert model["confusion"] == matrix.tolist()
        assert sum(group["examples"] for group in model["reliability"]) == 30
        for k, own in enumerate(model["per_class"]):
            assert (own["label"], own["examples"], own["answered"]) == (str(k), matrix[k].sum(), matrix[:, k].sum())
            assert own["accuracy"] == pytest.approx(matrix[k, k] / matrix[k].sum()) if matrix[k].sum() else None
        assert model["label_flips"] == {"sizes": [1, 4], "examples": 30, "flips": 0}
    (pair,) = report["pairs"]
    assert pair["kl"] == pytest.approx((np.exp(teacher) * (teacher - student)).sum(axis=1).mean(), abs=1e-5)
    right = [answers.argmax(axis=1) == labels for answers in (student, teacher)]
    expected_table = [(right[0] & right[1]), (right[0] & ~right[1]), (~right[0] & right[1]), (~right[0] & ~right[1])]
    assert list(pair["table"].values()) == [int(part.sum()) for part in expected_table]
    only = [int(part.sum()) for part in expected_table[1:3]]
    assert pair["mcnemar"] == {
        "discordant": sum(only),
        "p": pytest.approx(stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0),
    }
    differ = np.flatnonzero(student.argmax(axis=1) != teacher.argmax(axis=1))
    assert [one["index"] for one in pair["disagreements"]] == differ.tolist()
    assert pair["disagreed"] == len(differ) > 0
    first = pair["disagreements"][0]
    assert first["a"] == pytest.approx(np.exp(student[differ[0]]), abs=1e-6)
    assert first["label"] == str(labels[differ[0]])
    picture = Image.open(io.BytesIO(base64.b64decode(first["image"].removeprefix("data:image/png;base64,"))))
    assert np.asarray(picture) == pytest.approx(np.rint(inputs[differ[0]] / 16 * 255), abs=1)


def test_the_verdict_is_against_the_margin_that_was_stated(reports: dict[str, Any]) -> None:
    (pair,) = reports["held_out"]["pairs"]
    low, _ = pair["accuracy_difference"]["interval"]
    assert low > -0.6
    assert (pair["verdict"]["margin"], pair["verdict"]["result"]) == (60.0, "shown")
    assert reports["three"]["pairs"][0]["verdict"] is None


def test_each_scenario_that_was_asked_for_is_told(reports: dict[str, Any]) -> None:
    (a, b), (pair,) = reports["held_out"]["models"], reports["held_out"]["pairs"]
    for model in (a, b):
        tried = {one["size"]: one["throughput"] for one in model["offline"]["tried"]}
        assert {1, 4, 8, 32, 64} <= set(tried)
        assert model["offline"]["batch"] in tried
        assert model["server"]["failures"] == 0
        assert model["server"]["rate"] == pytest.approx(500 / max(a["latency_ms"]["mean"], b["latency_ms"]["mean"]))
        assert model["server"]["latency_ms"]["p50"] > 0
        assert model["alternating"]["calls"] > 10
        assert model["http"] is None
        assert model["cold_start"]["session_ms"] > 0
        cost = model["cost"]
        assert cost["price_per_million"] == pytest.approx(3.6 / 3600 / model["offline"]["throughput"]["value"] * 1e6)
        assert cost["predictions_per_core_second"] > 0
    ratio = a["offline"]["throughput"]["value"] / b["offline"]["throughput"]["value"]
    assert pair["offline_speed_up"]["value"] == pytest.approx(ratio)
    ratio = b["alternating"]["latency_ms"]["mean"] / a["alternating"]["latency_ms"]["mean"]
    assert pair["alternating_speed_up"]["value"] == pytest.approx(ratio)
    untold = ("offline", "server", "alternating", "http")
    assert [reports["three"]["models"][0][name] for name in untold] == [None] * 4


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


async def test_the_request_in_a_report_repeats_the_comparison(tmp_path: Path) -> None:
    """The same data, quality and settings; only what was timed can differ."""
    write_pair(tmp_path)
    first = (await compared(tmp_path, first={"limit": 30, "seed": 5, "margin": 2, **QUICK}))["first"]
    again = (await compared(tmp_path, again=first["settings"]["request"]))["again"]
    assert (again["data"], again["settings"]) == (first["data"], first["settings"])
    for key in ("nll", "brier", "confusion"):
        assert [model[key] for model in again["models"]] == [model[key] for model in first["models"]]
    assert again["pairs"][0]["verdict"] == first["pairs"][0]["verdict"] is not None


def test_the_teacher_is_the_very_version_that_the_student_was_distilled_from(tmp_path: Path) -> None:
    """A newer ensemble does not take its place."""
    write_pair(tmp_path)
    write_model(tmp_path, "digits-ensemble", 2, role="ensemble", seed=3)
    library = Library(tmp_path, device="cpu")
    library.scan()
    assert [place(model) for model in choose(library, None)] == ["digits-student/1", "digits-ensemble/1"]
    assert place(choose(library, ["digits-student", "digits-ensemble"])[1]) == "digits-ensemble/2"


@pytest.mark.parametrize("role", ["ensemble", "specialists"])
def test_the_member_is_the_one_published_beside_the_teacher(tmp_path: Path, role: Role) -> None:
    """Whichever of the two taught the student."""
    teacher = write_model(tmp_path, f"digits-{role}", role=role)
    write_model(tmp_path, "digits-student", seed=1, teacher=teacher)
    for name in ("digits-member", "other-member"):
        write_model(tmp_path, name, role="member", seed=2)
    library = Library(tmp_path, device="cpu")
    library.scan()
    assert [place(model) for model in choose(library, None)] == [
        "digits-student/1",
        f"digits-{role}/1",
        "digits-member/1",
    ]


async def test_the_reference_documents_request_and_report(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        schema = (await client.get("/openapi.json")).json()
    operation = schema["paths"]["/compare"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(asked["properties"]) == {
        "models", "dataset", "limit", "seed", "inputs", "labels", "batch", "blocks", "calls", "margin", "scenarios",
        "threads", "rate", "price_per_hour",
    }  # fmt: skip
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Report"
    }
    assert set(schema["components"]["schemas"]["Report"]["properties"]) == {
        "schema", "id", "created", "models", "pairs", "cascades", "data", "settings", "machine", "seconds",
        "other_runs",
    }  # fmt: skip
    assert asked["examples"] == [{"dataset": "held-out", "limit": 500, "batch": 64, "margin": 0.5}]


async def test_two_copies_of_one_network_take_as_much_memory_whichever_is_named_first(tmp_path: Path) -> None:
    """In the process that measures, the runtime's own start, which takes more than either, is over before."""
    shape, classes = (64, 64), [str(label) for label in range(250)]
    for name in ("wide-student", "wide-baseline"):
        write_model(tmp_path, name, shape=shape, classes=classes, held_out=examples(4, shape, 250))
    bodies = {name: {"models": [f"wide-{name}", "wide-student"], **QUICK} for name in ("student", "baseline")}
    for report in (await compared(tmp_path, **bodies)).values():
        first, second = (model["cost"]["resident_bytes"] for model in report["models"])
        assert 0.7 < first / second < 1.4
        assert 4_000_000 < first < 9_000_000  # its weights are 4.1 MB


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
