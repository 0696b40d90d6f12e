"""The contract between trainer and service: what a published model says of itself.

It knows the format of `manifest.json` (models/README.md is its specification) and how to read one.
It does not know graphs, sessions, or how a model is found or published.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ModelError

FORMAT: Literal["stillroom.model/1"] = "stillroom.model/1"
MANIFEST = "manifest.json"
GRAPH = "model.onnx"
HELD_OUT = "held-out.npz"
TRAIN_HASHES = "train-hashes.npy"
WORD_MODELS = "hmm.npz"
MOST_FRAMES = 6_000
"""A minute."""
RECORDING = 32
"""Rows that a recording counts as: each of its frames is a row of the graph."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,127}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Role = Literal["ensemble", "student", "baseline", "specialists", "member"]


class Frozen(BaseModel):
    """A part of a manifest: immutable, without unknown keys, without silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ImageSpec(Frozen):
    """How a picture becomes an input: greyed, scaled to the input's [H, W], mapped to `range`.

    The first of `range` is what black becomes and the second what white becomes, in raw units. `margin` is the
    share of the side that the data leave free around the subject: the page centres a drawing with it.
    """

    range: tuple[float, float]
    margin: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0


class AudioSpec(Frozen):
    """How a recording becomes an input: resampled to `rate`, cut into frames of log-Mel filter banks.

    The graph sees one frame at a time, with `before` frames before it and `after` behind it.
    """

    rate: Annotated[int, Field(ge=4_000, le=48_000, multiple_of=200)]
    """25 and 10 ms are whole numbers of samples."""
    before: Annotated[int, Field(ge=0, le=100)]
    after: Annotated[int, Field(ge=0, le=100)]


class InputSpec(Frozen):
    """One example: `input`, float32, in raw units, of this shape without the batch. An image is [H, W]; a recording is
    [frames, filters], of which those at its end that are all 0 are not there."""

    shape: tuple[Annotated[int, Field(ge=1)], ...]
    image: ImageSpec | None = None
    audio: Annotated[AudioSpec | None, Field(exclude_if=lambda spec: spec is None)] = None
    """Not written where there is none: a service of before it refuses keys that it does not know."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.shape:
            raise ValueError("the shape of an example has at least one dimension")
        if self.image is not None and len(self.shape) != 2:
            raise ValueError(f"an image is [height, width], got shape {list(self.shape)}")
        if self.audio is not None and (len(self.shape) != 2 or self.image is not None):
            raise ValueError(f"a recording is [frames, filters] and no image, got shape {list(self.shape)}")
        if self.audio is not None and self.shape[0] > MOST_FRAMES:
            raise ValueError(f"a recording has at most {MOST_FRAMES} frames, got shape {list(self.shape)}")
        return self

    @property
    def graph_shape(self) -> tuple[int, ...]:
        """What the graph takes: an example, or of a recording one frame with those around it."""
        if self.audio is None:
            return self.shape
        return self.audio.before + 1 + self.audio.after, self.shape[1]

    def rows_of(self, most: int) -> int:
        """How many examples may be taken where so many ordinary rows may: a recording is as much work as RECORDING."""
        return most if self.audio is None else max(1, most // RECORDING)

    @property
    def size(self) -> int:
        """Numbers in one example."""
        return math.prod(self.shape)


class Reference(Frozen):
    """Another model, by name and version and the SHA-256 of its graph."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    sha256: Sha256


class CascadeRule(Reference):
    """The model that answers the rows where this one's confidence, the largest of softmax(logits / `temperature`), is
    below `threshold`."""

    threshold: Fraction
    temperature: Annotated[float, Field(gt=0.0)]


class Combination(Frozen):
    """How a generalist and its specialists are combined inside the graph (section 5).

    `generalists` are so many networks; `groups` are each specialist's special classes; `top_classes` of the most
    probable classes choose the specialists that are asked. `steps` of `method` are unrolled, with which no probability
    was off by more than `largest_error` on validation.
    """

    generalists: Annotated[int, Field(ge=1)]
    groups: Annotated[tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...], Field(min_length=1)]
    top_classes: Annotated[int, Field(ge=1)]
    method: Literal["plain", "newton"]
    steps: Annotated[int, Field(ge=1)]
    largest_error: Annotated[float, Field(ge=0.0)]


class Weights(Frozen):
    """Weights of the two terms of the distillation loss (section 2)."""

    soft: Annotated[float, Field(ge=0.0)]
    hard: Annotated[float, Field(ge=0.0)]


class DataReference(Frozen):
    """The data set that a model was trained on, and the SHA-256 of its arrays."""

    name: str
    sha256: Sha256


class Metrics(Frozen):
    """What the model reached on the held-out test set, which was touched once.

    `accuracy_interval` is the 95 % Wilson interval; `agreement` is the share of examples on which it gives the
    label of the model that taught the students of its run, null for that one itself; `cpu_ms_per_image` is one row at a
    time through onnxruntime on the machine that exported it.
    """

    examples: Annotated[int, Field(ge=1)]
    errors: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    accuracy_interval: tuple[Fraction, Fraction]
    nll: Annotated[float, Field(ge=0.0)]
    ece: Fraction
    agreement: Fraction | None = None
    cpu_ms_per_image: Annotated[float, Field(gt=0.0)] | None = None


class FileRecord(Frozen):
    """A file of the version folder."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Manifest(Frozen):
    """Everything that a model says of itself. `bytes` is the size of its graph on disk."""

    format: Literal["stillroom.model/1"] = FORMAT
    name: Name
    version: Annotated[int, Field(ge=1)]
    role: Role
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    input: InputSpec
    teacher: Reference | None = None
    cascade: Annotated[CascadeRule | None, Field(exclude_if=lambda rule: rule is None)] = None
    """Likewise."""
    combination: Annotated[Combination | None, Field(exclude_if=lambda found: found is None)] = None
    """Likewise."""
    recipe: dict[str, Any]
    temperature: Annotated[float, Field(gt=0.0)] | None = None
    weights: Weights | None = None
    data: DataReference
    seeds: tuple[int, ...]
    metrics: Metrics
    largest_difference: Annotated[float, Field(ge=0.0)]
    parameters: Annotated[int, Field(ge=1)]
    multiply_accumulates: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    files: dict[str, FileRecord]
    libraries: dict[str, str]
    created: AwareDatetime

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        if self.cascade is not None and self.role != "student":
            raise ValueError(f"cascade is for a student, got the role {self.role!r}")
        if self.combination is not None:
            if self.role != "specialists":
                raise ValueError(f"combination is for specialists, got the role {self.role!r}")
            strange = {label for group in self.combination.groups for label in group} - set(self.classes)
            if strange:
                raise ValueError(f"combination.groups holds {min(strange)!r}, which is no class")
        for name in (GRAPH, *([WORD_MODELS] if self.input.audio else [])):
            if name not in self.files:
                raise ValueError(f"files does not list {name}")
        for name in self.files:
            if Path(name).name != name or name in {"", ".", "..", MANIFEST}:
                raise ValueError(f"files lists {name!r}, which is not the plain name of a file beside the manifest")
        return self


def write_manifest(version_dir: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`: UTF-8, indented, a newline at the end. It is the last file of a version."""
    (version_dir / MANIFEST).write_bytes(manifest.model_dump_json(indent=2).encode() + b"\n")


def read_manifest(version_dir: Path) -> Manifest:
    """Reads `manifest.json` of one version folder, `<name>/<version>/`.

    Raises ModelError where it is missing, is not a manifest, or speaks of another name or version than its folders.
    """
    path = version_dir / MANIFEST
    place = f"{version_dir.parent.name}/{version_dir.name}"
    try:
        _check_regular(path, place)
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{place}: cannot read {MANIFEST}: {error.strerror}") from error
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ModelError(f"{place}: {MANIFEST} is not valid: {describe(error)}") from error
    if f"{manifest.name}/{manifest.version}" != place:
        raise ModelError(f"{place}: {MANIFEST} speaks of {manifest.name}/{manifest.version}, expected {place}")
    return manifest


def _check_regular(path: Path, place: str) -> None:
    """A link could leave the repository, and a pipe would be waited for without end."""
    if path.is_symlink():
        raise ModelError(f"{place}: {path.name} is a symbolic link, expected a file")
    if path.exists() and not path.is_file():
        raise ModelError(f"{place}: {path.name} is no regular file")


def describe(error: ValidationError) -> str:
    """One line for a validation error: each place that is wrong, and what is wrong there."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'top level'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    )


def read_checked(version_dir: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of one file of a version, once they match the manifest's size and SHA-256.

    Raises ModelError where the manifest does not list it, it cannot be read, it is a link, or it differs.
    """
    place = f"{manifest.name}/{manifest.version}"
    record = manifest.files.get(name)
    if record is None:
        raise ModelError(f"{place}: the manifest lists no {name}; it lists {', '.join(sorted(manifest.files))}")
    path = version_dir / name
    try:
        _check_regular(path, place)
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{place}: cannot read {name}: {error.strerror}") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != record.sha256:
        raise ModelError(
            f"{place}: {name} does not match its manifest: SHA-256 {found[:12]}… ({len(raw)} bytes), "
            f"expected {record.sha256[:12]}… ({record.bytes} bytes)"
        )
    return raw
