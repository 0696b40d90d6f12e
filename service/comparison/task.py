"""A comparison as bytes, and the process that does it: what the service hands over and gets back.

It runs in a process of its own, so that its timing shares no interpreter with the service, that it can be ended at any
moment, and that sessions with the same threads for every model are made and gone with it. It yields the processor to
/predict: its priority is lower.

To it: a line of JSON that says where the service can be asked, a line that says what to compare, and the arrays of the
data as .npz. From it: lines of JSON, each {"progress": ...}, and a last one
{"report": ..., "samples": bytes that follow} or {"error": ..., "status": ...}.
"""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from service.comparison.compare import compare
from service.comparison.data import Data
from service.comparison.measurement import Measured
from service.comparison.plan import Plan, Progress
from service.comparison.remote import connect
from service.comparison.statistics import Seconds
from service.comparison.subject import Subject
from service.comparison.subjects import Chosen, of_repository
from service.errors import StillroomError
from service.session import Device

NICER = 5


@dataclass(frozen=True)
class Task:
    """Which models of which repository, on which device and data, and how it is measured."""

    directory: str
    models: list[Chosen]
    device: Device
    plan: Plan
    data: Data

    def to_bytes(self) -> bytes:
        """A line of JSON and an .npz."""
        fields = {"directory": self.directory, "models": list(map(tuple, self.models)), "device": self.device}
        plan = {each.name: getattr(self.plan, each.name) for each in dataclasses.fields(Plan) if each.name != "tell"}
        about = {name: getattr(self.data, name) for name in ("dataset", "limit", "sha256")}
        arrays = {"inputs": self.data.inputs}
        if self.data.labels is not None:
            arrays["labels"] = self.data.labels  # type: ignore[assignment]  # whole numbers
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return orjson.dumps({**fields, "plan": plan, "about": about}) + b"\n" + buffer.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Task:
        """The task that `to_bytes` wrote."""
        line, _, rest = raw.partition(b"\n")
        fields = orjson.loads(line)
        about = fields.pop("about")
        with np.load(io.BytesIO(rest), allow_pickle=False) as arrays:
            data = Data(arrays["inputs"], arrays.get("labels"), **about)
        models = [Chosen(*model) for model in fields.pop("models")]
        plan = fields.pop("plan")
        plan["scenarios"] = tuple(plan["scenarios"])
        return cls(models=models, data=data, plan=Plan(**plan), **fields)


def samples(measured: Sequence[Measured]) -> bytes:
    """The raw latencies in seconds, as .npz: an array for each block, named by model, scenario and block."""
    arrays: dict[str, Seconds] = {}
    for index, one in enumerate(measured):
        place = f"{index}-{one.subject.name}"
        for size, blocks in one.blocks.items():
            arrays |= {f"{place}/batch-{size}/{at}": block.kept_s for at, block in enumerate(blocks)}
        arrays |= {f"{place}/offline-{one.best}/{at}": block.kept_s for at, block in enumerate(one.offline)}
        arrays |= {f"{place}/alternating/{at}": kept_s for at, kept_s in enumerate(one.turns)}
        arrays |= {f"{place}/server/{at}": served.kept_s for at, served in enumerate(one.served)}
        if one.asked is not None:
            arrays |= {f"{place}/http/{at}": kept_s for at, kept_s in enumerate(one.asked.single)}
            arrays |= {f"{place}/http-batch/{at}": kept_s for at, kept_s in enumerate(one.asked.batched)}
            arrays |= {f"{place}/http-server/{at}": kept_s for at, kept_s in enumerate(one.asked.arrived)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: kept_s.astype(np.float32) for name, kept_s in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def perform(raw: bytes, out: BinaryIO) -> None:
    """Does the task and writes what is to be told, as the module says."""

    def tell(progress: Progress) -> None:
        _write(out, {"progress": asdict(progress)})

    line, _, rest = raw.partition(b"\n")
    try:
        task = Task.from_bytes(rest)
        plan = dataclasses.replace(task.plan, tell=tell)
        tell(Progress(0.0, 0.0, "loading the models"))
        subjects = of_repository(Path(task.directory), task.models, task.device, plan.threads)
        if "http" in plan.scenarios:
            subjects = [_with_remote(subject, **orjson.loads(line)) for subject in subjects]
        report, measured = compare(subjects, task.data, plan)
    except StillroomError as error:
        _write(out, {"error": str(error), "status": error.status})
        return
    kept = samples(measured)
    _write(out, {"report": report.model_dump_json(), "samples": len(kept)})
    out.write(kept)
    out.flush()


def _with_remote(subject: Subject, url: str, key: str | None) -> Subject:
    headers = [] if key is None else [("Authorization", f"Bearer {key}")]
    return dataclasses.replace(subject, remote=connect(url, subject.name, subject.version, headers))


def _write(out: BinaryIO, line: Mapping[str, Any]) -> None:
    out.write(orjson.dumps(line) + b"\n")
    out.flush()


if __name__ == "__main__":
    # Whoever ends the service may signal all its processes: this one is ended by whoever waits for it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICER)
    perform(sys.stdin.buffer.read(), sys.stdout.buffer)
