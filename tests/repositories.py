"""Tiny model repositories for tests: real ONNX graphs whose answers numpy can work out by itself.

Every model is one linear layer: logits = inputs.reshape(B, D) @ W + b. Seed 0 has the weights that label the examples;
another seed has the same weights with noise of its own, so that it errs more often and mostly agrees.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service import measures
from service.app import create_app
from service.manifest import (
    GRAPH,
    HELD_OUT,
    TRAIN_HASHES,
    WORD_MODELS,
    AudioSpec,
    CascadeRule,
    DataReference,
    FileRecord,
    ImageSpec,
    InputSpec,
    Manifest,
    Metrics,
    Reference,
    Role,
    Weights,
    read_manifest,
    write_manifest,
)
from service.settings import Settings

DIGITS = tuple("0123456789")
IMAGE = ImageSpec(range=(0.0, 16.0))


def linear(shape: Sequence[int], classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights W [D, K] and b [K] of the model of that seed."""
    random, noise = np.random.default_rng(0), np.random.default_rng(seed)
    weights = random.normal(0.0, 0.05, (prod(shape), classes))
    weights -= weights.mean(axis=0)  # no class wins by brightness alone
    bias = random.normal(0.0, 0.1, classes)
    if seed:
        weights += noise.normal(0.0, 0.015, weights.shape)
        bias += noise.normal(0.0, 0.1, classes)
    return weights.astype(np.float32), bias.astype(np.float32)


def known_logits(inputs: NDArray[Any], *, classes: int = 10, seed: int = 0) -> NDArray[np.float64]:
    """What the model of that seed must answer, [B, K], worked out in float64 without onnxruntime."""
    weights, bias = linear(inputs.shape[1:], classes, seed)
    return inputs.reshape(len(inputs), -1).astype(np.float64) @ weights.astype(np.float64) + bias


def known_probabilities(
    inputs: NDArray[Any], *, classes: int = 10, seed: int = 0, temperature: float = 1.0
) -> NDArray[np.float64]:
    """softmax(known_logits / temperature), [B, K]."""
    powers = np.exp(known_logits(inputs, classes=classes, seed=seed) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def examples(
    count: int = 40, shape: Sequence[int] = (8, 8), classes: int = 10, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Whole numbers from 0 to 16, [N, ...], and the labels that the model of seed 0 gives; every tenth label is moved
    on by one class, so that this model is right on nine in ten."""
    inputs = np.random.default_rng([seed, 1]).integers(0, 17, (count, *shape)).astype(np.float32)
    labels = known_logits(inputs, classes=classes, seed=0).argmax(axis=1).astype(np.int64)
    labels[::10] = (labels[::10] + 1) % classes
    return inputs, labels


def linear_graph(shape: Sequence[int], classes: int, seed: int) -> bytes:
    """The model of that seed as ONNX."""
    return gemm_graph(shape, *linear(shape, classes, seed))


def gemm_graph(shape: Sequence[int], weights: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Weights [D, K] and a bias [K] as ONNX: Flatten, Gemm, Softmax."""
    classes = len(bias)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "W", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", classes])
            for name in ("probabilities", "logits")
        ],
        [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_model(
    root: Path,
    name: str = "digits-student",
    version: int = 1,
    *,
    role: Role = "student",
    classes: Sequence[str] = DIGITS,
    shape: Sequence[int] = (8, 8),
    image: ImageSpec | None = IMAGE,
    created: datetime | None = None,
    seed: int = 0,
    held_out: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
    teacher: Path | None = None,
    graph: bytes | None = None,
    cascade: CascadeRule | None = None,
    audio: AudioSpec | None = None,
    word_models: bytes | None = None,
) -> Path:
    """Writes <root>/<name>/<version>/ as the trainer would, in one rename, and gives that folder.

    `teacher` is the version folder of a model that stands; `created` is by default an hour later for each version;
    `held_out` is by default examples(); `graph` replaces the linear graph. A shape that is not [H, W] is no image.
    """
    shape, classes = tuple(shape), tuple(classes)
    inputs, labels = examples(shape=shape, classes=len(classes)) if held_out is None else held_out
    graph = linear_graph(shape, len(classes), seed) if graph is None else graph
    files = {
        GRAPH: graph,
        HELD_OUT: _bytes(np.savez_compressed, inputs=inputs, labels=labels),
        TRAIN_HASHES: _bytes(np.save, np.zeros(0, dtype=np.uint64)),
    }
    if word_models is not None:
        files[WORD_MODELS] = word_models
    parent = None if teacher is None else read_manifest(teacher)
    manifest = Manifest(
        name=name,
        version=version,
        role=role,
        classes=classes,
        input=InputSpec(shape=shape, image=image if len(shape) == 2 and audio is None else None, audio=audio),
        teacher=None if parent is None else _reference(parent),
        cascade=cascade,
        recipe={"name": "linear", "seed": seed},
        temperature=4.0 if parent else None,
        weights=Weights(soft=0.9, hard=0.1) if parent else None,
        data=DataReference(name="random", sha256=hashlib.sha256(files[HELD_OUT]).hexdigest()),
        seeds=(seed,),
        metrics=_metrics(known_logits(inputs, classes=len(classes), seed=seed), labels),
        largest_difference=0.0,
        parameters=(prod(shape) + 1) * len(classes),
        multiply_accumulates=prod(shape) * len(classes),
        bytes=len(graph),
        files={file: FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest()) for file, raw in files.items()},
        libraries={"onnx": onnx.__version__},
        created=created or datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=version),
    )
    staged = root / f".{name}-{version}"
    staged.mkdir(parents=True)
    for file, raw in files.items():
        (staged / file).write_bytes(raw)
    write_manifest(staged, manifest)
    _write_interface(root / name, manifest)
    return staged.rename(root / name / str(version))


def write_pair(root: Path) -> tuple[Path, Path]:
    """An ensemble and the student distilled from it, with the same held-out examples: (ensemble, student)."""
    ensemble = write_model(root, "digits-ensemble", role="ensemble", seed=0)
    return ensemble, write_model(root, "digits-student", seed=1, teacher=ensemble)


def write_cascade(root: Path, threshold: float = 0.8, temperature: float = 0.5) -> tuple[Path, Path]:
    """The pair, with a rule in the student's manifest: (ensemble, student); it is asked as digits-cascade."""
    ensemble = write_model(root, "digits-ensemble", role="ensemble", seed=0)
    rule = rule_for(ensemble, threshold, temperature)
    return ensemble, write_model(root, "digits-student", seed=1, teacher=ensemble, cascade=rule)


def rule_for(ensemble: Path, threshold: float = 0.8, temperature: float = 0.5) -> CascadeRule:
    """The rule that defers to the model in that version folder."""
    reference = _reference(read_manifest(ensemble)).model_dump()
    return CascadeRule(**reference, threshold=threshold, temperature=temperature)


def _reference(parent: Manifest) -> Reference:
    return Reference(name=parent.name, version=parent.version, sha256=parent.files[GRAPH].sha256)


def _write_interface(folder: Path, manifest: Manifest) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in manifest.classes))
    dims = ", ".join(map(str, manifest.input.shape))
    (folder / "config.pbtxt").write_text(
        f'name: "{manifest.name}"\nbackend: "onnxruntime"\nmax_batch_size: 1024\n'
        f'input [ {{ name: "input" data_type: TYPE_FP32 dims: [ {dims} ] }} ]\nversion_policy {{ all {{}} }}\n'
    )


def _metrics(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Metrics:
    log_p, predicted = measures.log_softmax(logits), logits.argmax(axis=1)
    right = measures.accuracy(predicted, labels)
    return Metrics(
        examples=len(labels),
        errors=measures.errors(predicted, labels),
        accuracy=right.value,
        accuracy_interval=(right.interval.low, right.interval.high),
        nll=measures.nll(log_p, labels),
        ece=measures.ece(log_p, labels),
    )


def _bytes(save: Any, *values: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


@asynccontextmanager
async def serving(models_dir: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real app over `models_dir`, its lifespan run, once every model there is loaded or refused.

    `settings` are fields of service.settings.Settings.
    """
    app = create_app(Settings(models_dir=models_dir, **{"device": "cpu", "threads": 1, "reload_s": 3600.0, **settings}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        await asyncio.to_thread(app.state.library.scan)  # waits for the first scan, which loads everything
        yield client


async def compared(root: Path, **bodies: dict[str, Any]) -> dict[str, Any]:
    """The answers of POST /compare to these bodies, by their names, from a service over `root`."""
    found = {}
    async with serving(root) as client:
        for name, body in bodies.items():
            answer = await client.post("/compare", json=body)
            assert answer.status_code == 200, answer.text
            found[name] = answer.json()
    return found
