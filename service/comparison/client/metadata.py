"""What a server says of a model: which input takes the rows, which outputs hold the answer. It asks nothing itself.

A shape may have the batch in front, as -1, or as a number, or not at all; there the rows decide. What is wrong is a
ValueError.
Legend: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from service.comparison.client.tensors import FLOATS, Tensor, tensors_of
from service.protocol.datatypes import NUMBERS

NAMED = ("probabilities", "logits")


class Interface(NamedTuple):
    """The input, the names of the outputs to ask for, K and the most rows of a request, where they are told."""

    input: Tensor
    outputs: tuple[str, ...]
    classes: int | None
    max_rows: int | None


def read_interface(metadata: dict[str, Any], config: dict[str, Any]) -> Interface:
    """From a model's metadata and Triton's configuration, empty where the server has none."""
    inputs, outputs = (_tensors(metadata, name) for name in ("inputs", "outputs"))
    numbers = [tensor for tensor in inputs if tensor.datatype in NUMBERS and tensor.datatype != "BOOL"]
    if len(inputs) != 1 or not numbers:
        raise ValueError(f"the model takes {_listed(inputs)}, expected one input of numbers")
    answers = _answers(outputs)
    most = config.get("max_batch_size")
    known = answers[0].shape[-1] if answers[0].shape else -1
    return Interface(
        input=numbers[0],
        outputs=tuple(tensor.name for tensor in answers),
        classes=known if known > 0 else None,
        max_rows=most if type(most) is int and most > 0 else None,
    )


def fit(interface: Interface, shape: Sequence[int]) -> list[int]:
    """The shape in which rows [B, ...] go to a server, which may want each row flat, or not flat."""
    rows, row = shape[0], list(shape[1:])
    if interface.max_rows is not None and rows > interface.max_rows:
        raise ValueError(f"got {rows} rows, expected at most {interface.max_rows} in a request")
    told = interface.input.shape
    with_batch = bool(told) and told[0] in (-1, rows)
    without = not told or told[0] != -1
    for each in [told[1:]] * with_batch + [told] * without:
        if len(each) == len(row) and all(size in (-1, given) for size, given in zip(each, row, strict=True)):
            return [rows, *row]
        if -1 not in each and prod(each) == prod(row):
            return [rows, *each]
    raise ValueError(f"got rows of {row}, expected input {interface.input.name} of {told}")


def _answers(outputs: list[Tensor]) -> list[Tensor]:
    floats = {tensor.name: tensor for tensor in outputs if tensor.datatype in FLOATS}
    if named := [floats[name] for name in NAMED if name in floats]:
        return named
    wide = [tensor for tensor in floats.values() if len(tensor.shape) in (1, 2) and tensor.shape[-1] != 1]
    if len(wide) != 1:
        raise ValueError(
            f"the model gives {_listed(outputs)}, expected probabilities or logits, or one output of floats [-1, K]"
        )
    return wide


def _tensors(metadata: dict[str, Any], name: str) -> list[Tensor]:
    return [Tensor(each["name"], each["datatype"], each["shape"]) for each in tensors_of(metadata, name)]


def _listed(tensors: list[Tensor]) -> str:
    return ", ".join(f"{name} {datatype} {shape}" for name, datatype, shape in tensors)[:200] or "nothing that it names"
