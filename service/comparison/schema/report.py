"""The whole report, `stillroom.compare/1`. It computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from service.comparison.schema.conditions import DataUsed, Machine, SettingsUsed
from service.comparison.schema.part import Estimate, Fraction, Interval, Part
from service.comparison.schema.quality import (
    ClassQuality,
    Confused,
    Disagreement,
    LabelFlips,
    McNemar,
    PairOnClass,
    ReliabilityBin,
    TwoByTwo,
    Verdict,
)
from service.comparison.schema.speed import (
    Alternating,
    Batch,
    ColdStart,
    Cost,
    Latency,
    Offline,
    Server,
    ThroughHttp,
)

SCHEMA: Literal["stillroom.compare/1"] = "stillroom.compare/1"


class CascadeUsed(Part):
    """What a cascade is made of: it passes a row on where the largest of softmax(logits / temperature) of its student
    is below the threshold."""

    student: str = Field(description="name/version")
    asks: str = Field(description="the model that answers then")
    asks_version: int
    asks_sha256: str = Field(description="of its graph")
    threshold: Fraction
    temperature: float


class ComparedModel(Part):
    """One model: how good it is on these examples, how fast on this machine, how big."""

    name: str
    version: int | None = Field(description="null for a file or a server that tells none")
    role: str = Field(description="ensemble, student, ...; cascade; file; remote")
    sha256: str | None = Field(description="of its graph; of a cascade, of its student's")
    accuracy: float | None = Field(description="share of right labels; null without labels")
    accuracy_interval: Interval | None = Field(description="Wilson score interval")
    nll: float | None = Field(description="mean negative log-likelihood in nats; null without labels")
    brier: float | None = Field(description="mean squared distance from the right answer, 0 to 2; null without labels")
    ece: float | None = Field(description="expected calibration error over 15 bins; null without labels")
    reliability: list[ReliabilityBin] | None = Field(description="the bins of ece; null without labels")
    per_class: list[ClassQuality] | None = Field(description="null without labels")
    confusion: list[list[int]] | None = Field(
        description="examples by right label (row) and answer (column); null without labels and above 50 classes"
    )
    confused: list[Confused] | None = Field(description="the most frequent confusions, at most 20")
    label_flips: LabelFlips
    deferred: Fraction | None = Field(description="share of the examples that a cascade passes on; null for others")
    cascade: CascadeUsed | None = Field(default=None, description="null for others")
    latency_ms: Latency = Field(description="of one row at a time")
    calls: int = Field(description="calls of one row that count")
    batch: Batch
    throughput: float = Field(description="rows per second at that batch size")
    offline: Offline | None = Field(description="null where it was not asked for")
    server: Server | None = Field(description="null where it was not asked for")
    alternating: Alternating | None = Field(description="null where it was not asked for")
    http: ThroughHttp | None = Field(description="null where it was not asked for")
    cold_start: ColdStart | None
    cost: Cost
    parameters: int | None
    bytes: int | None = Field(description="size of the graph on disk")
    multiply_accumulates: int | None = Field(
        description="for one example; of a cascade, what is expected at the share of the examples that it passes on"
    )
    provider_asked: str | None
    provider: str | None = Field(description="the onnxruntime provider that ran it")
    threads: int | None = Field(description="threads of its session")


class Pair(Part):
    """Two models on the same examples: a was named before b."""

    a: str
    a_version: int | None
    b: str
    b_version: int | None
    agreement: float = Field(description="share of examples that both give the same label")
    kl: float = Field(description="mean KL(b || a) in nats: how far a is from b, where b is the teacher")
    kl_reversed: float = Field(description="mean KL(a || b) in nats")
    accuracy_difference: Estimate | None = Field(
        description="accuracy of a minus accuracy of b, paired (Bonett and Price 2012); null without labels"
    )
    table: TwoByTwo | None = Field(description="null without labels")
    mcnemar: McNemar | None = Field(description="null without labels")
    verdict: Verdict | None = Field(description="null without labels, and where no margin was stated")
    per_class: list[PairOnClass] | None = Field(
        description="null without labels; above 50 classes the 50 on which the two differ most"
    )
    disagreed: int = Field(description="examples to which the two give different labels")
    disagreements: list[Disagreement] = Field(description="the first of those, at most 60, with many classes fewer")
    speed_up: Estimate = Field(description="mean latency of b / mean latency of a, one row at a time: above 1, a wins")
    batch_speed_up: Estimate = Field(description="the same at the batch size that was asked for")
    offline_speed_up: Estimate | None = Field(description="throughput of a / throughput of b, each at its best batch")
    alternating_speed_up: Estimate | None = Field(description="as speed_up, where the models take turns")
    http_speed_up: Estimate | None = Field(description="as speed_up, for the whole path of a request")


class CascadeGain(Part):
    """A cascade against the model that it asks."""

    name: str
    version: int | None
    asks: str
    asks_version: int | None
    deferred: Fraction = Field(description="share of the examples that it passes on")
    accuracy_difference: Estimate | None = Field(
        description="accuracy of the cascade minus that of the model that it asks, paired; null without labels"
    )
    multiply_accumulates_ratio: float | None = Field(
        description="of the cascade's for one example, as expected at that share, to those of the model that it asks"
    )
    time_ratio: Estimate = Field(description="of their mean latencies, one row at a time: below 1, the cascade wins")
    text: str = Field(description="all of it in one sentence")


class Report(Part):
    """A whole comparison."""

    model_config = ConfigDict(serialize_by_alias=True)

    # `schema` alone would hide a method of BaseModel.
    schema_: Literal["stillroom.compare/1"] = Field(default=SCHEMA, alias="schema")
    id: str | None = Field(default=None, description="under which the service keeps it: GET /compare/{id}")
    created: AwareDatetime
    models: list[ComparedModel]
    pairs: list[Pair]
    cascades: list[CascadeGain] = Field(default=[], description="those that are compared with the model that they ask")
    data: DataUsed
    settings: SettingsUsed
    machine: Machine
    seconds: float = Field(description="that the whole comparison took")
    other_runs: int = Field(
        default=0, description="batches that models ran for POST /predict meanwhile: above 0, these shared the machine"
    )
