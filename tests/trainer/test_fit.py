"""The training loop on problems of a few examples: it learns, it chooses, it repeats itself, it goes on."""

import inspect
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import losses
from trainer.errors import TrainerError
from trainer.fit import Batch, Choice, Examples, Progress, View, fit, plain, score
from trainer.networks import Normalise, Stack
from trainer.recipe import Training
from trainer.views import Jittered

IDENTITY = Normalise(torch.tensor(0.0), torch.tensor(1.0))
SEEDS = (4, 0, 7)
SETTINGS = Training(hidden=(12,), dropout=0.2, epochs=6, batch_size=16, learning_rate=0.02, weight_decay=1e-3)


@pytest.fixture(autouse=True)
def every_epoch_leaves_a_checkpoint(monkeypatch):
    monkeypatch.setattr("trainer.fit.SAVE_EVERY_S", -1.0)


def blobs(total: int, seed: int, spread: float = 1.0) -> Examples:
    """Three clouds of points in five dimensions."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, total)
    centres = 2.0 * np.eye(5)[:3]
    inputs = centres[labels] + random.normal(0.0, spread, (total, 5))
    return Examples(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels))


TRAIN, VALIDATION = blobs(100, seed=0), blobs(60, seed=1)


def hard(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    return losses.cross_entropy(logits, batch.labels)


def train(
    checkpoint: Path,
    seeds=SEEDS,
    settings: Training = SETTINGS,
    data: Examples = TRAIN,
    validation: Examples = VALIDATION,
    loss=hard,
    report: Callable[[Progress], None] = lambda progress: None,
    view: View = plain,
) -> tuple[Stack, Choice]:
    sizes = (data.inputs[0].numel(), *settings.hidden, 3)
    stack = Stack(sizes, seeds, IDENTITY, settings.dropout)
    return stack, fit(stack, data, validation, loss, settings, seeds, checkpoint, report, view)


def weights(stack: Stack) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in stack.parameters()]


def same_bits(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def interrupt_after(epoch: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise KeyboardInterrupt

    return report


def test_it_learns_a_separable_problem(tmp_path):
    """Three clouds that do not touch: no errors."""
    data = blobs(90, seed=2, spread=0.1)
    stack, choice = train(tmp_path / "c", data=data, validation=blobs(60, seed=3, spread=0.1))
    assert choice.errors == [0, 0, 0]
    assert score(stack, data)[0].tolist() == [0, 0, 0]


def test_members_may_have_labels_of_their_own_on_validation():
    """The same example another class to each: as if each had been scored by itself."""
    stack = Stack((5, 3), SEEDS, IDENTITY)
    labels = torch.stack([(VALIDATION.labels + shift) % 3 for shift in range(3)])
    errors, nll = score(stack, VALIDATION._replace(labels=labels), batch_size=7)
    for member in range(3):
        alone = score(stack, VALIDATION._replace(labels=labels[member]))
        assert (errors[member], nll[member].item()) == (
            alone[0][member],
            pytest.approx(alone[1][member].item(), rel=1e-6),
        )


def test_an_order_says_what_an_epoch_is(tmp_path):
    """Three batches of the first ten examples, whatever there are."""
    sizes: list[int] = []

    def seen(data: Examples, indices: torch.Tensor, epoch: int, generators) -> Batch:
        sizes.append(indices.shape[1])
        assert indices.max() < 10
        return plain(data, indices, epoch, generators)

    def ten(data: Examples, generators, batch_size: int):
        yield from torch.arange(10).repeat(len(generators), 1).split(batch_size, dim=1)

    settings = SETTINGS.model_copy(update={"epochs": 2, "batch_size": 4})
    stack = Stack((5, 12, 3), SEEDS, IDENTITY)
    fit(stack, TRAIN, VALIDATION, hard, settings, SEEDS, tmp_path / "c", lambda _: None, view=seen, order=ten)
    assert sizes == [4, 4, 2] * 2


def test_twice_gives_the_same_weights_bit_for_bit(tmp_path):
    """The same seeds on the CPU."""
    (first, chosen), (second, chosen_again) = train(tmp_path / "a"), train(tmp_path / "b")
    assert same_bits(weights(first), weights(second))
    assert chosen == chosen_again


def test_another_seed_gives_other_weights(tmp_path):
    """Seeds do decide."""
    assert not same_bits(weights(train(tmp_path / "a", seeds=(1,))[0]), weights(train(tmp_path / "b", seeds=(2,))[0]))


def test_members_together_equal_members_apart(tmp_path):
    """Training three at once is training three: the same epochs, weights within float32's rounding."""
    together, choice = train(tmp_path / "together")
    for member, seed in enumerate(SEEDS):
        apart, own = train(tmp_path / f"apart-{seed}", seeds=(seed,))
        assert (choice.epochs[member], choice.errors[member]) == (own.epochs[0], own.errors[0])
        assert choice.nll[member] == pytest.approx(own.nll[0], rel=1e-4)
        for wide, single in zip(weights(together), weights(apart), strict=True):
            torch.testing.assert_close(wide[member], single[0], rtol=1e-3, atol=1e-5)


def test_members_with_jitter_together_equal_members_apart(tmp_path):
    """Views are each member's own, too."""
    random = np.random.default_rng(0)
    images = Examples(torch.from_numpy(random.random((40, 4, 4), np.float32)), torch.arange(40) % 3)
    settings = SETTINGS.model_copy(update={"epochs": 3})
    common = {"settings": settings, "data": images, "validation": images}
    view = Jittered(1, 0.0)
    together, _ = train(tmp_path / "together", view=view, **common)
    assert not same_bits(weights(together), weights(train(tmp_path / "still", **common)[0]))
    for member, seed in enumerate(SEEDS):
        apart, _ = train(tmp_path / f"{seed}", seeds=(seed,), view=view, **common)
        for wide, single in zip(weights(together), weights(apart), strict=True):
            torch.testing.assert_close(wide[member], single[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_resuming_ends_with_the_same_weights(tmp_path, epoch):
    """Interrupted after any epoch, it goes on with the next one and ends bit for bit as if nothing had happened."""
    expected, choice = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "halved", report=interrupt_after(epoch))
    seen: list[int] = []
    resumed, chosen = train(tmp_path / "halved", report=lambda progress: seen.append(progress.epoch))
    assert seen == list(range(epoch + 1, SETTINGS.epochs + 1))
    assert same_bits(weights(resumed), weights(expected))
    assert chosen == choice


def test_resuming_twice_ends_with_the_same_weights(tmp_path):
    """A run that is interrupted again and again still arrives."""
    expected, _ = train(tmp_path / "whole")
    for epoch in (1, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "c", report=interrupt_after(epoch))
    assert same_bits(weights(train(tmp_path / "c")[0]), weights(expected))


def test_resuming_after_the_last_epoch_only_chooses(tmp_path):
    """A run that was killed between its last checkpoint and its end trains no more."""
    expected, choice = train(tmp_path / "c")
    resumed, chosen = train(tmp_path / "c", report=lambda progress: pytest.fail("it trained on"))
    assert same_bits(weights(resumed), weights(expected))
    assert chosen == choice


def test_checkpoints_keep_their_distance(tmp_path, monkeypatch):
    """Short epochs do not spend their time writing: only the last one leaves a checkpoint."""
    monkeypatch.setattr("trainer.fit.SAVE_EVERY_S", 3600.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", report=interrupt_after(SETTINGS.epochs - 1))
    assert not (tmp_path / "c").exists()
    train(tmp_path / "c")
    assert (tmp_path / "c").exists()


def test_the_best_epoch_on_validation_is_kept(tmp_path):
    """Of the weights after each epoch, those with the fewest validation errors, then the lowest NLL; per member."""
    history: list[tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]] = []
    settings = SETTINGS.model_copy(update={"learning_rate": 0.1, "epochs": 10})
    stack = Stack((5, 12, 3), SEEDS, IDENTITY, settings.dropout)

    def remember(_progress: Progress) -> None:
        history.append((weights(stack), *by_hand(stack, VALIDATION)))

    choice = fit(stack, TRAIN, VALIDATION, hard, settings, SEEDS, tmp_path / "c", remember)
    assert len(set(choice.epochs)) > 1  # else the test says little
    for member in range(3):
        figures = [(errors[member].item(), nll[member].item()) for _, errors, nll in history]
        best = min(range(10), key=lambda epoch: figures[epoch])
        assert choice.epochs[member] == best + 1
        assert (choice.errors[member], choice.nll[member]) == pytest.approx(figures[best], rel=1e-5)
        kept = [parameter[member] for parameter in weights(stack)]
        assert same_bits(kept, [parameter[member] for parameter in history[best][0]])


def test_the_last_epoch_is_kept_where_it_is_asked_for(tmp_path):
    """Whatever validation says; its errors are told."""
    settings = SETTINGS.model_copy(update={"learning_rate": 0.1, "epochs": 10, "keep": "last"})
    last: list[torch.Tensor] = []
    stack = Stack((5, 12, 3), SEEDS, IDENTITY, settings.dropout)
    choice = fit(
        stack,
        TRAIN,
        VALIDATION,
        hard,
        settings,
        SEEDS,
        tmp_path / "c",
        lambda _: last.__setitem__(slice(None), weights(stack)),
    )
    errors_M, nll_M = by_hand(stack, VALIDATION)
    assert choice.epochs == [10, 10, 10]
    assert choice.errors == errors_M.tolist()
    assert choice.nll == pytest.approx(nll_M.tolist(), rel=1e-5)
    assert same_bits(weights(stack), last)


def by_hand(stack: Stack, data: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors [M] and NLL [M] in float64."""
    with torch.no_grad():
        logits = stack(data.inputs.expand(stack.members, -1, -1)).double()
    log_p = logits - logits.exp().sum(dim=-1, keepdim=True).log()
    labels = data.labels
    nll = -log_p[:, torch.arange(len(labels)), labels].mean(dim=-1)
    return (logits.argmax(dim=-1) != labels).sum(dim=-1), nll


def test_score_does_not_depend_on_the_batch_size():
    """Errors and NLL of all examples at once equal those of batches of seven."""
    stack = Stack((5, 12, 3), SEEDS, IDENTITY)
    errors, nll = score(stack, TRAIN, batch_size=7)
    expected_errors, expected_nll = by_hand(stack, TRAIN)
    assert errors.tolist() == expected_errors.tolist()
    np.testing.assert_allclose(nll, expected_nll, rtol=1e-5)


def test_test_data_are_not_even_an_argument():
    """The loop cannot choose on what it never sees."""
    names = list(inspect.signature(fit).parameters)
    assert names[:3] == ["stack", "train", "validation"]
    assert names[3:] == ["loss", "settings", "seeds", "checkpoint", "report", "view", "order"]


def test_progress_is_told_after_every_epoch(tmp_path):
    """With the best validation errors so far, which never rise."""
    seen: list[Progress] = []
    train(tmp_path / "c", report=seen.append)
    assert [(progress.epoch, progress.epochs) for progress in seen] == [(epoch, 6) for epoch in range(1, 7)]
    best = np.array([progress.best_errors for progress in seen])
    assert best.shape == (6, 3)
    assert (np.diff(best, axis=0) <= 0).all()


@pytest.mark.parametrize("rate", [1e10, 1e30])
def test_a_diverging_run_says_so(tmp_path, rate):
    """And names the learning rate."""
    settings = SETTINGS.model_copy(update={"learning_rate": rate})
    message = rf"training diverged in epoch \d: .*; try a learning_rate below {re.escape(str(rate))}$"
    with pytest.raises(TrainerError, match=message):
        train(tmp_path / "c", settings=settings, loss=lambda logits, batch: hard(logits, batch) ** 2)


def test_a_run_of_one_epoch_that_diverges_says_so(tmp_path):
    """It does not hand over weights that are NaN."""
    settings = SETTINGS.model_copy(update={"learning_rate": 1e38, "epochs": 1, "batch_size": 100})
    with pytest.raises(TrainerError, match="training diverged in epoch 1"):
        train(tmp_path / "c", settings=settings)


def test_learning_and_dropout_go_on_after_the_first_validation(tmp_path):
    """In every epoch the weights move and dropout is at work: nothing leaves the network in evaluation mode."""
    stack = Stack((5, 12, 3), SEEDS, IDENTITY, dropout=0.5)
    history = [weights(stack)]
    dropped: list[bool] = []

    def loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        dropped.append(not torch.equal(logits, stack(batch.inputs)))
        return hard(logits, batch)

    fit(stack, TRAIN, VALIDATION, loss, SETTINGS, SEEDS, tmp_path / "c", lambda _: history.append(weights(stack)))
    assert len(dropped) == SETTINGS.epochs * 7  # 100 examples in batches of 16
    assert all(dropped)
    assert not any(same_bits(before, after) for before, after in itertools.pairwise(history))


def test_every_member_sees_every_example_once_an_epoch_in_an_order_of_its_own(tmp_path):
    """Labels and teacher stay with their examples, and the last batch is the smaller one."""
    total = 50
    inputs = torch.arange(total, dtype=torch.float32)[:, None].expand(-1, 5)
    data = Examples(inputs, torch.arange(total) % 3, torch.arange(total, dtype=torch.float32)[:, None].expand(-1, 3))
    seen: list[torch.Tensor] = []

    def loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        numbers = batch.inputs[..., 0]
        assert torch.equal(batch.labels, numbers.long() % 3)
        assert batch.log_teacher is not None
        assert torch.equal(batch.log_teacher[..., 0], numbers)
        seen.append(numbers.long())
        return 0.0 * hard(logits, batch)

    settings = SETTINGS.model_copy(update={"epochs": 2})
    train(tmp_path / "c", data=data, settings=settings, loss=loss)
    assert [batch.shape[1] for batch in seen] == [16, 16, 16, 2] * 2
    epochs = [torch.cat(seen[:4], dim=1), torch.cat(seen[4:], dim=1)]
    for order in epochs:
        assert all(member.sort().values.tolist() == list(range(total)) for member in order)
        assert len({tuple(member.tolist()) for member in order}) == 3
    assert not torch.equal(*epochs)


def test_the_loop_is_adam_along_half_a_cosine(tmp_path):
    """After every epoch the weights are those of PyTorch's own Adam and CosineAnnealingLR, written out once more."""
    settings = SETTINGS.model_copy(update={"dropout": 0.0, "batch_size": len(TRAIN.labels)})
    stack = Stack((5, 12, 3), (4,), IDENTITY)
    network = stack.member(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=settings.epochs)
    history: list[torch.Tensor] = []
    fit(stack, TRAIN, VALIDATION, hard, settings, (4,), tmp_path / "c", lambda _: history.append(flat(stack.member(0))))
    for found in history:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(TRAIN.inputs), TRAIN.labels).backward()
        optimiser.step()
        schedule.step()
        torch.testing.assert_close(found, flat(network), rtol=1e-3, atol=1e-4)
    assert len(history) == settings.epochs


def flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
