"""What the models are called in a report: a letter each, in the order in which they were named. It knows no figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from string import ascii_uppercase

from service.comparison.render.markup import clean
from service.comparison.schema.report import ComparedModel, Pair


def letter(index: int) -> str:
    """A, B, ... Z, A1, B1, ..."""
    turn, place = divmod(index, len(ascii_uppercase))
    return f"{ascii_uppercase[place]}{turn or ''}"


class Names:
    """Looks up models by their places, and pairs, which are all combinations in the order of the models."""

    def __init__(self, models: Sequence[ComparedModel], pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._places = list(combinations(range(len(models)), 2))
        keys = [model.name if model.version is None else f"{model.name}/{model.version}" for model in models]
        places = [f" at {model.http.url}" if model.role == "remote" and model.http else "" for model in models]
        self._labels = [
            clean(key + place if keys.count(key) > 1 else key) for key, place in zip(keys, places, strict=True)
        ]

    def label(self, index: int) -> str:
        """name/version, as POST /compare takes it; the name alone where there is no version. Where several servers were
        asked for the same, their URLs too."""
        return self._labels[index]

    def pair(self, pair: Pair) -> tuple[int, int]:
        """The places of a pair's models, by the pair's own place: names may be the same."""
        return self._places[next(at for at, one in enumerate(self._pairs) if one is pair)]

    def labels(self, pair: Pair) -> tuple[str, str]:
        """The names of a pair's models; where they are the same, their letters tell which is which."""
        a, b = self.pair(pair)
        if self.label(a) != self.label(b):
            return self.label(a), self.label(b)
        return f"{self.label(a)} ({letter(a)})", f"{self.label(b)} ({letter(b)})"
