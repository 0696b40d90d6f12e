"""The models of the serving benchmarks: MNIST's shapes with random weights, published as the trainer would.

It knows networks and manifests, not servers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from service.manifest import (
    GRAPH,
    DataReference,
    FileRecord,
    ImageSpec,
    InputSpec,
    Manifest,
    Metrics,
    Role,
    read_manifest,
    write_manifest,
)
from trainer.data.split import Part
from trainer.ensemble import Ensemble, Single
from trainer.export import multiply_accumulates, to_onnx
from trainer.networks import Normalise, Stack
from trainer.publish import Artefact, publish
from trainer.quantize import int8

SHAPE = (28, 28)
CLASSES = tuple("0123456789")
STUDENT = (784, 800, 800, 10)
MEMBER = (784, 1200, 1200, 10)
MEMBERS = 10


def write_models(models_dir: Path, student: Sequence[int] = STUDENT, member: Sequence[int] = MEMBER) -> None:
    """`bench-ensemble`, `bench-student`, and that student's products in int8."""
    single = Single(_networks(student, 1)[0])
    graph = to_onnx(single, SHAPE)
    ensemble = Ensemble(_networks(member, MEMBERS), "arithmetic")
    _publish(models_dir, "bench-ensemble", "ensemble", ensemble, to_onnx(ensemble, SHAPE))
    _publish(models_dir, "bench-student-int8", "student", single, int8(graph, examples(256)))
    _publish(models_dir, "bench-student", "student", single, graph)


def publish_again(models_dir: Path, name: str) -> int:
    """The newest version of a model once more, as the next one: its number."""
    newest = max((models_dir / name).glob("[0-9]*"), key=lambda folder: int(folder.name))
    version = int(newest.name) + 1
    staged = models_dir / f".{name}-{version}" / name / str(version)
    shutil.copytree(newest, staged)
    manifest = read_manifest(newest)
    write_manifest(staged, manifest.model_copy(update={"version": version, "created": datetime.now(UTC)}))
    staged.rename(newest.with_name(str(version)))
    shutil.rmtree(models_dir / f".{name}-{version}")
    return version


def examples(rows: int, seed: int = 0) -> np.ndarray:
    """Images float32 [N, 28, 28] of which four pixels in five are 0, as in MNIST."""
    rng = np.random.default_rng(seed)
    lit = rng.random((rows, *SHAPE)) < 0.2
    return np.where(lit, rng.integers(0, 256, lit.shape), 0).astype(np.float32)


def _networks(sizes: Sequence[int], count: int) -> list[nn.Module]:
    stack = Stack(sizes, list(range(count)), Normalise(torch.tensor(0.0), torch.tensor(255.0)))
    return [stack.member(member) for member in range(count)]


def _publish(models_dir: Path, name: str, role: Role, module: nn.Module, graph: bytes) -> None:
    shown = Part(examples(8), np.zeros(8, dtype=np.int64))

    def manifest(version: int, files: dict[str, FileRecord]) -> Manifest:
        return Manifest(
            name=name,
            version=version,
            role=role,
            classes=CLASSES,
            input=InputSpec(shape=SHAPE, image=ImageSpec(range=(0.0, 255.0))),
            recipe={"name": "bench"},
            data=DataReference(name="random", sha256="0" * 64),
            seeds=(0,),
            metrics=Metrics(examples=8, errors=8, accuracy=0.0, accuracy_interval=(0.0, 1.0), nll=2.3, ece=0.0),
            largest_difference=0.0,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            multiply_accumulates=multiply_accumulates(module, SHAPE),
            bytes=files[GRAPH].bytes,
            files=files,
            libraries={"torch": torch.__version__},
            created=datetime.now(UTC),
        )

    publish(models_dir, Artefact(name, CLASSES, SHAPE, graph, shown, shown.inputs, manifest))
