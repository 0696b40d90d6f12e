"""A served module becomes one ONNX graph, proved against PyTorch. It does not know the model repository."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from service import measures
from service.session import open_session
from trainer.ensemble import predict
from trainer.errors import ExportError
from trainer.networks import parameters

TOLERANCE = 1e-4
"""The largest difference of a probability from PyTorch's that an export may show."""


class Exported(NamedTuple):
    """A graph and what is known of it before it is judged: see the manifest's keys of the same names."""

    graph: bytes
    largest_difference: float
    parameters: int
    multiply_accumulates: int
    cpu_ms: float

    @property
    def sha256(self) -> str:
        """The SHA-256 of the graph's bytes."""
        return hashlib.sha256(self.graph).hexdigest()


def export(module: nn.Module, inputs: NDArray[np.float32]) -> Exported:
    """Exports a served module and proves it on real inputs [N, ...]. Raises ExportError."""
    shape = inputs.shape[1:]
    graph = to_onnx(module, shape)
    return Exported(
        graph=graph,
        largest_difference=prove(graph, module, inputs),
        parameters=parameters(module),
        multiply_accumulates=multiply_accumulates(module, shape),
        cpu_ms=cpu_milliseconds(graph, inputs[:1]),
    )


def to_onnx(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The bytes of a graph `input` [B, *shape] -> `probabilities`, `logits` [B, K], with a free B."""
    module = module.cpu().eval()
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            dynamo=True,
            input_names=["input"],
            output_names=["probabilities", "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise ExportError("PyTorch's exporter gave no graph")
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        part.ClearField("metadata_props")  # stack traces with this machine's paths
    proto.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    return bytes(proto.SerializeToString(deterministic=True))


def prove(graph: bytes, module: nn.Module, inputs: NDArray[np.float32]) -> float:
    """The largest absolute difference of a probability between the graph and PyTorch over inputs [N, ...].

    Raises ExportError above TOLERANCE.
    """
    session = open_session(graph, device="cpu", threads=1)
    probabilities, logits = session.run(["probabilities", "logits"], {"input": inputs})
    found = np.stack([probabilities, np.exp(measures.log_softmax(logits))])  # softened answers come from the logits
    expected = predict(module.cpu().eval(), torch.from_numpy(inputs)).softmax(dim=-1)
    difference = float(np.abs(found - expected.numpy()).max())
    if not difference <= TOLERANCE:  # NaN must not pass
        raise ExportError(f"the graph differs from PyTorch by {difference:.2g}, at most {TOLERANCE} is allowed")
    return difference


def multiply_accumulates(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiplications per example in matrix products and convolutions."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module.cpu().eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2  # the counter takes a multiplication and an addition for two


def cpu_milliseconds(graph: bytes, example: NDArray[np.float32], budget_s: float = 0.5) -> float:
    """The median time of one row [1, ...] on one CPU thread, in ms; the first half of `budget_s` warms up."""
    session = open_session(graph, device="cpu", threads=1)
    return milliseconds(lambda: session.run(None, {"input": example}), budget_s)


def milliseconds(run: Callable[[], object], budget_s: float = 0.5) -> float:
    """The median time of a run, in ms; the first half of `budget_s` warms up."""
    samples: list[float] = []
    for _ in range(2):  # the first round warms up
        samples.clear()
        end = time.perf_counter() + budget_s / 2
        while time.perf_counter() < end or len(samples) < 3:
            start = time.perf_counter()
            run()
            samples.append(time.perf_counter() - start)
    return float(np.median(samples)) * 1000.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own remarks (torchvision is not installed, a deprecated helper inside PyTorch) to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
