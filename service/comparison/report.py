"""The answer of POST /compare, `stillroom.compare/1`: what each number is. It computes nothing.

Fields are added, never renamed. Every interval is of 95 %.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]


class Part(BaseModel):
    """A part of the report: immutable, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Part):
    """A value and its 95 % interval."""

    value: float
    interval: Interval


class Latency(Part):
    """Milliseconds of one call over all blocks; null where there are too few calls to tell."""

    mean: float
    p50: float
    p90: float | None = Field(description="from 64 calls on")
    p99: float | None = Field(description="from 662 calls on")


class Batch(Part):
    """Speed at the batch size that was asked for."""

    size: int = Field(description="rows in each call")
    latency_ms: Latency
    calls: int = Field(description="calls that count")


class ComparedModel(Part):
    """One model: how good it is on these examples, how fast on this machine, how big."""

    name: str
    version: int
    role: str
    accuracy: float | None = Field(description="share of right labels; null without labels")
    accuracy_interval: Interval | None = Field(description="Wilson score interval")
    nll: float | None = Field(description="mean negative log-likelihood in nats; null without labels")
    ece: float | None = Field(description="expected calibration error over 15 bins; null without labels")
    latency_ms: Latency = Field(description="of one row at a time")
    calls: int = Field(description="calls of one row that count")
    batch: Batch
    throughput: float = Field(description="rows per second at that batch size")
    parameters: int
    bytes: int = Field(description="size of the graph on disk")
    multiply_accumulates: int = Field(description="for one example")
    provider: str = Field(description="the onnxruntime provider that ran it")
    threads: int = Field(description="threads of its session")


class Pair(Part):
    """Two models on the same examples: a was named before b."""

    a: str
    a_version: int
    b: str
    b_version: int
    agreement: float = Field(description="share of examples that both give the same label")
    accuracy_difference: Estimate | None = Field(
        description="accuracy of a minus accuracy of b, paired (Bonett and Price 2012); null without labels"
    )
    speed_up: Estimate = Field(description="mean latency of b / mean latency of a, one row at a time: above 1, a wins")
    batch_speed_up: Estimate = Field(description="the same at the batch size that was asked for")


class DataUsed(Part):
    """What the models were compared on."""

    dataset: str | None = Field(description="null for inputs that were sent")
    examples: int
    labelled: bool
    seed: int = Field(description="of the draw")
    sha256: str = Field(description="of the held-out file, or of the inputs that were sent as float32 in C order")


class Repeat(Part):
    """A body for POST /compare that repeats this comparison; inputs that were sent must be added to it."""

    models: list[str]
    dataset: str | None
    limit: int | None
    seed: int
    batch: int
    blocks: int


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


class Machine(Part):
    """What it ran on."""

    processor: str
    cpus: int = Field(description="CPUs that the service may use")
    load_average: float = Field(description="processes running or waiting, over the minute before: what else ran")
    system: str
    python: str
    onnxruntime: str


class Report(Part):
    """A whole comparison."""

    model_config = ConfigDict(serialize_by_alias=True)

    # `schema` alone would hide a method of BaseModel.
    schema_: Literal["stillroom.compare/1"] = Field(default="stillroom.compare/1", serialization_alias="schema")
    models: list[ComparedModel]
    pairs: list[Pair]
    data: DataUsed
    settings: SettingsUsed
    machine: Machine
    seconds: float = Field(description="that the whole comparison took")
    other_runs: int = Field(
        default=0, description="batches that models ran for POST /predict meanwhile: above 0, these shared the machine"
    )
