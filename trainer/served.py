"""What of a run's data travels with its models, and what they are judged by, in the terms in which they are served.

Frames are learnt and recordings served: a model of speech is published with the words' models, calibrated for it on
validation, and its metrics are of words. For everything else both are the same. It knows splits and graphs, not how
models are published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import measures
from service.inputs.filterbanks import SHIFT_MS
from service.inputs.hmm import WordModels, save_word_models
from service.inputs.spoken import padded, word_log_p
from service.manifest import WORD_MODELS, AudioSpec, InputSpec, Role
from service.session import open_session
from trainer.data.split import Part, Split
from trainer.evaluate import Contender, Results, judge, through_graph
from trainer.export import milliseconds
from trainer.speech.corpus import RATE
from trainer.speech.features import LONGEST_S, Spoken
from trainer.speech.frames import AFTER, BEFORE, Speech
from trainer.speech.words import calibrated, word_scores

FRAMES = round(1000 * LONGEST_S / SHIFT_MS)
"""Of the longest recording that is served."""


class Served(NamedTuple):
    """Of one model: its classes and input as its manifest says them, the test part and the training inputs [N, ...] in
    those terms, and further files of its version, by name."""

    classes: tuple[str, ...]
    input: InputSpec
    held_out: Part
    train_inputs: NDArray
    files: Mapping[str, bytes]


class AsServed(NamedTuple):
    """Contenders with what one served example costs, what they reach on those of the test part, and what travels with
    each, by its label."""

    contenders: list[Contender]
    results: Results
    served: dict[str, Served]


def as_served(split: Split, contenders: Sequence[Contender], results: Results, teacher: Role) -> AsServed:
    """The same, or for frames of speech the words of their recordings; `results` are of the test part as it was learnt.
    Nothing is chosen on it."""
    if isinstance(split, Speech):
        return _words(split, contenders, teacher)
    image = InputSpec(shape=split.shape, image=split.image)
    served = Served(split.classes, image, split.test, split.train.inputs, {})
    return AsServed(list(contenders), results, {contender.label: served for contender in contenders})


def validation_as_served(split: Split) -> Part:
    """The validation part in the terms in which models are served."""
    return recordings(split.said[1]) if isinstance(split, Speech) else split.validation


def recordings(spoken: Spoken) -> Part:
    """Inputs [N, FRAMES, filters], as the service makes them, and the words."""
    return Part(padded(spoken.frames, FRAMES), spoken.words_N)


def _words(speech: Speech, contenders: Sequence[Contender], teacher: Role) -> AsServed:
    test = recordings(speech.said[2])
    train_inputs = recordings(speech.said[0]).inputs
    audio = InputSpec(shape=test.inputs.shape[1:], audio=AudioSpec(rate=RATE, before=BEFORE, after=AFTER))
    models = {contender.label: _calibrated(speech, contender) for contender in contenders}
    log_p = {contender.label: _word_log_p(speech, contender, models[contender.label]) for contender in contenders}
    each = [_of_a_recording(speech, contender, audio, models[contender.label]) for contender in contenders]
    served = {
        label: Served(speech.corpus.words, audio, test, train_inputs, {WORD_MODELS: save_word_models(found)})
        for label, found in models.items()
    }
    return AsServed(each, judge(each, [], log_p, test, teacher), served)


def _calibrated(speech: Speech, contender: Contender) -> WordModels:
    spoken = speech.said[1]
    logits_FS = through_graph(contender.exported.graph, speech.validation).astype(np.float32)
    return calibrated(speech.models, logits_FS, spoken.lengths, spoken.words_N)


def _word_log_p(speech: Speech, contender: Contender, models: WordModels) -> NDArray[np.float64]:
    logits_FS = through_graph(contender.exported.graph, speech.test).astype(np.float32)
    return measures.log_softmax(word_scores(models, logits_FS, speech.said[2].lengths))


def _of_a_recording(speech: Speech, contender: Contender, takes: InputSpec, models: WordModels) -> Contender:
    """With the multiplications of a recording of the mean length, and the time that it takes from its frames to its
    word, without other networks like it."""
    exported, lengths = contender.exported, speech.said[2].lengths
    frames = round(float(np.mean(lengths)))
    typical = speech.said[2].frames[int(np.abs(lengths - frames).argmin())]
    example = padded([typical], FRAMES)
    session = open_session(exported.graph, device="cpu", threads=1)

    def answer() -> None:
        assert takes.audio is not None
        word_log_p(lambda windows: session.run(["logits"], {"input": windows})[0], example, takes.audio, models)

    whole = exported._replace(multiply_accumulates=frames * exported.multiply_accumulates, cpu_ms=milliseconds(answer))
    return contender._replace(exported=whole, alike=[])
