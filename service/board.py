"""Memory that the workers of one service share: each writes into a slot of its own and reads the others'.

It knows bytes, not counts. A slot is its length, its CRC-32, then the bytes: whoever reads while it is written sees
that they do not fit together, and reads again.
"""

from __future__ import annotations

import mmap
import struct
import time
import zlib

HEAD = struct.Struct("<QI")
SLOT_BYTES = 2**22
"""Of address space; memory is taken for what is written."""
TRIES = 20


class Board:
    """`slots` of them, for processes that are forked after it was made."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, slots * SLOT_BYTES)

    def write(self, slot: int, raw: bytes) -> None:
        """Replaces what a slot holds. Raises ValueError where it is too long for it."""
        if len(raw) > SLOT_BYTES - HEAD.size:
            raise ValueError(f"got {len(raw)} bytes for a slot, expected at most {SLOT_BYTES - HEAD.size}")
        start = slot * SLOT_BYTES
        self._memory[start : start + HEAD.size] = HEAD.pack(len(raw), zlib.crc32(raw))
        self._memory[start + HEAD.size : start + HEAD.size + len(raw)] = raw

    def read(self, slot: int) -> bytes | None:
        """What a slot holds; None where nothing was written yet, or nothing whole can be read in a few tries."""
        for _ in range(TRIES):
            start = slot * SLOT_BYTES
            length, checksum = HEAD.unpack(self._memory[start : start + HEAD.size])
            raw = self._memory[start + HEAD.size : start + HEAD.size + min(length, SLOT_BYTES)]
            if zlib.crc32(raw) == checksum:
                return raw if length else None
            time.sleep(0.0001)
        return None
