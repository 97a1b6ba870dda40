"""Host buffers that are used in turn, on the way of windows to a device.

Promise: a buffer is not handed out for writing before the copy of what was in it has arrived.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Staging:
    """`depth` buffers of one shape; on a CPU they are themselves where the windows arrive.

    Args:
        shape: (B, T, D), B windows at most.
        dtype: of the windows.
        device: where they go.
        depth: buffers.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, depth: int
    ) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._buffers = [
            torch.empty(shape, dtype=dtype, pin_memory=self._cuda) for _ in range(depth)
        ]
        self._copies: list[torch.cuda.Event | None] = [None] * depth

    @property
    def num_windows(self) -> int:
        """Windows that a buffer holds."""
        return len(self._buffers[0])

    def buffer(self, turn: int, num_windows: int) -> Tensor:
        """The buffer (num_windows, T, D) of a turn, free to be written; any thread may ask."""
        place = turn % len(self._buffers)
        copy = self._copies[place]
        if copy is not None:
            copy.synchronize()
        return self._buffers[place][:num_windows]

    def send(self, turn: int, num_windows: int) -> Tensor:
        """What was written in a turn, (num_windows, T, D) on the device.

        On a CPU this is the buffer itself, which the turn `depth` later writes over; elsewhere the
        copy is under way, in order with what the device is told next.
        """
        place = turn % len(self._buffers)
        written = self._buffers[place][:num_windows]
        if not self._cuda:
            return written.to(self._device)
        sent = written.to(self._device, non_blocking=True)
        copy = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copy.record(torch.cuda.current_stream(self._device))
        self._copies[place] = copy
        return sent
