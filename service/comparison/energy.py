"""The energy that the processor takes, where the kernel tells it (powercap, RAPL). It knows the kernel's files."""

from __future__ import annotations

import re
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PACKAGE = re.compile(r"intel-rapl:\d+")
"""A processor package; intel-rapl:0:1 is a part of one."""


class Meter:
    """Counters of all packages, in microjoules; each starts again at 0 when it has reached its range."""

    def __init__(self, counters: dict[Path, int]) -> None:
        self._ranges = counters

    def joules(self) -> list[int] | None:
        """Where the counters stand, in microjoules; None where they can no longer be read."""
        try:
            return [int(path.read_text()) for path in self._ranges]
        except OSError:
            return None

    def since(self, before: list[int]) -> float | None:
        """Joules spent since the counters stood there."""
        now = self.joules()
        if now is None:
            return None
        spent = zip(now, before, self._ranges.values(), strict=True)
        return sum((end - start) % (most + 1) for end, start, most in spent) / 1e6


def find_meter(powercap: Path = POWERCAP) -> Meter | None:
    """The meter of this machine; None where there is none that this process may read (most virtual machines)."""
    counters: dict[Path, int] = {}
    try:
        for folder in sorted(powercap.iterdir()):
            if PACKAGE.fullmatch(folder.name):
                int((folder / "energy_uj").read_text())
                counters[folder / "energy_uj"] = int((folder / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None
    return Meter(counters) if counters else None
