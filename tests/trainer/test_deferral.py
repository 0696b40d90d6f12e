"""When a student asks: a temperature and a threshold chosen on validation, by numpy's word."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from tests.trainer.test_cascade import ENSEMBLE_RIGHT, RIGHT, STUDENT, STUDENT_RIGHT, accuracy_of
from trainer.deferral import Choice, Costs, Cut, all_cuts, cells, choose, fit_temperature, table
from trainer.errors import TrainerError


def nll(logits: NDArray, labels: NDArray, temperature: float) -> float:
    return float(-special.log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


def test_the_temperature_has_the_smallest_nll():
    """Of a fine grid none is better; logits three times as large want three times the temperature."""
    found = fit_temperature(STUDENT, RIGHT)
    best = min(nll(STUDENT, RIGHT, temperature) for temperature in np.geomspace(0.05, 20, 2000))
    assert nll(STUDENT, RIGHT, found) <= best + 1e-9
    assert fit_temperature(3 * STUDENT, RIGHT) == pytest.approx(3 * found, rel=1e-3)


def test_labels_drawn_at_a_temperature_give_it_back():
    """Within what 20,000 draws allow."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (20_000, 5))
    labels = (special.softmax(logits / 2.5, axis=1).cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)


def test_a_student_without_errors_has_the_lowest_temperature():
    """There is no minimum; the search ends at its end."""
    assert fit_temperature(STUDENT, STUDENT.argmax(axis=1)) == pytest.approx(0.05, rel=0.01)


def test_every_cut_is_what_its_threshold_does():
    """Counted anew for each; all shares from none to all, each once."""
    confidence = special.softmax(STUDENT, axis=1).max(axis=1)
    cuts = all_cuts(confidence, STUDENT_RIGHT, ENSEMBLE_RIGHT)
    assert [cut.deferred for cut in cuts] == list(range(401))
    for cut in cuts:
        deferred, accuracy = accuracy_of(cut.threshold, 1.0)
        assert (deferred, accuracy) == (cut.deferred, pytest.approx(cut.right / 400))


def test_equals_stay_together_and_certainty_is_never_deferred():
    """By hand: confidences of 0.5 twice, of neighbouring numbers, and of 1 exactly."""
    above = np.nextafter(0.7, 1.0)
    confidence = np.array([1.0, 0.5, above, 0.5, 0.7])
    student, ensemble = np.array([1, 0, 0, 0, 1], dtype=bool), np.array([0, 1, 1, 0, 1], dtype=bool)
    assert all_cuts(confidence, student, ensemble) == [
        Cut(0.0, 0, 2),
        Cut(0.6, 2, 3),
        Cut(above, 3, 3),
        Cut((above + 1) / 2, 4, 4),
    ]


@pytest.mark.parametrize("max_loss", [0.0, 2.0, 5.0, 10.0, 50.0])
def test_the_smallest_share_is_chosen(max_loss: float):
    """That keeps within the loss; with one row less deferred it would not."""
    confidence = special.softmax(STUDENT, axis=1).max(axis=1)
    found = choose(confidence, STUDENT_RIGHT, ENSEMBLE_RIGHT, max_loss)
    order = np.argsort(confidence)
    below = [
        100 * (ENSEMBLE_RIGHT.mean() - np.r_[ENSEMBLE_RIGHT[order[:k]], STUDENT_RIGHT[order[k:]]].mean())
        for k in range(401)
    ]
    assert found.cut.deferred == next(k for k in range(401) if below[k] <= max_loss + 1e-9)
    assert (found.student, found.ensemble) == (STUDENT_RIGHT.sum(), ENSEMBLE_RIGHT.sum())


def test_a_loss_that_no_threshold_keeps_to_is_told():
    """A student that is wholly sure of its errors."""
    confidence, wrong, right = np.ones(4), np.zeros(4, dtype=bool), np.ones(4, dtype=bool)
    text = (
        r"^no threshold keeps within 50 points of the ensemble's 100\.00%: the student is wholly sure of 4 of 4 "
        r"validation examples, and the best cascade reaches 0\.00%$"
    )
    with pytest.raises(TrainerError, match=text):
        choose(confidence, wrong, right, 50.0)


def test_a_line_of_the_table_by_hand():
    """Ten of a hundred deferred, at a tenth of the ensemble's cost a row and one of 0.5 ms."""
    choice = Choice(Cut(0.5, 10, 97), [Cut(0.0, 0, 95), Cut(0.5, 10, 97), Cut(1.0, 100, 98)], 100, 95, 98)
    found = cells(choice.cut, choice, Costs(100, 0.01), Costs(1000, 0.5))
    assert found == ("* 0.5000", "10.0%", "97.00%", "95.00%", "98.00%", "1.00", "20.0%", "0.0600")
    assert cells(choice.cuts[0], choice, Costs(100, None), Costs(1000, 0.5))[-2:] == ("10.0%", "")
    assert table(choice, Costs(100, None), Costs(1000, None)).row_count == 3
