"""The parts of a report that say how fast the models are and what they cost. It computes nothing."""

from __future__ import annotations

from pydantic import Field

from service.comparison.schema.part import Count, Estimate, Fraction, Interval, Part


class Latency(Part):
    """Milliseconds of one call over all blocks; null where there are too few calls to tell."""

    mean: float
    p50: float
    p90: float | None = Field(description="from 64 calls on")
    p99: float | None = Field(description="from 662 calls on")
    p99_9: float | None = Field(description="from 6,636 calls on")
    mean_interval: Interval = Field(description="block bootstrap, as that of every percentile here")
    p50_interval: Interval
    p90_interval: Interval | None
    p99_interval: Interval | None
    p99_9_interval: Interval | None
    quantiles: list[tuple[Fraction, float]] = Field(
        description="the distribution for a plot: pairs of share and the milliseconds which that share stays within"
    )


class Batch(Part):
    """Speed at the batch size that was asked for."""

    size: int = Field(description="rows in each call")
    latency_ms: Latency
    calls: int = Field(description="calls that count")


class TriedBatch(Part):
    """A batch size that was tried, shortly."""

    size: int
    throughput: float = Field(description="rows per second")


class Offline(Part):
    """All examples at hand at once, MLPerf's offline scenario: rows per second at the model's best batch size."""

    batch: int = Field(description="the best of those that were tried")
    throughput: Estimate = Field(description="rows per second")
    tried: list[TriedBatch]


class Server(Part):
    """Single rows that arrive at random, MLPerf's server scenario: an open loop.

    Arrivals are a Poisson process, the same for every model. Latency counts from the moment at which a request was to
    be sent, so that one that had to wait to be sent is not excused. What has arrived while the model was busy runs
    next, in one batch.
    """

    rate: float = Field(description="requests per second that arrive")
    seconds: float
    requests: Count = Field(description="that count, after the first tenth")
    failures: Count = Field(description="requests without a good answer")
    latency_ms: Latency | None = Field(description="of the good answers; null without any")
    rows_per_run: float | None = Field(description="mean batch; null where the runs are not ours to see")
    kept_up: bool = Field(description="the queue did not grow: there were at least 0.95 answers for each arrival")
    pace: Fraction | None = Field(
        default=None,
        description="answers for each arrival while the last two thirds of a block arrived, the median of the blocks: "
        "1 where the least latency did not grow and nothing failed",
    )


class Alternating(Part):
    """Latency of single rows where the models take turns, call by call: each finds its weights evicted."""

    latency_ms: Latency
    calls: int


class ThroughHttp(Part):
    """The whole path of a request: HTTP, parsing, queue, model and answer, over the loopback interface or a network."""

    url: str
    encoding: str = Field(description="of the rows in a request: binary or JSON")
    latency_ms: Latency | None = Field(description="one request of one row after the other, on one connection")
    calls: Count
    failures: Count
    batch: int = Field(description="rows in each request of the throughput below")
    throughput: Estimate | None = Field(description="rows per second, one request after the other")
    server: Server | None


class ColdStart(Part):
    """From the bytes of a graph to its first answer, where the runtime has started; all else is warm."""

    session_ms: float = Field(description="to make the session")
    first_ms: float = Field(description="the first call of one row")


class Cost(Part):
    """What predictions take of the machine, at the model's best batch size."""

    resident_bytes: int | None = Field(
        description="memory that the process grew by, loaded and after its first batch, once the runtime had started; "
        "to about a megabyte"
    )
    predictions_per_core_second: float | None = Field(description="rows per second of processor time, of all cores")
    joules_per_million: float | None = Field(
        description="energy of the processor packages per million rows, idle included; null where none tells it"
    )
    price_per_million: float | None = Field(description="of a million rows, from the price of an hour that was given")
