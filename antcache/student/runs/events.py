"""A run's figures as TensorBoard events, written when they are there.

Promise: an epoch's figures are one write, by the thread that trains: a disk that refuses is an
error there. TensorBoard's own writer has a thread, which ends with a traceback of its own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = "brain.Event:2"


def import_tensorboard() -> None:
    """Import what `Events` needs of TensorBoard.

    Raises:
        Exception: of any kind; a broken installation, or one that does not fit protobuf or NumPy,
            may fail in its own way.
    """
    import tensorboard.compat.proto.event_pb2
    import tensorboard.compat.proto.summary_pb2
    import tensorboard.summary.writer.record_writer  # noqa: F401


class Events:
    """A file of events in `folder`, which is made if it is not there.

    Args:
        folder: of all event files of a run; each call of a run adds one.
        first_epoch: what earlier files say of this epoch and later ones is void.

    Raises:
        ImportError: tensorboard is not installed; see `import_tensorboard`.
        OSError: the disk refused.
    """

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        now = time.time_ns()  # files are read in the order of their names
        name = f"events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{now}"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / name
        self._write(file_version=VERSION)
        self._write(step=first_epoch, session_log=SessionLog(status=SessionLog.START))

    def add(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Write the figures of an epoch.

        Raises:
            OSError: the disk refused.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(step=epoch, summary=Summary(value=values))

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            text = Event(wall_time=time.time(), **event).SerializeToString()
            RecordWriter(file).write(text)
