"""One model: a checked graph and its manifest on one onnxruntime provider.

It knows how a version folder becomes something that answers. It does not know names, other versions, HTTP,
or temperatures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.errors import ModelError, SettingsError
from service.inputs.hmm import WordModels, read_word_models
from service.inputs.spoken import word_log_p
from service.manifest import GRAPH, WORD_MODELS, Manifest, read_checked, read_manifest
from service.recorded import Recorded, not_recorded, record
from service.session import CUDA, Device, check_graph, open_session, providers

log = logging.getLogger("service")

OUTPUTS = ["probabilities", "logits"]
QUICK_S = 0.001
CANARY_ROWS = 16
SMALL = 5_000_000
"""Multiply-accumulates of one row up to which a second thread costs more than it saves."""


class Prediction(NamedTuple):
    """What a graph gives: `probabilities` and `logits`, both float32 [B, K]."""

    probabilities_BK: NDArray[np.float32]
    logits_BK: NDArray[np.float32]


class Model:
    """A loaded model. `provider` is the onnxruntime provider that was got, whatever was asked for.

    The graph of one that hears recordings classifies their frames; its `words` say what that makes.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: onnxruntime.InferenceSession,
        words: WordModels | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self.manifest = manifest
        self.session = session
        self.words = words
        self.recorded = recorded
        self._options = None if recorded is None else not_recorded()
        self.provider: str = session.get_providers()[0]
        self.place = f"{manifest.name}/{manifest.version}"
        self.quick_rows = 0
        """A run of up to so many rows takes QUICK_S at most, as far as `measure` found."""

    def __repr__(self) -> str:
        return f"Model({self.manifest.name}/{self.manifest.version} on {self.provider})"

    @property
    def stored(self) -> Manifest:
        """The manifest of the folder that holds its files."""
        return self.manifest

    def run(self, inputs: NDArray[np.float32]) -> Prediction:
        """Answers for float32 [B, ...] in raw units. Safe to call from several threads."""
        if self.words is not None and self.manifest.input.audio is not None:
            log_p_BK = word_log_p(self._frames, inputs, self.manifest.input.audio, self.words)
            return Prediction(np.exp(log_p_BK), log_p_BK)
        found = None if self.recorded is None else self.recorded.run(inputs)
        probabilities, logits = found or self.session.run(OUTPUTS, {"input": inputs}, self._options)
        return Prediction(probabilities, logits)

    def _frames(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = self.session.run(["logits"], {"input": windows}, self._options)
        return np.asarray(logits, dtype=np.float32)

    def measure(self, runs: int = 3) -> None:
        """Finds `quick_rows`, in a few milliseconds."""
        one_s = min(self._timed(1) for _ in range(runs))
        if one_s <= QUICK_S:
            many_s = min(self._timed(CANARY_ROWS) for _ in range(runs))
            further_s = max(many_s - one_s, one_s / CANARY_ROWS) / (CANARY_ROWS - 1)
            self.quick_rows = 1 + int((QUICK_S - one_s) / further_s)

    def blank(self, rows: int) -> NDArray[np.float32]:
        """Examples [B, ...] of nothing, which take as long as any."""
        return np.full((rows, *self.manifest.input.shape), 0.0 if self.words is None else 1.0, dtype=np.float32)

    def _timed(self, rows: int) -> float:
        inputs = self.blank(rows)
        started = perf_counter()
        self.run(inputs)
        return perf_counter() - started


def load_model(version_dir: Path, *, device: Device = "auto", threads: int = 1, spin: bool = False) -> Model:
    """Loads `<name>/<version>/`: manifest, checksum, graph check, session from the very bytes checked, canary run.

    Raises ModelError, naming the model and the reason, where any of them fails, and SettingsError where CUDA was
    asked for and is not to be had.
    """
    stored = read_stored(version_dir)
    small = stored.manifest.multiply_accumulates <= SMALL
    model = open_model(stored, device=device, threads=1 if small else threads, spin=spin)
    canary(model)
    model.measure()
    return model


class Stored(NamedTuple):
    """What a version's folder holds that is needed to answer: its graph was checked."""

    manifest: Manifest
    graph: bytes
    words: WordModels | None


def read_stored(version_dir: Path) -> Stored:
    """The files of `<name>/<version>/`. Raises ModelError."""
    manifest = read_manifest(version_dir)
    graph = read_checked(version_dir, manifest, GRAPH)
    place = f"{manifest.name}/{manifest.version}"
    check_graph(graph, place)
    if manifest.input.audio is None:
        return Stored(manifest, graph, None)
    words = read_word_models(read_checked(version_dir, manifest, WORD_MODELS), f"{place}: {WORD_MODELS}")
    if words.words != manifest.classes:
        raise ModelError(f"{place}: {WORD_MODELS} has the words {_few(words.words)}, expected {_few(manifest.classes)}")
    if words.shortest > manifest.input.shape[0]:
        raise ModelError(
            f"{place}: a word has {words.shortest} states, a recording at most {manifest.input.shape[0]} frames"
        )
    return Stored(manifest, graph, words)


def _few(words: Sequence[str]) -> str:
    return ", ".join([*words[:5], *(["…"] if len(words) > 5 else [])])


def open_model(stored: Stored, *, device: Device, threads: int, spin: bool = False) -> Model:
    """A model over the bytes of a graph that was checked, once its inputs and outputs are as they must be.

    Raises ModelError, and SettingsError as `open_session` does.
    """
    manifest, graph, words = stored
    place = f"{manifest.name}/{manifest.version}"
    outputs = len(manifest.classes if words is None else words.log_prior)
    if words is None and providers(device)[0] == CUDA and (model := open_recorded(stored, device, threads)) is not None:
        return model
    try:
        session = open_session(graph, device=device, threads=threads, spin=spin)
    except SettingsError:
        raise
    except Exception as error:  # onnxruntime's own exceptions share no other base class
        raise ModelError(f"{place}: onnxruntime cannot load {GRAPH}: {error}") from error
    _check_interface(session, place, manifest.input.graph_shape, outputs)
    return Model(manifest, session, words)


def open_recorded(stored: Stored, device: Device, threads: int) -> Model | None:
    """A model whose runs are recorded on CUDA; None, and why in the log, where they cannot be or are no quicker."""
    manifest = stored.manifest
    place, classes = f"{manifest.name}/{manifest.version}", len(manifest.classes)
    try:
        session = open_session(stored.graph, device=device, threads=threads, records=True)
        _check_interface(session, place, manifest.input.graph_shape, classes)
        recorded = record(session, manifest.input.shape, OUTPUTS, classes)
    except Exception as error:  # as below; whatever is wrong with the graph itself is told there
        log.warning("%s: runs are not recorded: %s", place, error)
        return None
    if recorded is None:
        log.info("%s: runs are not recorded: they are no quicker", place)
        return None
    log.info("%s: runs of %s rows are recorded", place, ", ".join(map(str, recorded.sizes)))
    return Model(manifest, session, recorded=recorded)


def _check_interface(session: onnxruntime.InferenceSession, place: str, shape: tuple[int, ...], classes: int) -> None:
    """Raises ModelError where a graph takes or gives something else than [B, *shape] and [B, classes]."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(node.name, node.type, list(node.shape[1:])) for node in (*inputs, *outputs)]
    kind = "tensor(float)"
    expected = [("input", kind, list(shape)), ("probabilities", kind, [classes]), ("logits", kind, [classes])]
    if found != expected or not all(isinstance(node.shape[0], str | None) for node in (*inputs, *outputs)):
        raise ModelError(f"{place}: the graph takes and gives {found} without a free batch, expected {expected}")


def canary(model: Model) -> None:
    """Runs one row and several: the answers must be finite distributions. It is the warm-up too. Raises ModelError."""
    place = model.place
    for rows in (1, 2, CANARY_ROWS):
        inputs = model.blank(rows)
        try:
            probabilities, logits = model.run(inputs)
        except Exception as error:  # as above
            raise ModelError(f"{place}: the graph fails on {rows} rows of zeros: {error}") from error
        sound = np.isfinite(logits).all() and np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3)
        classes = len(model.manifest.classes)
        if not sound or probabilities.shape != (rows, classes):
            raise ModelError(f"{place}: on zeros the graph gives no finite distribution of {classes} classes")
