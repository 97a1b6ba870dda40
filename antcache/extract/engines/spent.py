"""Where the time of a pass went, so that it says what to do about it.

Promise: the parts make up the whole. While the backbone waits for pictures, decoding limits the
pass, or preparing them, in the proportion in which the decoders are at either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

DECODING, PREPROCESSING, BACKBONE, DISK = "decoding", "preprocessing", "backbone", "disk"


class TimeSpent:
    """Seconds of the one who runs the backbone."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds = dict.fromkeys((DECODING, PREPROCESSING, BACKBONE, DISK), 0.0)

    @contextmanager
    def at(self, part: str) -> Iterator[None]:
        """Count what is done here to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - began

    def shares(self, *, decoding_s: float, preparing_s: float) -> dict[str, float]:
        """Part of the time so far that went into each, 1 in all.

        Args:
            decoding_s: seconds that all decoders decoded.
            preparing_s: seconds that they prepared pictures.
        """
        whole = max(time.perf_counter() - self._began, 1e-9)
        waited = max(0.0, whole - sum(self.seconds.values()))
        part = decoding_s / max(decoding_s + preparing_s, 1e-9)
        found = dict(self.seconds)
        found[DECODING] += waited * part
        found[PREPROCESSING] += waited * (1 - part)
        return {name: seconds / sum(found.values()) for name, seconds in found.items()}
