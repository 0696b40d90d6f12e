"""What a request asks of a model, and what goes back, whichever route it came by. It knows no routes and no formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.answers import Answer
from service.model import Model


class SlowRequestError(Exception):
    """Never answered: whoever reads a request in the event loop reads it again in a thread."""


JSON = "application/json"


class Reply(NamedTuple):
    """The body of a good answer, what it is, and its further headers."""

    body: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = {}


class Asked(NamedTuple):
    """Rows float32 [N, ...] for a model, and how its answer is written."""

    model: Model
    inputs: NDArray[np.float32]
    write: Callable[[Answer], Reply]
