"""Block sizes of long rows: how one is split, and how far its second read is behind the first.

Promise: what the programs that run at once read stays well inside the L2 cache until it is read
again, and rows are split so that few of them keep a device busy too. Beside the gradient, all that
is allocated are a few numbers for each segment.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
import triton

from antcache.kernels.gpu.long import dense, state
from antcache.kernels.record import LossInputs

WARPS = 8
NEIGHBOURS = 4
"""Columns side by side that a thread reads and writes at once; of half precision twice as many."""

LANES = NEIGHBOURS * 32 * WARPS
"""Columns of a chunk; as many more."""

CHUNKS = 4
SUM_CHUNKS = 8
RICH_CHUNKS = 2
"""Most chunks of a block; of sums alone, which need fewer registers for each; and with several
teachers or smoothing, which need more. Of half precision half as many of these, or with `beta`."""

SEGMENT_BYTES = 64 * 1024
"""Of student and teachers together, that a program reads of a row: with 2 programs for each of 132
multiprocessors 17 MB, a third of an H100's cache."""

PROGRAMS = 512
"""To be had of a small batch, if its rows are long enough: about four for each multiprocessor."""

AHEAD = 64
"""Programs that begin between the two reads of a segment, so that the second need not wait."""


def run(
    inputs: LossInputs, arguments: list[Any], settings: dict[str, Any], *, aligned: bool
) -> None:
    """One launch for arguments and settings that all kernels have, with options of the compiler.

    Rows that are not `aligned` are read column by column: threads have no neighbours.
    """
    batch, classes = inputs.logits.shape[0], inputs.classes
    segment = _segment(inputs)
    wider = _wider(inputs) if aligned else 1
    near, lanes = NEIGHBOURS * wider if aligned else 1, LANES * wider
    segments = triton.cdiv(classes, segment)
    ahead = min(batch, triton.cdiv(AHEAD, segments))
    steps = batch + ahead * (2 if inputs.teacher is not None and inputs.beta else 1)
    fields = state.TEACHERS.value + 2 * inputs.num_teachers + state.PARTS.value
    device = inputs.logits.device
    of_rows = torch.empty(batch * fields * segments, dtype=torch.float32, device=device)
    done = torch.zeros(3 * batch, dtype=torch.int32, device=device)
    rich = inputs.num_teachers > 1 or inputs.label_smoothing > 0
    most = RICH_CHUNKS // wider if rich else CHUNKS // wider if inputs.beta else CHUNKS
    chunks, sum_chunks = (gcd(segment // lanes, n) for n in (most, SUM_CHUNKS))
    if settings["WIDE"]:  # 64-bit addresses of every column
        chunks, sum_chunks = 1, RICH_CHUNKS
    dense.loop_kernel[(steps * segments,)](
        *(*arguments, of_rows, done, segment, ahead),
        **settings,
        EXACT=inputs.gradient and inputs.logits.dtype == torch.float32,
        FIELDS=fields,
        CHUNKS=chunks,
        SUM_CHUNKS=sum_chunks,
        LANES=lanes,
        NEIGHBOURS=near,
        MANY=segment > lanes // near // near * lanes,
        S=segments,
        BLOCK_S=triton.next_power_of_2(segments),
    )


def few_sizes(*, wide: bool, aligned: bool) -> dict[str, int]:
    """Block sizes of the top-k kernel, a row of which is one program's; `wide` as its setting,
    `aligned` as in `run`."""
    return {
        "ROWS": 1,
        "CHUNKS": 1 if wide else CHUNKS,
        "LANES": LANES,
        "NEIGHBOURS": NEIGHBOURS if aligned else 1,
    }


def _wider(inputs: LossInputs) -> int:
    """How many times as many columns a thread reads at once as of float32."""
    each = inputs.logits.element_size()
    if inputs.teacher is not None:
        each = max(each, inputs.teacher.element_size())
    return 4 // each


def _segment(inputs: LossInputs) -> int:
    """Columns of a segment, whole blocks."""
    block = LANES * CHUNKS
    each = inputs.logits.element_size() * (1 + inputs.num_teachers)
    most = SEGMENT_BYTES // each
    enough = inputs.logits.shape[0] * inputs.classes // PROGRAMS
    return block * max(1, min(most, enough) // block)
