"""Whether a comparison finds what is there, on this machine and not on drawn latencies; three tables.

    python -m benchmarks.comparing                  # about ten minutes on 2 cores; needs wrk (apt-get install wrk)
    python -m benchmarks.comparing --repetitions 5

A model against itself: how often the interval of the speed-up holds 1. Against itself slowed by 5 %: how often that is
found. Latency through HTTP beside wrk, a client that shares no code with ours. And what a comparison costs those who
ask /predict meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.serving.load import load
from benchmarks.serving.models import examples, write_models
from benchmarks.serving.servers import as_binary, as_json, ours, running
from service.comparison.data import Data
from service.comparison.load import closed_loop
from service.comparison.measurement import measure
from service.comparison.plan import Plan
from service.comparison.remote import connect
from service.comparison.statistics import speed_up
from service.comparison.subject import Answering, Subject
from service.comparison.subjects import Chosen, of_repository
from service.machine import processors, usable_cpus
from service.manifest import GRAPH, read_manifest
from service.measures import Estimate
from service.model import Prediction

PORT = 18_766
NAMES = ("bench-student", "bench-ensemble")
SLOWDOWN = 1.05
SECONDS = 3


class Slowed(NamedTuple):
    """Another model, each of whose calls takes 5 % longer: it spins for so long after the answer."""

    model: Answering

    def run(self, inputs: np.ndarray) -> Prediction:
        """The other model's answers."""
        began = time.perf_counter()
        answer = self.model.run(inputs)
        until = began + SLOWDOWN * (time.perf_counter() - began)
        while time.perf_counter() < until:
            pass
        return answer


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparing", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--models-dir", type=Path, help="use the models there; by default they are made")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        models = options.models_dir or Path(folder)
        if options.models_dir is None:
            write_models(models)
        tables = found(models, options.repetitions), _beside_wrk(models), _meanwhile(models)
        for line in chain([f"{processors()}\n"], *tables):
            print(line, flush=True)  # noqa: T201 - what it is for


def found(models: Path, repetitions: int, blocks: int = 10) -> Iterator[str]:
    """How often a model is found to be as fast as itself, and slower than itself where it was slowed."""
    yield "| model | against itself: holds 1 | median width | 5 % slower: found | holds the truth |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    manifests = [read_manifest(models / name / "1") for name in NAMES]
    chosen = [Chosen(manifest.name, 1, manifest.files[GRAPH].sha256) for manifest in manifests]
    for subject in of_repository(models, chosen, "cpu", usable_cpus()):
        slowed = replace(subject, answering=Slowed(subject.answering))
        same, slower = [], []
        for seed in range(repetitions):
            ratios = _ratios([subject, subject, slowed], seed, blocks)
            same.append(ratios[0])
            slower.append(ratios[1])
        holds = sum(end.low <= 1 <= end.high for _, end in same)
        width = np.median([end.high - end.low for _, end in same])
        seen = sum(end.low > 1 for _, end in slower)
        true = sum(end.low <= SLOWDOWN <= end.high for _, end in slower)
        row = f"{holds} of {repetitions} | {100 * width:.1f} % | {seen} of {repetitions} | {true} of {repetitions}"
        yield f"| {subject.name} | {row} |"


def _ratios(subjects: Sequence[Subject], seed: int, blocks: int) -> list[Estimate]:
    """Speed-ups of the first against each of the others."""
    data = Data(examples(8), None, None, None, "")
    first, *others = measure(subjects, data, Plan(batch=1, blocks=blocks, seed=seed, max_batch=64))
    return [speed_up(first.kept(1), other.kept(1), seed) for other in others]


def _beside_wrk(models: Path) -> Iterator[str]:
    yield "\n| through HTTP, one connection | ours, p50 | wrk, p50 | ours / wrk |"
    yield "| --- | ---: | ---: | ---: |"
    rows = examples(1)
    for name in NAMES:
        with running(ours(models, PORT), PORT, as_json(name, rows)):
            for title, request in (("JSON", as_json(name, rows)), ("binary", as_binary(name, rows))):
                target = connect(f"http://127.0.0.1:{PORT}", name).target
                fields = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
                head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {len(request.body)}\r\n\r\n"
                pairs = []
                for _ in range(5):
                    calls = closed_loop(target, [head.encode() + request.body], SECONDS, 1)
                    theirs = load(PORT, request, 1, SECONDS).p50_ms
                    pairs.append((float(np.median(calls.latencies_s)) * 1e3, theirs))
                own, theirs = (float(np.median(part)) for part in zip(*pairs, strict=True))
                ratio = np.median([a / b for a, b in pairs])
                yield f"| {name}, {title} | {own:.3f} ms | {theirs:.3f} ms | {ratio:.3f} |"


def _meanwhile(models: Path) -> Iterator[str]:
    yield "\n| /predict, student, JSON | answers/s | p99 |"
    yield "| --- | ---: | ---: |"
    request = as_json(NAMES[0], examples(1))
    with running(ours(models, PORT), PORT, request):
        quiet = load(PORT, request, 8, SECONDS)
        asking = threading.Thread(target=_compare)
        asking.start()
        time.sleep(2)
        busy = load(PORT, request, 8, SECONDS)
        asking.join()
    yield f"| alone | {quiet.rate:.0f} | {quiet.p99_ms:.2f} ms |"
    yield f"| during a comparison | {busy.rate:.0f} | {busy.p99_ms:.2f} ms |"


def _compare() -> None:
    body = {"models": list(NAMES), "inputs": examples(8).tolist(), "scenarios": []}
    httpx.post(f"http://127.0.0.1:{PORT}/compare", json=body, timeout=120).raise_for_status()


if __name__ == "__main__":
    main(sys.argv[1:])
