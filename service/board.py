"""Memory that the workers of one service share: each writes into a slot of its own and reads the others'.

It knows bytes, not counts. A slot has two halves that are written in turn, each its number, its length, its CRC-32 and
the bytes: whoever reads while one is written, or after its writer died in the middle, finds the other whole.
"""

from __future__ import annotations

import mmap
import struct
import zlib

HEAD = struct.Struct("<QQI")
HALF_BYTES = 2**22
"""Of address space; memory is taken for what is written."""


class Board:
    """`slots` of them, for processes that are forked after it was made."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * 2 * HALF_BYTES)

    def write(self, slot: int, raw: bytes) -> None:
        """Replaces what a slot holds. Raises ValueError where it is too long for it."""
        if len(raw) > HALF_BYTES - HEAD.size:
            raise ValueError(f"got {len(raw)} bytes for a slot, expected at most {HALF_BYTES - HEAD.size}")
        number = max(found[0] for found in self._halves(slot)) + 1
        start = (2 * slot + number % 2) * HALF_BYTES
        self._memory[start : start + HEAD.size] = HEAD.pack(number, len(raw), zlib.crc32(raw))
        self._memory[start + HEAD.size : start + HEAD.size + len(raw)] = raw

    def read(self, slot: int) -> bytes | None:
        """What a slot holds; None where nothing was written yet."""
        return max(self._halves(slot), key=lambda half: half[0])[1]

    def _halves(self, slot: int) -> list[tuple[int, bytes | None]]:
        """The number and the bytes of each half; 0 and None for one that is empty or not whole."""
        halves: list[tuple[int, bytes | None]] = []
        for start in (2 * slot * HALF_BYTES, (2 * slot + 1) * HALF_BYTES):
            number, length, checksum = HEAD.unpack(self._memory[start : start + HEAD.size])
            raw = self._memory[start + HEAD.size : start + HEAD.size + min(length, HALF_BYTES)]
            is_whole = number > 0 and zlib.crc32(raw) == checksum
            halves.append((number, raw) if is_whole else (0, None))
        return halves
