"""Reports of comparisons that never ran: every number is made up, the same each time, and fits the others."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service import measures
from service.comparison.schema.report import Report

N = 360
NAMES = ("digits-student", "digits-ensemble", "digits-baseline", "digits-student-int8", "digits-member", "digits-wide")
ROLES = ("student", "ensemble", "baseline", "student", "member", "student")
ERRORS = (0.03, 0.02, 0.05, 0.04, 0.035, 0.025)
FULL = ("offline", "server", "alternating", "http")

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def report(models: int = 2, classes: int = 10, **options: Any) -> Report:
    """A report of so many models and classes; see `made` for the options."""
    return Report.model_validate(made(models, classes, **options))


def made(
    models: int = 2,
    classes: int = 10,
    *,
    labelled: bool = True,
    pictures: bool = True,
    scenarios: tuple[str, ...] = FULL,
    margin: float | None = 1.0,
    few: bool = False,
    slower: float = 1.0,
    names: tuple[str, ...] = NAMES,
    labels: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """The report as JSON. `few`: there are calls for the median alone, and the models are files that tell nothing.
    `slower`: so many times as slow as the one before is each model, on top of what it is."""
    names_K = labels or tuple(map(str, range(classes)))
    random = np.random.default_rng(7)
    labels_N = random.integers(0, classes, N)
    log_p = [_log_p(labels_N, classes, ERRORS[place], place) for place in range(models)]
    truth = labels_N if labelled else None
    alone = [_model(names[n], n, log_p[n], truth, names_K, scenarios, few, slower) for n in range(models)]
    pairs = [
        _pair(alone[a], alone[b], log_p[a], log_p[b], truth, names_K, scenarios, margin, pictures, labels_N)
        for a, b in combinations(range(models), 2)
    ]
    return {
        "schema": "stillroom.compare/1",
        "id": None,
        "created": datetime(2026, 3, 1, 12, 30, tzinfo=UTC).isoformat(),
        "models": alone,
        "pairs": pairs,
        "data": {
            "dataset": None if few else "held-out",
            "examples": N,
            "labelled": labelled,
            "seed": 0,
            "sha256": "5d" * 32,
            "classes": list(names_K),
            "overlap": [
                {"name": model["name"], "version": model["version"], "known": not few, "examples": None if few else 0}
                for model in alone
            ],
        },
        "settings": _settings(alone, scenarios, margin),
        "machine": dict(MACHINE),
        "seconds": 21.4,
        "other_runs": 0,
    }


MACHINE = {
    "processor": "AMD EPYC",
    "cpus": 2,
    "gpus": [],
    "load_average": 0.21,
    "memory_bytes": 8 * 10**9,
    "cpu_limit": None,
    "memory_limit_bytes": None,
    "system": "Linux 6.1",
    "python": "3.13.1",
    "onnxruntime": "1.26.0",
    "numpy": "2.4.0",
    "stillroom": "0.1.0",
}


def _settings(alone: list[dict[str, Any]], scenarios: tuple[str, ...], margin: float | None) -> dict[str, Any]:
    versions = [m["name"] if m["version"] is None else f"{m['name']}/{m['version']}" for m in alone]
    return {
        "request": {
            "models": versions,
            "dataset": "held-out",
            "limit": None,
            "seed": 0,
            "batch": 64,
            "blocks": 10,
            "calls": 700,
            "margin": margin,
            "scenarios": list(scenarios),
            "threads": 1,
            "rate": None,
            "price_per_hour": 0.096,
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


def _log_p(labels_N: Labels, classes: int, errors: float, place: int) -> Floats:
    """Answers that err on about that share of the examples, mostly on the same ones whichever the model is."""
    common, own = np.random.default_rng(1), np.random.default_rng([2, place])
    hard_N = 0.6 * common.random(N) + 0.4 * own.random(N)
    logits_NK = own.normal(0.0, 1.0, (N, classes))
    logits_NK[np.arange(N), labels_N] += 6.0
    wrong_N = hard_N < np.quantile(hard_N, errors)
    logits_NK[wrong_N, (labels_N[wrong_N] + 1 + labels_N[wrong_N] % 2) % classes] += 7.0
    return measures.log_softmax(logits_NK)


def _estimate(value: float, share: float = 0.06) -> dict[str, Any]:
    return {"value": value, "interval": (value * (1 - share), value * (1 + share))}


def latency(median_ms: float, few: bool = False) -> dict[str, Any]:
    """A lognormal body with a heavy tail."""
    shares = [*(i / 100 for i in range(1, 100)), 0.995, 0.999]
    odds = [share / (1 - share) for share in shares]
    tails = [1 + 4 * max(0.0, share - 0.9) for share in shares]
    quantiles = [(share, median_ms * odd**0.06 * tail) for share, odd, tail in zip(shares, odds, tails, strict=True)]
    at = dict(quantiles)

    def told(share: float, width: float) -> dict[str, Any]:
        return {"value": at[share], "interval": (at[share] * (1 - width), at[share] * (1 + width))}

    found = {"mean": told(0.6, 0.02), "p50": told(0.5, 0.01), "p90": told(0.9, 0.03), "p99": told(0.99, 0.08)}
    found["p99_9"] = told(0.999, 0.2)
    result: dict[str, Any] = {"quantiles": quantiles}
    for name, estimate in found.items():
        known = not few or name in ("mean", "p50")
        result[name] = estimate["value"] if known else None
        result[f"{name}_interval"] = estimate["interval"] if known else None
    return result


def _model(
    name: str,
    place: int,
    log_p_NK: Floats,
    labels_N: Labels | None,
    names_K: tuple[str, ...],
    scenarios: Any,
    few: bool,
    slower: float,
) -> dict[str, Any]:
    ms = (0.0061, 0.142, 0.0066, 0.0049, 0.0312, 0.0214)[place] * slower**place
    rate = 1000 / ms * 8
    size = (10_700, 3_400_000, 10_700, 4_100, 341_000, 52_000)[place]
    server = {
        "rate": 500.0,
        "seconds": 5.0,
        "requests": 2250,
        "failures": 0,
        "latency_ms": latency(ms * 1.7, few),
        "rows_per_run": 1.02,
        "kept_up": True,
        "pace": 1.0,
    }
    http = {
        "url": "http://127.0.0.1:8000/predict",
        "encoding": "JSON",
        "latency_ms": latency(ms + 0.31, few),
        "calls": 900,
        "failures": 0,
        "batch": 64,
        "throughput": _estimate(rate / 9),
        "server": {**server, "latency_ms": latency(ms + 0.5, few), "rows_per_run": None},
    }
    return {
        "name": name,
        "version": None if few else 1,
        "role": "file" if few else ROLES[place],
        "sha256": None if few else f"{place + 1:02x}" * 32,
        **_quality(log_p_NK, labels_N, names_K),
        "label_flips": {"sizes": (1, 64), "examples": N, "flips": 0},
        "deferred": None,
        "latency_ms": latency(ms, few),
        "calls": 40 if few else 9_000 - 700 * place,
        "batch": {"size": 64, "latency_ms": latency(8 * ms, few), "calls": 700},
        "throughput": rate,
        "offline": {
            "batch": 256,
            "throughput": _estimate(rate * 1.3),
            "tried": [{"size": size, "throughput": rate * size / (size + 20)} for size in (1, 8, 32, 64, 128, 256)],
        }
        if "offline" in scenarios
        else None,
        "server": server if "server" in scenarios else None,
        "alternating": {"latency_ms": latency(1.4 * ms, few), "calls": 700} if "alternating" in scenarios else None,
        "http": http if "http" in scenarios else None,
        "cold_start": None if few else {"session_ms": 3.1 + place, "first_ms": 0.4 + place},
        "cost": {
            "resident_bytes": None if few else 4 * size + 2_000_000,
            "predictions_per_core_second": rate,
            "joules_per_million": None,
            "price_per_million": None if few else 0.096 / 3.6e3 * 1e6 / rate,
        },
        "parameters": None if few else size // 4,
        "bytes": None if few else size,
        "multiply_accumulates": None if few else size // 4 - 40,
        "provider_asked": None if few else "cpu",
        "provider": None if few else "CPUExecutionProvider",
        "threads": None if few else 1,
    }


def _quality(log_p_NK: Floats, labels_N: Labels | None, names_K: tuple[str, ...]) -> dict[str, Any]:
    kinds = (
        "accuracy",
        "accuracy_interval",
        "nll",
        "brier",
        "ece",
        "reliability",
        "per_class",
        "confusion",
        "confused",
    )
    if labels_N is None:
        return dict.fromkeys(kinds)
    classes, said_N = len(names_K), log_p_NK.argmax(axis=1)
    right = measures.accuracy(said_N, labels_N)
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels_N, said_N), 1)
    off = [(counts[a, b], a, b) for a, b in np.argwhere(counts) if a != b]
    return {
        "accuracy": right.value,
        "accuracy_interval": tuple(right.interval),
        "nll": measures.nll(log_p_NK, labels_N),
        "brier": _brier(log_p_NK, labels_N),
        "ece": measures.ece(log_p_NK, labels_N),
        "reliability": _reliability(log_p_NK, labels_N),
        "per_class": [_class(label, k, log_p_NK, labels_N) for k, label in enumerate(names_K)],
        "confusion": counts.tolist() if classes <= 50 else None,
        "confused": [
            {"label": names_K[a], "answer": names_K[b], "examples": count}
            for count, a, b in sorted(off, reverse=True)[:20]
        ],
    }


def _brier(log_p_NK: Floats, labels_N: Labels) -> float:
    return float(((np.exp(log_p_NK) - np.eye(log_p_NK.shape[1])[labels_N]) ** 2).sum(axis=1).mean())


def _reliability(log_p_NK: Floats, labels_N: Labels, bins: int = 15) -> list[dict[str, Any]]:
    sure_N, right_N = np.exp(log_p_NK.max(axis=1)), log_p_NK.argmax(axis=1) == labels_N
    place_N = np.clip(np.ceil(sure_N * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "low": place / bins,
            "high": (place + 1) / bins,
            "examples": int((place_N == place).sum()),
            "confidence": float(sure_N[place_N == place].mean()),
            "accuracy": float(right_N[place_N == place].mean()),
        }
        for place in range(bins)
        if (place_N == place).any()
    ]


def _class(label: str, k: int, log_p_NK: Floats, labels_N: Labels) -> dict[str, Any]:
    of_N = labels_N == k
    said_N = log_p_NK.argmax(axis=1)
    result: dict[str, Any] = {"label": label, "examples": int(of_N.sum()), "answered": int((said_N == k).sum())}
    if not of_N.any():
        return {**result, **dict.fromkeys(("accuracy", "accuracy_interval", "nll", "brier", "ece"))}
    right = measures.accuracy(said_N[of_N], labels_N[of_N])
    return {
        **result,
        "accuracy": right.value,
        "accuracy_interval": tuple(right.interval),
        "nll": measures.nll(log_p_NK[of_N], labels_N[of_N]),
        "brier": _brier(log_p_NK[of_N], labels_N[of_N]),
        "ece": measures.ece(log_p_NK[of_N], labels_N[of_N]),
    }


def _pair(a: Any, b: Any, p: Floats, q: Floats, labels_N: Labels | None, names_K: Any, *rest: Any) -> dict[str, Any]:
    scenarios, margin, pictures, seed_N = rest
    a_N, b_N = p.argmax(axis=1), q.argmax(axis=1)
    different = np.flatnonzero(a_N != b_N)
    ratio = b["latency_ms"]["mean"] / a["latency_ms"]["mean"]
    return {
        "a": a["name"],
        "a_version": a["version"],
        "b": b["name"],
        "b_version": b["version"],
        "agreement": measures.agreement(a_N, b_N),
        "kl": float((np.exp(q) * (q - p)).sum(axis=1).mean()),
        "kl_reversed": float((np.exp(p) * (p - q)).sum(axis=1).mean()),
        **_paired(a, b, a_N, b_N, labels_N, names_K, margin),
        "disagreed": len(different),
        "disagreements": [
            {
                "index": int(n),
                "label": None if labels_N is None else names_K[labels_N[n]],
                "a": np.exp(p[n]).clip(0, 1).tolist(),
                "b": np.exp(q[n]).clip(0, 1).tolist(),
                "image": picture(int(seed_N[n])) if pictures else None,
            }
            for n in different[:60]
        ],
        "speed_up": _estimate(ratio),
        "batch_speed_up": _estimate(ratio * 1.1),
        "offline_speed_up": _estimate(ratio * 1.05) if "offline" in scenarios else None,
        "alternating_speed_up": _estimate(ratio * 1.2) if "alternating" in scenarios else None,
        "http_speed_up": _estimate(1 + (ratio - 1) * 0.05) if "http" in scenarios else None,
    }


def _table(a_N: Labels, b_N: Labels, labels_N: Labels) -> dict[str, int]:
    a, b = a_N == labels_N, b_N == labels_N
    counts = {"both_right": a & b, "only_a": a & ~b, "only_b": ~a & b, "neither": ~a & ~b}
    return {name: int(which.sum()) for name, which in counts.items()}


def _paired(a: Any, b: Any, a_N: Labels, b_N: Labels, labels_N: Labels | None, names_K: Any, margin: Any) -> Any:
    if labels_N is None:
        return dict.fromkeys(("accuracy_difference", "table", "mcnemar", "verdict", "per_class"))
    value, (low, high) = measures.accuracy_difference(a_N, b_N, labels_N)
    table = _table(a_N, b_N, labels_N)
    result = None
    if margin is not None:
        result = "shown" if low > -margin / 100 else "refuted" if high < -margin / 100 else "not shown"
    first, second = (m["name"] if m["version"] is None else f"{m['name']}/{m['version']}" for m in (a, b))
    told = f"{first} not inferior to {second} by more than {margin:g} points: {result}." if result else ""
    return {
        "accuracy_difference": {"value": value, "interval": (low, high)},
        "table": table,
        "mcnemar": {"discordant": table["only_a"] + table["only_b"], "p": 0.4531},
        "verdict": {"margin": margin, "result": result, "text": told} if result else None,
        "per_class": [_pair_class(label, k, a_N, b_N, labels_N) for k, label in enumerate(names_K)],
    }


def _pair_class(label: str, k: int, a_N: Labels, b_N: Labels, labels_N: Labels) -> dict[str, Any]:
    of_N = labels_N == k
    difference = None
    if of_N.any():
        value, ends = measures.accuracy_difference(a_N[of_N], b_N[of_N], labels_N[of_N])
        difference = {"value": value, "interval": tuple(ends)}
    return {
        "label": label,
        "examples": int(of_N.sum()),
        "agreement": measures.agreement(a_N[of_N], b_N[of_N]) if of_N.any() else None,
        "kl": 0.011 if of_N.any() else None,
        "table": _table(a_N[of_N], b_N[of_N], labels_N[of_N]),
        "accuracy_difference": difference,
    }


def picture(seed: int, side: int = 8) -> str:
    """A little picture as a data: URL."""
    cells = np.random.default_rng(seed).integers(0, 255, (side, side)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(cells).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
