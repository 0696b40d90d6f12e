"""Specialists: how they begin, what they see, that their odds are the data's, and that all of them train as one."""

import math
import re
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from trainer.data.split import Part, Split
from trainer.display import Display
from trainer.errors import DataError, TrainerError
from trainer.fit import Batch, Examples, plain
from trainer.groups import Group
from trainer.losses import cross_entropy
from trainer.objectives import hard
from trainer.recipe import Training
from trainer.specialists import (
    Asked,
    HalfAndHalf,
    OwnOdds,
    Relabelled,
    check_groups,
    dustbin_offset,
    specialist_labels,
    specialist_tasks,
    train_specialists,
)
from trainer.stages import Trained, Workshop, examples, train_networks

GROUPS: list[Group] = [(0, 1), (2, 3, 4)]
CLASSES = 6
SETTINGS = Training(hidden=(10,), epochs=4, batch_size=16, learning_rate=5e-3)


def clouds(total: int, seed: int) -> Part:
    """Six classes in five dimensions, of which 0 and 1, and 2, 3 and 4, lie close together."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(CLASSES), random.integers(0, CLASSES, total - CLASSES)])
    centres = np.array([[3, 0.7, 0], [3, -0.7, 0], [0, 3, 0.7], [0, 3, 0], [0, 3, -0.7], [0, 0, 5]])
    inputs = centres[labels] + random.normal(0.0, 0.6, (total, 3))
    return Part(inputs.astype(np.float32), labels)


SPLIT = Split("clouds", tuple("abcdef"), None, clouds(180, 0), clouds(90, 1), clouds(60, 2))
SPLIT_REST = (SPLIT.validation, SPLIT.test)
CPU = torch.device("cpu")


def workshop(folder: Path, **changes) -> Workshop:
    train, validation = examples(SPLIT.train, CPU), examples(SPLIT.validation, CPU)
    made = Workshop(folder, SPLIT, train, validation, CPU, Display(Console(quiet=True)))
    return made._replace(**changes)


def generalist(folder: Path, settings: Training = SETTINGS) -> nn.Module:
    made = workshop(folder)
    return train_networks(made, "members", settings, [0], hard, made.train).networks[0]


class Travelling:
    """A cluster of this process, to which everything travels as it would to another; which takes seconds to start."""

    def run(self, function, shared, items, done) -> None:
        for number, item in enumerate(items, start=1):
            there = ForkingPickler.loads(ForkingPickler.dumps((function, shared, item)))
            there[0](*there[1:])
            done(number)


def asked(folder: Path, settings: Training = SETTINGS, full: bool = False) -> Asked:
    return Asked(settings, plain, generalist(folder, settings), GROUPS, 8000, full)


def trained(folder: Path, settings: Training = SETTINGS, full: bool = False, **changes) -> Trained:
    return train_specialists(workshop(folder, **changes), asked(folder, settings, full))


def test_labels_worked_by_hand():
    """The dustbin is 0; special classes are 1, 2, 3 in their order."""
    assert specialist_labels((1, 4), 6).tolist() == [0, 1, 0, 0, 2, 0]


def test_weights_of_another_shape_are_told(tmp_path):
    """Members of other widths than the recipe's."""
    wide = asked(tmp_path, SETTINGS.model_copy(update={"hidden": (12,)}))
    with pytest.raises(TrainerError, match=r"the weights that specialists-0 start from do not fit: .*size mismatch"):
        train_specialists(workshop(tmp_path), wide._replace(settings=SETTINGS))


def test_every_second_example_is_special():
    """Each special one once an epoch where there are enough, the smaller group's as often as needed."""
    labels = torch.tensor([0] * 3 + [1] * 5 + [2] * 8)
    train = Examples(torch.arange(16.0)[:, None], labels)
    order = HalfAndHalf(torch.tensor([[True, False, False], [False, True, False]]), 5)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    batches = list(order(train, generators, 4))
    assert [batch.shape for batch in batches] == [(2, 4), (2, 4), (2, 2)]
    drawn = torch.cat(batches, dim=1)
    for row, mine in zip(drawn, (0, 1), strict=True):
        assert (labels[row[::2]] == mine).all()
        assert (labels[row[1::2]] != mine).all()
        assert len(set(row[1::2].tolist())) == 5
    assert sorted(drawn[1, ::2].tolist()) == [3, 4, 5, 6, 7]
    assert max(torch.bincount(drawn[0, ::2])) == 2
    again = torch.cat(list(order(train, [torch.Generator().manual_seed(seed) for seed in (1, 2)], 4)), dim=1)
    assert torch.equal(again, drawn)
    assert not torch.equal(torch.cat(list(order(train, generators, 4)), dim=1), drawn)


def test_each_specialist_has_its_own_labels():
    """Of the same view."""
    view = Relabelled(plain, torch.stack([specialist_labels(group, CLASSES) for group in GROUPS]))
    train = Examples(torch.arange(6.0)[:, None], torch.arange(6))
    batch = view(train, torch.arange(6).repeat(2, 1), 0, [])
    assert batch.labels.tolist() == [[1, 2, 0, 0, 0, 0], [0, 0, 1, 2, 3, 0]]
    assert batch.inputs[0].flatten().tolist() == list(range(6))


def test_the_loss_sees_the_odds_of_halves():
    """A tenth special: the dustbin, 9 times as likely, is as likely as the rest in the loss."""
    offset = dustbin_offset(10, 100)
    assert offset == pytest.approx(math.log(9))
    logits = torch.tensor([[[math.log(0.9), math.log(0.1)]]]).repeat(2, 1, 1)
    loss = OwnOdds((offset, 0.0))(logits, Batch(torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.long), None))
    assert loss.tolist() == pytest.approx([math.log(2), math.log(10)], rel=1e-5)


def test_the_correction_is_exact():
    """Constant inputs: the best logits under halves, corrected, are the data's own frequencies."""
    labels = torch.tensor([0] * 2 + [1] * 6 + [2] * 32)
    mine, dustbin = torch.tensor([True, True, False]), specialist_labels((0, 1), 3)
    train = Examples(torch.zeros(40, 1), labels)
    generator = [torch.Generator().manual_seed(0)]
    drawn = torch.cat(list(HalfAndHalf(mine[None], 32)(train, generator, 64)), dim=1)
    seen = dustbin[labels[drawn]]
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12)
    loss = OwnOdds((dustbin_offset(8, 40),))

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(logits.expand(1, 64, 3), Batch(torch.zeros(1, 64), seen, None)).sum()
        value.backward()
        return value

    optimiser.step(closure)
    assert logits.detach().softmax(dim=-1).flatten().tolist() == pytest.approx([0.8, 0.05, 0.15], abs=1e-4)


def test_specialists_learn_to_tell_their_classes(tmp_path):
    """Validation errors, the dustbin a class, are no more than the generalist's own under the same labels."""
    settings = SETTINGS.model_copy(update={"epochs": 25, "learning_rate": 2e-2})
    found, whole = trained(tmp_path, settings), generalist(tmp_path, settings)
    part = examples(SPLIT.validation, CPU)
    for group, errors, network in zip(GROUPS, found.errors, found.networks, strict=True):
        labels = specialist_labels(group, CLASSES)
        assert network(part.inputs).shape == (90, 1 + len(group))
        mine = int((network(part.inputs).argmax(dim=-1) != labels[part.labels]).sum())
        generalists = int((labels[whole(part.inputs).argmax(dim=-1)] != labels[part.labels]).sum())
        assert mine == errors <= generalists


@pytest.mark.parametrize("full", [False, True])
def test_together_equals_apart(tmp_path, monkeypatch, full):
    """One batched computation, or a task for each; with a dustbin or with all classes."""
    together = trained(tmp_path / "together", full=full)
    monkeypatch.setattr("trainer.stages.SMALL", 0)
    apart = trained(tmp_path / "apart", full=full)
    assert {path.name for path in (tmp_path / "apart").glob("specialists-*")} == {
        "specialists-0.safetensors",
        "specialists-1.safetensors",
    }
    assert together.errors == apart.errors
    for one, other in zip(together.networks, apart.networks, strict=True):
        for weight, same in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(weight, same, rtol=1e-3, atol=1e-5)


def test_resuming_ends_with_the_same_weights(tmp_path, monkeypatch):
    """Interrupted after the second epoch, to the bit; finished ones are not trained again."""
    monkeypatch.setattr("trainer.fit.SAVE_EVERY_S", -1.0)
    expected = trained(tmp_path / "whole")
    from trainer import fit

    saves = fit._State.save

    def interrupted(state: fit._State, path: Path) -> None:
        saves(state, path)
        if path.name.startswith("specialists") and state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit._State, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "halved")
    assert (tmp_path / "halved" / "specialists-0.checkpoint.safetensors").exists()
    for again in (trained(tmp_path / "halved"), trained(tmp_path / "halved")):
        for one, other in zip(again.networks, expected.networks, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("full", [False, True])
def test_tasks_go_to_other_processes(tmp_path, monkeypatch, full):
    """All that they take travels, and they leave the same weights to the bit."""
    monkeypatch.setattr("trainer.stages.SMALL", 0)
    here = trained(tmp_path / "here", full=full)
    spread = trained(tmp_path / "spread", full=full, cluster=Travelling())
    assert len(list((tmp_path / "spread").glob("specialists-*"))) == 2
    for one, other in zip(here.networks, spread.networks, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_tasks_of_a_network_of_ones_own_have_their_own_columns(tmp_path):
    """One module each, without padding."""
    settings = SETTINGS.model_copy(update={"network": "tests.trainer.test_heads:bare"})
    tasks = specialist_tasks(workshop(tmp_path), asked(tmp_path, settings))
    assert [(task.classes, list(task.seeds)) for task in tasks] == [(3, [8000]), (4, [8001])]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_missing_classes_are_told(part):
    """Which class, of which part, and whose it would be."""
    given: Part = getattr(SPLIT, part)
    kept = given.labels != 3
    changes = {"train": SPLIT.train, "validation": SPLIT.validation, part: Part(given.inputs[kept], given.labels[kept])}
    split = Split("clouds", SPLIT.classes, None, test=SPLIT.test, **changes)
    name = {"train": "training"}.get(part, part)
    told = f"clouds: the {name} part has no example of class d, which specialist 2 of 2 would have to tell (c, d, e)"
    with pytest.raises(DataError, match=re.escape(told)):
        check_groups(split, GROUPS)
    check_groups(split, [(0, 1)])


def test_a_group_of_all_that_there_is_to_train_on_is_told():
    """Nothing would be in its dustbin."""
    kept = SPLIT.train.labels < 2
    split = Split("clouds", SPLIT.classes, None, Part(SPLIT.train.inputs[kept], SPLIT.train.labels[kept]), *SPLIT_REST)
    told = "clouds: all training examples are of the classes of specialist 1 of 1, and none is left for its dustbin"
    with pytest.raises(DataError, match=told):
        check_groups(split, [(0, 1)])


def test_the_loss_of_specialists_without_offsets_is_cross_entropy():
    """Half special by nature needs no correction."""
    logits, labels = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    found = OwnOdds((0.0, dustbin_offset(50, 100)))(logits, Batch(torch.zeros(2, 5), labels, None))
    torch.testing.assert_close(found, cross_entropy(logits, labels))
