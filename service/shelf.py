"""One version of a model repository as it was last seen. It knows a version's folder, not the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from service.model import Model

Key = tuple[str, int]
"""Name and version."""
Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Of each file of a version folder: name, inode, size, time of its last change, of rights too (ctime)."""


class Refusal(NamedTuple):
    """A version that is not served, and why."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True)
class Shelf:
    """One version as last seen. A version that was good and then turns bad keeps its model, and has a reason too."""

    fingerprint: Fingerprint
    model: Model | None
    reason: str | None = None


def fingerprint_of(folder: Path) -> Fingerprint:
    """Changes when a file of the folder does; empty where the folder cannot be read or is just being deleted."""
    try:
        found = [(entry.name, entry.stat()) for entry in folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_ctime_ns) for name, stat in found))
