"""Everything that only a GPU can show, in one call of under ten minutes: `make check-gpu`.

It trains, serves and compares on CUDA and on the CPU of one machine, and writes docs/results/gpu.md and gpu.json:
seconds of a training step, answers a second and latencies of the service, accuracy and speed-up by /compare, and which
provider was got for each. It knows what is measured, not how: training.py and serving/ do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import onnxruntime
import torch

from benchmarks.serving.load import load
from benchmarks.serving.models import MEMBER, STUDENT, examples, write_models
from benchmarks.serving.servers import as_binary, as_json, ours, running
from benchmarks.training import step_s
from service.machine import processors
from service.model import OUTPUTS
from service.recorded import SIZES, Bucket, not_recorded
from service.session import Device, open_session
from trainer.__main__ import main as train

ROOT = Path(__file__).parent.parent
PORT = 9400
CONNECTIONS = (1, 8, 32, 64)
Row = dict[str, Any]


def machine(device: str) -> Row:
    """What it runs on."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "gpu": gpu,
        "processor": processors(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "onnxruntime": onnxruntime.__version__,
    }


def tests() -> Row:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return {"exit_status": done.returncode, "summary": done.stdout.strip().splitlines()[-1]}


def training(devices: Sequence[str], steps: int, sizes: Sequence[int], members: int) -> Iterator[Row]:
    """A step of one network and of all members at once, batch 256."""
    for device in devices:
        for count in (1, members):
            seconds = step_s(sizes, count, 256, steps, device)
            yield {"device": device, "network": "-".join(map(str, sizes)), "members": count, "step_ms": seconds * 1e3}


def serving(models: Path, devices: Sequence[str], connections: Sequence[int], seconds: int) -> Iterator[Row]:
    """The service under load, JSON and binary."""
    rows = examples(1)
    for device in devices:
        with running(ours(models, PORT, ["--device", device]), PORT, as_json("bench-student", rows)) as server:
            providers = {model["name"]: model["provider"] for model in _get("/models")["models"]}
            for model in ("bench-student", "bench-ensemble"):
                for kind, request in (("JSON", as_json(model, rows)), ("binary", as_binary(model, rows))):
                    load(PORT, request, 1, 1)  # warms up
                    for count in connections:
                        found = load(PORT, request, count, seconds)._asdict()
                        yield {
                            "device": device,
                            "provider": providers[model],
                            "model": model,
                            "kind": kind,
                            "connections": count,
                            "first_answer_s": server.first_answer_s,
                            **found,
                        }


def runs(models: Path, devices: Sequence[str], sizes: Sequence[int], repetitions: int) -> Iterator[Row]:
    """A run of a session as it is, against one from fixed buffers, which on CUDA is recorded."""
    for device in devices:
        for model in ("bench-student", "bench-ensemble"):
            graph = (models / model / "1" / "model.onnx").read_bytes()
            session = open_session(graph, device=cast(Device, device), threads=1, records=device == "cuda")
            shape, classes = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1]
            for rows in sizes:
                bucket = Bucket(session, rows, shape, OUTPUTS, classes, device)
                inputs = examples(rows).reshape(rows, *shape)
                plain = partial(session.run, OUTPUTS, {"input": inputs}, not_recorded())
                plain_ms, fixed_ms = (
                    1e3 * median(timeit.repeat(run, number=1, repeat=repetitions))
                    for run in (plain, partial(bucket.run, inputs))
                )
                yield {"device": device, "model": model, "rows": rows, "session_ms": plain_ms, "recorded_ms": fixed_ms}


def compared(models: Path, devices: Sequence[str], pairs: Sequence[str], blocks: int) -> Iterator[Row]:
    """Ensemble against student by /compare: the digits' with their accuracy, the benchmark's for their speed."""
    for device in devices:
        with running(ours(models, PORT, ["--device", device]), PORT, as_json("bench-student", examples(1))):
            for name in pairs:
                asked = {"models": [f"{name}-ensemble", f"{name}-student"], "blocks": blocks, "scenarios": []}
                report = _get("/compare", json.dumps(asked).encode())
                yield {"device": device, "pair": name, "report": report}


def _get(path: str, body: bytes | None = None) -> Any:
    asked = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body)
    with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def measure(device: str, *, quick: bool) -> Row:
    """All of it; `quick` takes tiny networks and seconds: only that it runs."""
    devices = ["cpu", device] if device != "cpu" else ["cpu"]
    student, member, steps, seconds = ((784, 8, 10), (784, 8, 10), 2, 1) if quick else (STUDENT, MEMBER, 30, 2)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        write_models(models, student, member)
        if not quick:
            train(["train", "digits", "--device", device, "--models-dir", str(models), "--runs-dir", f"{folder}/runs"])
        pairs = ["bench"] if quick else ["digits", "bench"]
        has_wrk = shutil.which("wrk") is not None
        found = {
            "machine": machine(device),
            "tests": None if quick else tests(),
            "training": list(training(devices, steps, member, 2 if quick else 10)),
            "runs": list(runs(models, devices, (1, 2) if quick else SIZES, 3 if quick else 100)),
            "serving": list(serving(models, devices, (8,) if quick else CONNECTIONS, seconds))
            if has_wrk
            else "wrk is not installed",
            "compared": list(compared(models, devices, pairs, 3 if quick else 10)),
        }
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def in_words(found: Row) -> str:
    """The figures in Markdown."""
    named = ", ".join(f"{name} {value}" for name, value in found["machine"].items() if value)
    lines = ["# On a GPU", "", "    make check-gpu", "", f"{named}; {found['seconds']} s in all.", ""]
    if found["tests"]:
        lines += [f"Tests that need a GPU: {found['tests']['summary']}", ""]
    lines += ["## Training", "", "| device | network | members | ms a step of 256 |", "|---|---|---:|---:|"]
    lines += [
        f"| {row['device']} | {row['network']} | {row['members']} | {row['step_ms']:.2f} |" for row in found["training"]
    ]
    lines += ["", "## Serving, one row", ""]
    if isinstance(found["serving"], str):
        lines += [f"Not measured: {found['serving']}."]
    else:
        lines += ["| device | provider | model | sent as | connections | answers/s | p50, ms | p99, ms |"]
        lines += ["|---|---|---|---|---:|---:|---:|---:|"]
        lines += [
            f"| {row['device']} | {row['provider']} | {row['model']} | {row['kind']} | {row['connections']} "
            f"| {row['rate']:.0f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} |"
            for row in found["serving"]
        ]
    lines += ["", "## Recorded runs", "", "| device | model | rows | session, ms | recorded, ms | times |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['device']} | {row['model']} | {row['rows']} | {row['session_ms']:.3f} | {row['recorded_ms']:.3f} "
        f"| {row['session_ms'] / row['recorded_ms']:.2f} |"
        for row in found["runs"]
    ]
    lines += ["", "## Ensemble against student, by /compare", ""]
    lines += ["| device | model | provider | accuracy | one row, ms | batch, ms | speed-up of one row, of a batch |"]
    lines += ["|---|---|---|---:|---:|---:|---|"]
    for row in found["compared"]:
        lines += _compared_lines(row["device"], row["report"])
    return "\n".join([*lines, ""])


def _compared_lines(device: str, report: Row) -> Iterator[str]:
    (pair,) = report["pairs"]
    for model in report["models"]:
        speeds = [pair[kind] for kind in ("speed_up", "batch_speed_up")] if model["name"] == pair["a"] else []
        shown = [f"{s['value']:.2f} [{s['interval'][0]:.2f}, {s['interval'][1]:.2f}]" for s in speeds]
        times = f"{model['latency_ms']['p50']:.3f} | {model['batch']['latency_ms']['p50']:.3f}"
        yield (
            f"| {device} | {model['name']} | {model['provider']} | {model['accuracy']:.4f} "
            f"| {times} | {', '.join(shown)} |"
        )


def main(arguments: Sequence[str]) -> int:
    """Writes both files, and ends with 1 where a test failed or CUDA was not got."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--results-dir", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--quick", action="store_true", help="tiny networks, no tests: only that it runs")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch finds no CUDA device: nothing was measured")  # noqa: T201 - it is a program
        return 0
    found = measure(given.device, quick=given.quick)
    given.results_dir.mkdir(parents=True, exist_ok=True)
    (given.results_dir / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.results_dir / "gpu.md").write_text(in_words(found))
    print(in_words(found))  # noqa: T201
    return found["tests"]["exit_status"] if found["tests"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
