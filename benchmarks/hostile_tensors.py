"""Tensors of runs and teachers whose headers or numbers are none.

Promise: see `cases.py`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import InputCase
from hostile_writers import DEEP, EVIL, NINES, Write, case, pipe, raw

EVALUATE = (
    "evaluate s.zarr run",
    "compare s.zarr run run2 --over all --bootstrap 5",
    "fuse s.zarr run run2 -o f.safetensors",
)
PREDICT = (
    "student predict s.zarr run --split validation -o p.safetensors",
    "student stream s.zarr run --calls 1",
)
TEACHER = (
    "teacher predict s.zarr s.zarr.teachers/count --name new",
    "teacher score s.zarr s.zarr.teachers/count --bootstrap 2",
)
SEQUENCE = ("teacher predict s.zarr s.zarr.teachers/seq --name new",)
PREDICTIONS = "run/predictions.safetensors"
WEIGHTS = "run/checkpoint/epoch-0001/weights.safetensors"


def _tensors(
    path: str, change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]
) -> Write:
    """A safetensors file with another header, or other bytes."""

    def write(folder: Path) -> None:
        data = (folder / path).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, rest = change(json.loads(data[8 : 8 + length]), data[8 + length :])
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / path).write_bytes(struct.pack("<Q", len(text)) + text + rest)

    return write


def _metadata(**texts: str) -> Write:
    return _tensors(
        PREDICTIONS, lambda h, rest: ({**h, "__metadata__": {**h["__metadata__"], **texts}}, rest)
    )


def _stretched(header: dict[str, Any], rest: bytes) -> tuple[dict[str, Any], bytes]:
    header["scores"]["shape"] = [1 << 40, 1 << 20]
    return header, rest


def _of_type(kind: str) -> Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]:
    def change(header: dict[str, Any], rest: bytes) -> tuple[dict[str, Any], bytes]:
        own = header["scores"]
        own["dtype"], own["shape"] = kind, [own["shape"][0], own["shape"][1] * 2]
        return header, rest

    return change


def _outside(header: dict[str, Any], rest: bytes) -> tuple[dict[str, Any], bytes]:
    """Counts whose outcomes and starts lie far outside: compiled loops would go there."""
    for name, about in header.items():
        if name.endswith((".outcomes", ".starts")):
            begin, end = about["data_offsets"]
            rest = (
                rest[:begin] + b"\xff\xff\xff\xff\xff\xff\0\0" * ((end - begin) // 8) + rest[end:]
            )
    return header, rest


def _nan(header: dict[str, Any], rest: bytes) -> tuple[dict[str, Any], bytes]:
    return header, b"\xff" * len(rest)


def cases() -> list[InputCase]:
    """The cases of tensors."""
    wide = json.dumps(["u" * 100_000, *map(str, range(23))])
    return [
        case(
            "predictions: a header of 1 EB",
            raw(PREDICTIONS, struct.pack("<Q", 1 << 60) + b"{}"),
            *EVALUATE,
        ),
        case("predictions: a shape of 4 EB", _tensors(PREDICTIONS, _stretched), *EVALUATE),
        case(
            "predictions: numbers of another type",
            _tensors(PREDICTIONS, _of_type("BF16")),
            *EVALUATE,
        ),
        case("predictions: uids nested without end", _metadata(uid="[" * DEEP), *EVALUATE),
        case("predictions: a uid of 100 kB", _metadata(uid=wide), *EVALUATE),
        case(
            "predictions: a number of 5,000 digits",
            _metadata(config=f'{{"a": {NINES}}}'),
            *EVALUATE,
        ),
        case("predictions: uids that are no list", _metadata(uid='{"a": [1, {}]}'), *EVALUATE),
        case("predictions: scores that are no numbers", _tensors(PREDICTIONS, _nan), *EVALUATE),
        case("predictions: a split with escapes", _metadata(split=EVIL), *EVALUATE),
        case("predictions: a named pipe", pipe(PREDICTIONS), *EVALUATE),
        case(
            "weights: a header of brackets",
            raw(WEIGHTS, struct.pack("<Q", 9000) + b"[" * 9000),
            *PREDICT,
        ),
        case("weights: a named pipe", pipe(WEIGHTS), *PREDICT),
        case(
            "counts of a teacher: places outside",
            _tensors("s.zarr.teachers/count/teacher.safetensors", _outside),
            *TEACHER,
        ),
        case(
            "weights of a teacher: no numbers",
            _tensors("s.zarr.teachers/seq/teacher.safetensors", _nan),
            *SEQUENCE,
        ),
    ]
