"""From a recipe to a published generalist with specialists, and every step that is told on the way."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from scipy import special

from service.manifest import Manifest, read_manifest
from service.model import load_model
from tests.trainer.test_combination import lbfgs_of
from tests.trainer.test_specialists import CLASSES, CPU, GROUPS, SPLIT, generalist, trained, workshop
from trainer.__main__ import main
from trainer.combination import Votes, combine
from trainer.combined import Voting, votes_on
from trainer.errors import TrainerError
from trainer.evaluate import Contender
from trainer.group_report import groups_table, telling
from trainer.groups import Group, moments
from trainer.recipe import Recipe, SpecialistsTable
from trainer.specialise import combine_best, specialise
from trainer.stages import examples
from trainer.teachers import Tutor

RECIPE = """\
data = "clouds.npz"

[ensemble]
members = 2
hidden = [10]
epochs = 20
learning_rate = 2e-2

[student]
hidden = [4]
epochs = 2

[specialists]
number = 2
epochs = 5
"""
NAMES = ["clouds-baseline", "clouds-ensemble", "clouds-member", "clouds-specialists", "clouds-student"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run in this process: its folder and what it printed."""
    home = write_clouds(tmp_path_factory.mktemp("clouds"), RECIPE)
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.display.Display.say", lambda _self, text: told.append(text))
        assert main(["train", str(home / "clouds.toml"), *folders(home)]) == 0
    return home, "\n".join(told)


def write_clouds(home: Path, recipe: str) -> Path:
    """The data as a file, and a recipe beside it."""
    parts = (SPLIT.train, SPLIT.validation, SPLIT.test)
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    split = np.repeat([0, 1, 2], [len(part.labels) for part in parts])
    np.savez(home / "clouds.npz", inputs=inputs, labels=labels, split=split, classes=np.array(SPLIT.classes))
    (home / "clouds.toml").write_text(recipe)
    return home


def folders(home: Path) -> list[str]:
    return ["--models-dir", str(home / "models"), "--runs-dir", str(home / "runs"), "--device", "cpu"]


def manifest(home: Path, name: str) -> Manifest:
    return read_manifest(home / "models" / name / "1")


def test_they_are_published_beside_the_others(run):
    """As one model of their role, that loads and answers; the others say nothing of a combination."""
    home, _ = run
    assert sorted(path.name for path in (home / "models").iterdir()) == NAMES
    model = load_model(home / "models" / "clouds-specialists" / "1", device="cpu")
    assert model.manifest.role == "specialists"
    assert model.manifest.seeds == (0, 8000, 8001)
    assert model.manifest.teacher is None
    assert model.manifest.metrics.agreement is not None
    assert model.manifest.largest_difference < 1e-5
    for name in NAMES:
        found = json.loads((home / "models" / name / "1" / "manifest.json").read_text())
        assert ("combination" in found) == (name == "clouds-specialists")


def test_the_manifest_says_how_they_are_combined(run):
    """Disjoint groups and the most probable class: one plain step is exact."""
    found = manifest(run[0], "clouds-specialists").combination
    assert found is not None
    assert sorted(label for group in found.groups for label in group) == list(SPLIT.classes)
    assert [len(group) for group in found.groups] == [3, 3]
    assert (found.generalists, found.top_classes, found.method, found.steps) == (1, 1, "plain", 1)
    assert found.largest_error < 1e-9


def test_the_served_answer_is_the_mean_of_generalist_and_specialist(run):
    """By hand from the published member and the run's weights: with disjoint groups the objective's minimum."""
    home, _ = run
    inputs = SPLIT.test.inputs
    member = load_model(home / "models" / "clouds-member" / "1", device="cpu")
    served = load_model(home / "models" / "clouds-specialists" / "1", device="cpu")
    full = special.softmax(member.run(inputs).logits_BK.astype(np.float64), axis=1)
    (folder,) = (home / "runs").glob("clouds-*")
    tensors = load_file(folder / "specialists-0.safetensors")
    inputs = (inputs - tensors["normalise.mean"]) / tensors["normalise.scale"]
    combination = served.manifest.combination
    assert combination is not None
    expected = full.copy()
    for number, names in enumerate(combination.groups):
        group = [SPLIT.classes.index(name) for name in names]
        hidden = np.maximum(inputs @ tensors["weights.0"][number] + tensors["biases.0"][number], 0)
        logits = hidden @ tensors["weights.1"][number] + tensors["biases.1"][number]
        mine = special.softmax(logits[:, : 1 + len(group)].astype(np.float64), axis=1)
        rest = full * ~np.isin(np.arange(CLASSES), group)
        spread = mine[:, :1] * rest / rest.sum(axis=1, keepdims=True)
        spread[:, group] = mine[:, 1:]
        rows = np.isin(full.argmax(axis=1), group)
        expected[rows] = (full + spread)[rows] / 2
    np.testing.assert_allclose(served.run(SPLIT.test.inputs).probabilities_BK, expected, atol=1e-5)


def test_groups_and_combination_are_told(run):
    """A line for each group, and the table's row."""
    home, told = run
    assert told.count("% of the generalist's confusion; ") == 2
    assert "1 plain steps, off by " in told
    (results,) = home.glob("runs/clouds-*/results.md")
    assert [line.split(" | ")[0] for line in results.read_text().splitlines()[2:5]] == [
        "| ensemble",
        "| a member",
        "| specialists",
    ]


def test_the_runs_folder_has_a_table_and_images_of_the_groups(run):
    """Beside the results."""
    home, _ = run
    (folder,) = (home / "runs").glob("clouds-*")
    lines = (folder / "groups.md").read_text().splitlines()
    assert lines[0] == "| specialist | classes | most confused | share of the confusion | validation errors |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| 1", "| 2"]
    assert "of 90 validation examples" in lines[5]
    with Image.open(folder / "groups.png") as drawn:
        assert drawn.format == "PNG"


def test_the_table_of_groups_worked_by_hand(tmp_path):
    """Two predictions: one torn between a and b, one between c and d at 0.9 and 0.1; e and f are nobody's."""
    p = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.9, 0.1, 0, 0]]) + 1e-30
    groups = [(0, 1, 3), (2, 3)]
    table = groups_table(SPLIT, groups, moments(np.log(p)), [4, 2])
    assert "| 1 | a, b, d | a and b | 73.5% | 4 |\n| 2 | c, d | c and d | 26.5% | 2 |\n" in table
    assert table.endswith("Nobody's special class: e, f.\n")


def test_the_telling_examples_are_the_most_confused_ones():
    """Of class a the one that looks most like b; a class alone has none."""
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(CLASSES), len(SPLIT.validation.labels))
    first, second = telling(SPLIT, np.log(p), (0, 1))
    own = SPLIT.validation.labels == 0
    assert (first.label, first.other, first.example) == (0, 1, int(np.where(own, p[:, 1], 0).argmax()))
    assert first.probability == pytest.approx(p[first.example, 1])
    assert (second.label, second.other) == (1, 0)
    assert telling(SPLIT, np.log(p), (3,)) == []


def votes_of(folder: Path, groups: list[Group], top: int) -> Votes:
    """On validation, of trained networks."""
    networks = trained(folder).networks
    inputs = examples(SPLIT.validation, CPU).inputs
    combined, said = combine_best(
        [generalist(folder)], networks, Voting(groups, CLASSES, top), inputs, "abcdef", groups
    )
    assert said.largest_error <= 1e-4
    (votes,) = votes_on(combined, inputs)
    return votes


@pytest.mark.parametrize("top", [1, 3])
def test_real_votes_are_combined_as_lbfgs_does(tmp_path, top):
    """Of networks trained on confused classes, to 1e-6."""
    votes = votes_of(tmp_path, GROUPS, top)
    found = combine(votes, "newton", 20)
    for row in (0, 5, 40):
        one = Votes(*(tensor[row : row + 1] for tensor in votes))
        np.testing.assert_allclose(found[row], lbfgs_of(one), atol=1e-6)


def test_a_recipe_without_them_trains_none(tmp_path):
    """None is asked for, none is there."""
    recipe = Recipe(name="x", data="x")
    assert specialise(workshop(tmp_path), recipe, Tutor(None, None, []), 0) is None


def test_too_many_groups_are_told_before_anything_is_trained(tmp_path, monkeypatch):
    """By their number, in a line."""
    monkeypatch.setattr("trainer.specialise.train_specialists", lambda *_: pytest.fail("it trained"))
    ensemble = Tutor(None, Contender("ensemble", None, [0], []), [generalist(tmp_path)])
    for number, told in (
        (7, "7 groups of 6 classes: expected at most 6"),
        (1, "groups of 6 classes of 6: expected fewer"),
    ):
        recipe = Recipe(name="x", data="x", specialists=SpecialistsTable(number=number))
        with pytest.raises(TrainerError, match=told):
            specialise(workshop(tmp_path), recipe, ensemble, 0)
