"""What a run is: a recipe, read from TOML and validated. It knows keys and values, not data, networks or devices."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from service.manifest import NAME_PATTERN, Role
from trainer.errors import RecipeError

SHIPPED = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of a recipe: immutable, without unknown keys, without silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Training(Table):
    """A network and how it is trained: Adam with a learning rate that falls to 0 along half a cosine.

    `network` is `mlp`, `cnn`, or `module:factory` of the user's own code, called with the shape of an example and the
    number of classes. `hidden` are the widths of the hidden layers (of convolutions, for `cnn`); `dropout` is the share
    of hidden units dropped (`mlp` alone); validation chooses among the `epochs`, unless the last is to be kept.
    `precision` is that of the products in training steps; weights, losses, validation and what is exported are float32.
    """

    network: str = "mlp"
    hidden: tuple[Positive, ...] = (128, 128)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    epochs: Positive = 60
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    keep: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if not re.fullmatch(r"mlp|cnn|[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.network):
            raise ValueError(f"network {self.network!r}: expected mlp, cnn, or module:factory")
        if self.network != "mlp" and self.dropout:
            raise ValueError(f"dropout = {self.dropout} is for mlp alone; network {self.network!r} has what it brings")
        return self


class EnsembleTable(Training):
    """The members, alike but for their seeds, and the mean of their predictive distributions (section 2).

    `jitter` moves their images by up to that many pixels, anew in every epoch; `distort` turns, scales, slants, moves
    and bends them, and needs no jitter.
    """

    members: Annotated[int, Field(ge=2)] = 10
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    jitter: Annotated[int, Field(ge=0)] = 0
    distort: bool = False


class StudentTable(Training):
    """The student; the baseline is the same network on the same budget with hard labels only.

    The loss is soft weight x soft term + `hard_weight` x CE(labels, student at 1). `weighting` says what the soft
    weight is: 1 - `hard_weight` (`convex`), or 1 (`relative`, the paper's reading). `loss` is the soft term:
    T^2 CE(teacher at T, student at T) with T = `temperature` (`soft`), half the mean squared difference of zero-meaned
    logits (`logits`), or T^2 (`target_weight` KL(target) + `other_weight` KL(other)) (`decoupled`). `standardise` gives
    both sides' logits mean 0 and deviation 1 first.

    With `jitter`, `distort` or `mix` epoch e sees view e modulo `numbered_views` of each example: moved by up to so
    many pixels, bent, mixed with another example. Teacher and student see the same view, whose soft targets are stored;
    the baseline sees it too. It is trained from `seeds` seeds, of which validation chooses the one that is published.

    `reduced` forms of it are published beside it, unless one loses more than `allowed_drop` points on validation.
    """

    hidden: tuple[Positive, ...] = (32,)
    epochs: Positive = 120
    loss: Literal["soft", "logits", "decoupled"] = "soft"
    temperature: Annotated[float, Field(ge=0.01, le=1e4)] = 4.0
    hard_weight: Annotated[float, Field(ge=0.0)] = 0.1
    weighting: Literal["convex", "relative"] = "convex"
    target_weight: Annotated[float, Field(ge=0.0)] = 1.0
    other_weight: Annotated[float, Field(ge=0.0)] = 8.0
    standardise: bool = False
    jitter: Annotated[int, Field(ge=0)] = 0
    distort: bool = False
    mix: bool = False
    numbered_views: Positive = 30
    seeds: Positive = 1
    reduced: tuple[Literal["int8", "fp16"], ...] = ()
    allowed_drop: Annotated[float, Field(ge=0.0)] = 0.5

    @model_validator(mode="after")
    def _check_weight(self) -> Self:
        if self.weighting == "convex" and self.hard_weight > 1.0:
            raise ValueError(
                f"hard_weight {self.hard_weight} is above 1, which a convex mix cannot have; "
                'expected 0 to 1, or weighting = "relative"'
            )
        return self

    def changed(self, **values: object) -> Self:
        """The same with other values, validated like a recipe's. Raises RecipeError."""
        try:
            return type(self).model_validate({**self.model_dump(), **values})
        except ValidationError as error:
            raise RecipeError(f"student: {_describe(error)}") from error

    @property
    def weights(self) -> tuple[float, float]:
        """Of the soft term and of the labels."""
        return (1.0 if self.weighting == "relative" else 1.0 - self.hard_weight), self.hard_weight


class SpecialistsTable(Table):
    """Specialists of the classes that the ensemble's first member confuses, combined with it (section 5).

    `number` groups of classes: disjoint ones by k-means, of at most `size` classes, or with `overlap` greedy ones of
    `size` classes each, which may share some; without a size it is the classes by the number, rounded up. With
    `standardise` groups are of the correlation of predictions, and not of their covariance.
    `top_classes` of the generalist's most probable classes choose who is asked. `generalists` members of the ensemble
    are full models beside the specialists, all of which start from the first. With `full_softmax` specialists keep all
    classes and learn the generalist's soft targets for those that are not special (section 6.1). Where they `teach`,
    students learn from the combination and not from the ensemble, which distils it back into one network (what section
    8 leaves open). Network, widths, dropout, precision, jitter and distortions are the ensemble's.
    """

    number: Positive = 3
    size: Positive | None = None
    overlap: bool = False
    standardise: bool = False
    top_classes: Positive = 1
    generalists: Positive = 1
    full_softmax: bool = False
    teach: bool = False
    epochs: Positive = 20
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0

    def training(self, generalist: Training) -> Training:
        """How specialists are trained."""
        kept = {key: getattr(generalist, key) for key in ("network", "hidden", "dropout", "precision")}
        own = {key: getattr(self, key) for key in ("epochs", "batch_size", "learning_rate", "weight_decay")}
        return Training(**kept, **own)


class Recipe(Table):
    """A whole run.

    `data` names a data set that is known (`digits`, `mnist`, `emnist`), an `.npz`, `.csv` or `.parquet` file, or a
    folder with one folder of images per class, all relative to the recipe's own folder; `label` is the column of a
    table that holds the labels. `transfer` names further inputs of the same kind, without labels (`emnist` are those
    that go with the data set): students learn from the teacher's answers to them too. `teacher` names an ONNX file, or
    the version folder of a published model, that teaches instead of an ensemble trained here. `validation` and `test`
    are shares of the examples, used where the data bring no split of their own; `split_seed` makes that split, whatever
    the seed of the run. `image_size` is [height, width], for a folder of images. `views` further views of every
    training image, slanted, scaled and moved a little, join the training examples of members, student and baseline
    alike. A table `specialists` has specialists trained and published too.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]  # a model's name adds its role, to 128 at most
    data: Annotated[str, Field(min_length=1)]
    validation: Share = 0.2
    test: Share = 0.2
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    image_size: tuple[Positive, Positive] = (28, 28)
    label: Annotated[str, Field(min_length=1)] = "label"
    transfer: Annotated[str, Field(min_length=1)] | None = None
    teacher: Annotated[str, Field(min_length=1)] | None = None
    views: Annotated[int, Field(ge=0)] = 0
    ensemble: EnsembleTable = EnsembleTable()
    student: StudentTable = StudentTable()
    specialists: SpecialistsTable | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError(f"validation {self.validation} + test {self.test} leave nothing to train on")
        if self.transfer == "emnist" and self.data != "emnist":
            raise ValueError(f'transfer = "emnist" goes with data = "emnist" alone, got data = "{self.data}"')
        if self.teacher is not None and "ensemble" in self.model_fields_set:
            raise ValueError(f"teacher = {self.teacher!r} teaches instead of an ensemble: expected no table [ensemble]")
        if self.specialists is not None and self.teacher is not None:
            raise ValueError(
                f"teacher = {self.teacher!r} has no weights to start from: [specialists] need an ensemble trained here"
            )
        if self.specialists is not None and self.specialists.generalists > self.ensemble.members:
            raise ValueError(
                f"specialists.generalists = {self.specialists.generalists}: expected at most the "
                f"{self.ensemble.members} members of the ensemble"
            )
        return self

    @property
    def taught_by(self) -> Role:
        """The role of the model that students learn from."""
        return "specialists" if self.specialists is not None and self.specialists.teach else "ensemble"

    def for_students(self) -> Self:
        """The same without specialists that teach nobody."""
        return self if self.taught_by == "specialists" else self.model_copy(update={"specialists": None})


def shipped() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read_recipe(given: str) -> tuple[Recipe, Path]:
    """The recipe of that name, or in that file, and the folder that its paths are relative to.

    Raises RecipeError: no such recipe, not TOML, an unknown key, a wrong value.
    """
    path = SHIPPED / f"{given}.toml" if given in shipped() else Path(given)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(
            f"no recipe {given!r}: expected one that ships ({', '.join(shipped())}) or the path of a .toml file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {given}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {given} is not TOML: {error}") from error
    try:
        # By way of JSON, for which pydantic's strict mode takes an array for a tuple but no text for a number.
        text = json.dumps({"name": path.stem, **values}, default=str)
        return Recipe.model_validate_json(text), path.parent
    except ValidationError as error:
        raise RecipeError(f"recipe {given}: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    return "; ".join(_sentence(problem) for problem in error.errors())


def _sentence(problem: ErrorDetails) -> str:
    place = problem["loc"]
    key = ".".join(map(str, place))
    if problem["type"] == "missing":
        return f"{key} is missing"
    if place == ("name",):
        given, rule = json.dumps(problem["input"]), "lower-case letters, digits, '.', '_' and '-', at most 100"
        return f"name: got {given}, expected {rule}; without a name it is the file's"
    if problem["type"] == "value_error":  # a check of our own: its text says it all
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    if problem["type"] != "extra_forbidden":
        expected = problem["msg"].replace("Input should be", "expected", 1)
        return f"{key}: got {json.dumps(problem['input'])}, {expected}" if key else expected
    tables: dict[str, type[Table]] = {
        "ensemble": EnsembleTable,
        "student": StudentTable,
        "specialists": SpecialistsTable,
    }
    table = tables[str(place[0])] if len(place) > 1 else Recipe
    return f"unknown key {key!r}; known there: {', '.join(table.model_fields)}"
