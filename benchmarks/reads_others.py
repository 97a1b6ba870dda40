"""Windows read by what may live in another Python: zarr-python 3.3, its pipelines, and Lance.

    PYTHON benchmarks/reads_others.py FOLDER       # started by reads.py for its --others PYTHON

zarr-python 3.3 asks for Python 3.12, which antcache does not, and none of these is a part of
antcache: an environment of their own has them (`pip install 'zarr>=3.3' zarrs pylance`), in which a
process reads what `reads.py` has written and times itself, so that nothing of what passes between
the two is counted. What is not installed there is said, and left out.

  - zarr-python with the pipelines that it has: the usual one, `FusedCodecPipeline` and
    `zarrs.ZarrsCodecPipeline`, strictly. The rows from a window's first to its last are asked for
    in one piece, as zarrs wants it and as is no slower for the others; chunks as in `reads.py`.
  - Lance: all rows in one table, each as one binary value, which of its types are the quickest to
    read; those of a batch in one `take`, copied into the same buffer.

One thread each. Needs NumPy, and nothing of antcache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Read = Callable[[NDArray[np.int64]], None]
"""Reads the windows at some positions into the buffer."""

PIPELINES = {
    "": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    ", fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    ", zarrs": "zarrs.ZarrsCodecPipeline",
}
"""Of zarr-python, by what stands behind its name."""


class Wanted:
    """What `reads.py` has left in a folder: rows, and the windows that are asked for."""

    def __init__(self, folder: Path) -> None:
        said = json.loads((folder / "asked.json").read_text("utf-8"))
        with np.load(folder / "asked.npz") as arrays:
            self.which, self.rows = arrays["which"], arrays["rows"]
        self.names: list[str] = said["names"]
        self.num_rows: int = said["num_rows"]
        self.chunks: dict[str, str] = said["chunks"]
        """Where a video's rows lie as Zarr, by what the chunks are called."""
        self.row: tuple[int, ...] = tuple(said["row"])
        self.spacing: int = said["spacing"]
        shape = (said["batch"], self.rows.shape[1], *self.row)
        self.out = np.empty(shape, said["dtype"])

    def raw(self, folder: Path, name: str) -> NDArray[Any]:
        """The rows of a video (R, ...)."""
        shape = (self.num_rows, *self.row)
        return np.memmap(folder / f"{name}.raw", self.out.dtype, "r", shape=shape)


def zarr_readers(folder: Path, asked: Wanted) -> Iterator[tuple[str, Read | str]]:
    """Those of each pipeline and each size of chunks; of a pipeline that is not there, why."""
    import zarr

    version = ".".join(zarr.__version__.split(".")[:2])
    for more, pipeline in PIPELINES.items():
        settings = {
            "threading.max_workers": 1,
            "codec_pipeline.max_workers": 1,
            "codec_pipeline.path": pipeline,
            "codec_pipeline.strict": True,
        }
        for chunks, path in asked.chunks.items():
            name = f"zarr {version}{more}{chunks}"
            try:
                with zarr.config.set(settings):
                    arrays = [
                        zarr.open_array(folder / path.format(name=video), mode="r")
                        for video in asked.names
                    ]
                    arrays[0][:1]
            except Exception as error:  # no such class, no such package, or not for this version
                if not more:
                    raise  # the usual one can't be missing
                yield name, f"{type(error).__name__}: {error}"
            else:
                yield name, zarr_reader(asked, arrays, partial(zarr.config.set, settings))


def zarr_reader(asked: Wanted, arrays: Sequence[Any], set_up: Callable[[], Any]) -> Read:
    """One window after the other."""

    def read(positions: NDArray[np.int64]) -> None:
        with set_up():
            for place, window in enumerate(positions.tolist()):
                rows = asked.rows[window]
                span = arrays[asked.which[window]][int(rows[0]) : int(rows[-1]) + 1]
                asked.out[place] = span[:: asked.spacing]

    return read


def lance_readers(folder: Path, asked: Wanted) -> Iterator[tuple[str, Read | str]]:
    """The one of a table of all rows, which is written first."""
    os.environ |= {"LANCE_CPU_THREADS": "1"}  # looked at when it is imported
    import lance
    import pyarrow

    kind = pyarrow.binary(int(np.prod(asked.row)) * asked.out.itemsize)
    schema = pyarrow.schema({"row": kind})

    def tables() -> Iterator[Any]:
        for name in asked.names:
            buffers = [None, pyarrow.py_buffer(asked.raw(folder, name))]
            rows = pyarrow.FixedSizeBinaryArray.from_buffers(kind, asked.num_rows, buffers)
            yield pyarrow.record_batch([rows], schema)

    path = str(folder / "rows.lance")
    lance.write_dataset(pyarrow.RecordBatchReader.from_batches(schema, tables()), path)
    dataset = lance.dataset(path)
    numbers = asked.which[:, None] * asked.num_rows + asked.rows

    def read(positions: NDArray[np.int64]) -> None:
        out = asked.out[: len(positions)]
        rows = dataset.take(numbers[positions].reshape(-1))["row"].combine_chunks()
        assert not rows.offset
        values = np.frombuffer(rows.buffers()[-1], out.dtype, out.size)
        np.copyto(out, values.reshape(out.shape))

    yield f"Lance {lance.__version__.split('.')[0]}", read


def readers(folder: Path, asked: Wanted) -> Iterator[tuple[str, Read | str]]:
    """All that are there, by name; of the others, why not."""
    for name, make in (("zarr", zarr_readers), ("Lance", lance_readers)):
        try:
            yield from make(folder, asked)
        except ImportError as error:
            yield name, f"ImportError: {error}"


def answer(folder: Path) -> None:
    """The process: names what it reads by, then reads what each line asks for."""
    asked = Wanted(folder)
    found = dict(readers(folder, asked))
    reads = {name: read for name, read in found.items() if not isinstance(read, str)}
    absent = {name: why for name, why in found.items() if isinstance(why, str)}
    print(json.dumps({"there": list(reads), "absent": absent}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        read = reads[wanted["name"]]
        batches = [np.array(positions) for positions in wanted["batches"]]
        started = time.perf_counter()
        for positions in batches:
            read(positions)
        seconds = time.perf_counter() - started
        if wanted["keep"]:
            np.save(folder / "kept.npy", asked.out[: len(batches[-1])])
        print(json.dumps(seconds), flush=True)


class Others:
    """The same process, seen from `reads.py`.

    Attributes:
        there: names of the ways to read that it has.
        absent: why it lacks others, by name.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.folder, self.process = folder, process
        self.asks: IO[str] = process.stdin
        self.says: IO[str] = process.stdout
        said = self.said()
        self.there: list[str] = said["there"]
        self.absent: dict[str, str] = said["absent"]

    def said(self) -> Any:
        """The next line."""
        line = self.says.readline()
        assert line, "the other Python has ended; what it says stands above"
        return json.loads(line)

    def seconds(self, name: str, batches: Sequence[NDArray[np.int64]], keep: bool = False) -> float:
        """How long it takes to read these windows."""
        wanted = {"name": name, "batches": [b.tolist() for b in batches], "keep": keep}
        print(json.dumps(wanted), file=self.asks, flush=True)
        return float(self.said())

    def values(self, name: str, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The windows as it reads them."""
        self.seconds(name, [positions], keep=True)
        kept: NDArray[Any] = np.load(self.folder / "kept.npy")
        return kept


@contextmanager
def others(python: str, folder: Path) -> Iterator[Others]:
    """The process of another Python over what lies in the folder, which ends with this."""
    command = [python, __file__, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Others(folder, process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.wait()


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
