"""The parts of a report that say under which conditions it came about: enough to repeat it. It computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.comparison.schema.part import Count, Part


class Overlap(Part):
    """Examples that were compared on and that a model was trained on, by the hash of their bytes."""

    name: str
    version: int | None
    known: bool = Field(description="whether the model names the examples that it was trained on")
    examples: Count | None = Field(description="how many of the comparison's examples are among them")


class DataUsed(Part):
    """What the models were compared on."""

    dataset: str | None = Field(description="null for inputs that were sent")
    examples: int
    labelled: bool
    seed: int = Field(description="of the draw")
    sha256: str = Field(description="of the held-out file, or of the inputs that were sent as float32 in C order")
    classes: list[str] = Field(description="in the order of every list of probabilities")
    overlap: list[Overlap] = Field(description="with the training set of each model")


class Repeat(Part):
    """A body for POST /compare that repeats this comparison; inputs that were sent must be added to it."""

    models: list[str]
    dataset: str | None
    limit: int | None
    seed: int
    batch: int
    blocks: int
    calls: int
    margin: float | None
    scenarios: list[str]
    threads: int
    rate: float | None
    price_per_hour: float | None


class SettingsUsed(Part):
    """How it was measured: steady state, one model at a time, in blocks of random order."""

    request: Repeat
    traffic: Literal["steady state"] = "steady state"
    block_ms: float = Field(description="each block runs at least so long, and at least three calls")
    discarded: float = Field(description="share of each block's calls, the first ones, that does not count")
    warm_up_ms: float = Field(description="each model and batch size runs at least so long before the first block")
    resamples: int = Field(description="of the block bootstrap behind the intervals of speed-ups")
    spinning: bool = Field(description="whether idle threads spin, which slows the other models")
    temperature: float = Field(description="of every answer")
    rows_repeat: bool = Field(description="there were fewer examples than rows in a batch, so they repeat in it")
    ece_bins: int = Field(description="of equal width")


class Machine(Part):
    """What it ran on."""

    processor: str
    cpus: int = Field(description="CPUs that the service may use")
    gpus: list[str] = Field(description="as the driver names them")
    load_average: float = Field(description="processes running or waiting, over the minute before: what else ran")
    memory_bytes: int | None = Field(description="of the machine")
    cpu_limit: float | None = Field(description="CPUs that the container may use; null without a limit")
    memory_limit_bytes: int | None = Field(description="of the container; null without a limit")
    system: str
    python: str
    onnxruntime: str
    numpy: str
    stillroom: str
