"""Which classes a generalist confuses, and the groups that its specialists take on. It sees predictions, never labels.

Two classes that are often predicted together have a large covariance, so k-means on the columns of the covariance of
the predictions puts them into one group (section 5.2). Groups are tuples of class indices, in rising order.
Legend: N examples, K classes, S groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import euclidean_distances

from trainer.errors import TrainerError

Group = tuple[int, ...]
Floats = NDArray[np.float64]

STARTS, ROUNDS = 8, 10
"""How often k-means begins anew, the tightest groups being kept, and how often its centres are then moved to the means
of their groups: on-line steps end near those, and do not know of a size. Centres do not move where classes are left
over: they would follow whatever is close by chance."""
CHUNK = 65_536


class Moments(NamedTuple):
    """Of predictions: their mean [K] and their covariance [K, K], over N examples (not N - 1)."""

    mean_K: Floats
    covariance_KK: Floats

    @property
    def together(self) -> Floats:
        """E[p_i p_j], [K, K]: how likely two draws from one prediction are i and then j."""
        return self.covariance_KK + np.outer(self.mean_K, self.mean_K)

    @property
    def correlation(self) -> Floats:
        """The covariance of predictions that have deviation 1, [K, K]; 0 for a class that is predicted alike always."""
        variance_K = np.maximum(self.covariance_KK.diagonal(), 0.0)
        varies_K = variance_K > 1e-15  # less is rounding
        scale_K = np.divide(1.0, np.sqrt(variance_K), out=np.zeros_like(variance_K), where=varies_K)
        return self.covariance_KK * np.outer(scale_K, scale_K)


def moments(log_p_NK: NDArray[np.floating]) -> Moments:
    """Of predictions given as log-probabilities. Raises TrainerError where they are none."""
    if log_p_NK.ndim != 2 or not len(log_p_NK):
        raise TrainerError(f"predictions have shape {list(log_p_NK.shape)}, expected [N, K] with N at least 1")
    examples, classes = log_p_NK.shape
    total_K, squares_KK = np.zeros(classes), np.zeros((classes, classes))
    for start in range(0, examples, CHUNK):
        p_BK = np.exp(log_p_NK[start : start + CHUNK].astype(np.float64))
        wrong = ~(np.abs(p_BK.sum(axis=1) - 1.0) < 1e-3)  # NaN is wrong too
        if wrong.any():
            row = start + int(wrong.argmax())
            raise TrainerError(
                f"prediction {row} sums to {p_BK[row - start].sum():.4g}, expected log-probabilities of {classes} "
                "classes, which sum to 1"
            )
        total_K += p_BK.sum(axis=0)
        squares_KK += p_BK.T @ p_BK
    mean_K = total_K / examples
    return Moments(mean_K, squares_KK / examples - np.outer(mean_K, mean_K))


def confusion(found: Moments, group: Sequence[int]) -> float:
    """The share of all the generalist's confusion that is within a group, 0 to 1.

    Confusion is the chance that two draws from one prediction differ; a group has that of both being of its classes.
    A generalist that is always certain has none, and the share is 0.
    """
    apart_KK = found.together * (1.0 - np.eye(len(found.mean_K)))
    whole, members = apart_KK.sum(), list(group)
    return float(apart_KK[np.ix_(members, members)].sum() / whole) if whole > 0 else 0.0


def make_groups(
    found: Moments, number: int, size: int | None, overlap: bool, seed: int, *, standardise: bool = False
) -> list[Group]:
    """So many groups, none with more than `size` classes; with `overlap` each has exactly `size`.

    With `standardise` it is the correlation that counts, and not the covariance, in which the classes that vary most
    lie far from all others: of a confident generalist's ten digits, groups then hold more of its confusion.

    Raises TrainerError: more groups than classes, a group that holds all of them, fewer groups than asked for.
    """
    classes = len(found.mean_K)
    if number > classes:
        raise TrainerError(f"{number} groups of {classes} classes: expected at most {classes}")
    if size is not None and size >= classes:
        raise TrainerError(f"groups of {size} classes of {classes}: expected fewer, some must be left for the dustbin")
    if overlap and size is None:
        raise TrainerError("overlapping groups need a size")
    matrix_KK = found.correlation if standardise else found.covariance_KK
    if overlap and size is not None:
        return overlapping(matrix_KK, number, size)
    return disjoint(matrix_KK, number, size, seed)


def disjoint(covariance_KK: Floats, number: int, size: int | None, seed: int) -> list[Group]:
    """On-line k-means on the columns of the covariance: groups without a common class.

    With a `size` the pairs of class and centre are taken in order of their distance, while the group has room; a class
    that finds none is nobody's special class. The columns of a good generalist are nearly at one distance from each
    other, its certain classes the farthest: without a size k-means makes groups of one class, which nobody confuses.
    """
    columns = covariance_KK.T / (np.abs(covariance_KK).max() or 1.0)
    differ = len(np.unique(columns, axis=0))
    if differ < number:
        raise TrainerError(
            f"k-means cannot make {number} groups: the predictions of only {differ} classes differ; choose fewer groups"
        )
    group_K = _tightest(columns, number, len(columns) if size is None else size, seed)
    groups = sorted(tuple(np.flatnonzero(group_K == group).tolist()) for group in range(number))
    if len(columns) in map(len, groups):
        raise TrainerError(
            f"one group holds all {len(columns)} classes and leaves none for its dustbin; choose more groups or a size"
        )
    if not groups[0]:
        filled = sum(map(bool, groups))
        raise TrainerError(f"k-means made {filled} groups of the {number} asked for; choose fewer, or another size")
    return groups


def _tightest(columns_KK: Floats, number: int, room: int, seed: int) -> NDArray[np.int64]:
    """The group of each class [K], -1 for none, with the least squared distances from the centres, of several tries."""
    found: list[tuple[float, NDArray[np.int64]]] = []
    for start in range(STARTS):
        means = MiniBatchKMeans(number, random_state=seed * STARTS + start, n_init=1, max_no_improvement=None)
        centres_SK = means.fit(columns_KK).cluster_centers_
        group_K = np.full(len(columns_KK), -2)
        for _ in range(ROUNDS if number * room >= len(columns_KK) else 1):
            before_K = group_K
            squares_KS = np.square(euclidean_distances(columns_KK, centres_SK))
            group_K = _nearest(squares_KS, room)
            if (group_K == before_K).all():
                break
            full = [group for group in range(number) if (group_K == group).any()]
            centres_SK[full] = [columns_KK[group_K == group].mean(axis=0) for group in full]
        own_K = np.where(group_K < 0, squares_KS.min(axis=1), squares_KS[np.arange(len(group_K)), group_K])
        found.append((float(own_K.sum()), group_K))
    return min(found, key=lambda pair: pair[0])[1]


def _nearest(squares_KS: Floats, room: int) -> NDArray[np.int64]:
    """Each class's nearest centre that has room, the nearest pairs first."""
    classes, number = squares_KS.shape
    if room >= classes:
        return squares_KS.argmin(axis=1)
    group_K, left = np.full(classes, -1), [room] * number
    for pair in np.argsort(squares_KS, axis=None, kind="stable").tolist():
        label, group = divmod(pair, number)
        if group_K[label] < 0 and left[group]:
            group_K[label] = group
            left[group] -= 1
    return group_K


def overlapping(covariance_KK: Floats, number: int, size: int) -> list[Group]:
    """Greedy groups that may share classes, the most confused first.

    Each begins with the pair of the largest covariance and takes on, one by one, the class with the largest sum of
    covariances with those in it. A pair that has a group already counts for less than the least confused pair, so that
    later groups look at other confusions; equals go by index.
    """
    left_KK = covariance_KK.copy()
    np.fill_diagonal(left_KK, -np.inf)
    least = covariance_KK.min()
    little = 1e-3 * (covariance_KK.max() - least)
    groups: list[Group] = []
    for _ in range(number):
        group = list(divmod(int(left_KK.argmax()), len(left_KK)))
        while len(group) < size:
            worth_K = left_KK[group].sum(axis=0)  # -inf for those in the group, by the diagonal
            group.append(int(worth_K.argmax()))
        del group[size:]
        groups.append(tuple(sorted(group)))
        within = np.ix_(group, group)
        left_KK[within] = np.minimum(left_KK[within], least) - little
    differ = len(set(groups))
    if differ < number:
        raise TrainerError(
            f"{number} overlapping groups of {size} classes: only {differ} of them differ; choose fewer or another size"
        )
    return groups
