"""Launches the Triton kernels: block sizes, buffers, one or two launches a call.

Promise: no wait for the device, and nothing allocated of the size of the logits but the gradient
(and one byte per logit for the form with a tail). Letters as in `kernel.py`.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
import triton
from torch import Tensor

from antcache.kernels import kernel, kernel_loop
from antcache.kernels.call import NONE, TAIL, Call, Outputs, empty_outputs

TILE = 8192
"""Longest row that stays in registers, half of it with a tail; ptxas spills at twice that."""

TILE_ELEMENTS = 1024
"""Logits per program where rows are short and several share one; more of them spill registers."""

COMPARED = 2048
"""Pairs of top-k entries compared at once, where several teachers may name the same class."""

LOOP_BLOCK = 2048
COUNT_HERE = 512
"""Batch up to which every program counts the rows of the means itself, which saves a launch."""


def num_entries(call: Call) -> int:
    """Entries of the top-k forms as the kernel pads them."""
    if call.index is None:
        return 1
    padded = triton.next_power_of_2(call.index.shape[-1])
    return int(padded * triton.next_power_of_2(call.num_teachers))


def launch(call: Call, grad: Tensor | None = None) -> Outputs:
    """Loss, parts and gradient of `call`; the latter goes into `grad`, which may be the logits."""
    out = empty_outputs(call, grad)
    with _on(call.logits.device):
        count_here = len(call.logits) <= COUNT_HERE
        if call.reduction == "mean" and not count_here:
            _count(call, out.counts)
        _run(call, out, out.loss, count_here=count_here, again=False)
    return out


def launch_again(call: Call, grad: Tensor, counts: Tensor, factor: Tensor) -> None:
    """The gradient of `call` times the factor () or (B,) into `grad`, rounded once.

    Where all factors are 1, `grad` stays as `launch` left it. `counts` are those of its outputs.
    """
    out = empty_outputs(call, grad)._replace(counts=counts)
    with _on(grad.device):
        _run(call, out, factor, count_here=False, again=True)


def _run(call: Call, out: Outputs, factor: Tensor, *, count_here: bool, again: bool) -> None:
    """One launch of the kernel that fits the rows."""
    x = call.logits
    batch, classes = x.shape
    block = triton.next_power_of_2(classes)
    tile = block <= (TILE // 2 if call.form == TAIL else TILE)
    top_k = 1 if call.index is None else call.index.shape[-1]
    block_k = triton.next_power_of_2(top_k)
    entries = num_entries(call)
    pairs = min(entries * block_k, COMPARED) if call.num_teachers > 1 else entries
    rows = _rows_per_program(batch, block, pairs, call.form) if tile else 1
    warps = _num_warps(block * rows, pairs * rows, call) if tile else 8
    sizes: dict[str, Any] = {
        "ROWS": rows,
        "BLOCK_C": block if tile else LOOP_BLOCK,
        "BLOCK_K": block_k,
        "BLOCK_E": entries,
        "BLOCK_N": min(block_k, COMPARED // entries),
        "BLOCK_B": triton.next_power_of_2(min(batch, 4096)),
        "COUNT_HERE": count_here,
        "AGAIN": again,
        "WIDE": _wide(x, call.teacher, out.grad),
        "enable_fp_fusion": False,  # equal rows then cancel exactly, by every compiler
        "num_warps": warps,
        # What more warps have in any case; told so, ptxas spills no few bytes for more of them.
        "maxnreg": 128 if warps > 4 else None,
    }
    if not tile:
        sizes["BLOCK_M"] = triton.next_power_of_2(call.num_teachers)
    run = kernel.tile_kernel if tile else kernel_loop.loop_kernel
    arguments = _arguments(call, out, factor)
    run[(triton.cdiv(batch, rows),)](*arguments, **_flags(call, top_k), **sizes)


def scale(grad: Tensor, factor: Tensor) -> None:
    """Multiply the gradient (B, C) by the factor () or (B,) in place; 1 costs a launch only."""
    stride = factor.stride(0) if factor.ndim else 0
    with _on(grad.device):
        kernel.scale_kernel[(len(grad),)](
            *(grad, *grad.stride(), factor, stride, grad.shape[1]),
            BLOCK_C=1024,
            WIDE=_wide(grad),
            num_warps=4,
        )


def _wide(*tensors: Tensor | None) -> bool:
    """Whether a column times its stride needs 64 bits in any of them (rows always have them)."""
    return any(t is not None and t.shape[-1] * t.stride(-1) >= 2**31 for t in tensors)


def _rows_per_program(batch: int, block: int, pairs: int, form: int) -> int:
    """Rows that fit the registers; `pairs` are a row's entries times what each is compared with."""
    elements = TILE_ELEMENTS // 2 if form == TAIL else TILE_ELEMENTS
    most = max(1, elements // max(block, pairs))
    return int(min(most, triton.next_power_of_2(batch)))


def _num_warps(elements: int, pairs: int, call: Call) -> int:
    """Warps of a program, so that nothing spills on sm_90 (`benchmarks/kernel_compile.py`)."""
    simple = call.index is None
    if elements > 4096 or (elements > 2048 and not simple):
        return 16
    return 8 if max(elements, pairs) > 1024 else 4


def _count(call: Call, counts: Tensor) -> None:
    """The two numbers that the means divide by, of a large batch, into `counts`."""
    kernel.count_kernel[(1,)](
        *(_flat(t, counts) for t in (call.labels, call.class_weight, call.rows, call.valid)),
        *(counts, *call.logits.shape, _num_rows(call), call.ignore_index),
        HAS_LABELS=call.labels is not None,
        HAS_WEIGHT=call.class_weight is not None,
        HAS_TARGETS=call.form != NONE,
        HAS_ROWS=call.rows is not None,
        HAS_VALID=call.valid is not None,
        BLOCK_B=4096,
        num_warps=16,
    )


def _arguments(call: Call, out: Outputs, factor: Tensor) -> list[Any]:
    """Arguments of both kernels, in their order; what is absent has some pointer and no stride."""
    x = call.logits
    batch, classes = x.shape
    outside = x
    if call.form == TAIL:
        outside = torch.empty(batch, classes, dtype=torch.int8, device=x.device)
    share = call.teacher_weight
    share_strides: tuple[int, ...] = (0, 0)
    if share is not None:
        share_strides = (0, share.stride(0)) if share.ndim == 1 else share.stride()
    return [
        *(x, *x.stride()),
        *(_or(call.teacher, x), *_strides(call.teacher, 3)),
        *(_or(call.index, x), *_strides(call.index, 3)),
        *(_or(call.tail, x), *_strides(call.tail, 2)),
        *(_or(share, x), *share_strides),
        *(_flat(t, x) for t in (call.rows, call.valid, call.labels, call.class_weight)),
        *(out.grad, *out.grad.stride(), outside, outside.stride(0)),
        *(out.ce, out.kl, out.has_target.view(torch.int8), out.loss),
        *(out.counts, _ticket(x.device), factor, factor.stride(0) if factor.ndim else 0),
        *(batch, classes, _num_rows(call), call.temperature, call.kl_weight, call.label_weight),
        *(call.label_smoothing, call.ignore_index),
    ]


def _flags(call: Call, top_k: int) -> dict[str, Any]:
    """What the kernels are compiled for."""
    return {
        "FORM": call.form,
        "M": call.num_teachers,
        "K": top_k,
        "HAS_LABELS": call.labels is not None,
        "HAS_WEIGHT": call.class_weight is not None,
        "HAS_ROWS": call.rows is not None,
        "HAS_VALID": call.valid is not None,
        "HAS_SHARE": call.teacher_weight is not None and call.num_teachers > 1,
        "SMOOTH": call.label_smoothing > 0,
        "T_ONE": call.temperature == 1,
        "MEAN": call.reduction == "mean",
        "PER_ROW": call.reduction == "none",
        "GRAD": call.gradient,
    }


def _strides(tensor: Tensor | None, ndim: int) -> tuple[int, ...]:
    return (0,) * ndim if tensor is None else tensor.stride()


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if tensor is None else tensor


def _flat(vector: Tensor | None, stand_in: Tensor) -> Tensor:
    """A vector as the kernels take it, its elements side by side."""
    return stand_in if vector is None else vector.contiguous()


def _num_rows(call: Call) -> int:
    """N; without a teacher any number does."""
    return 1 if call.teacher is None else call.teacher.shape[1]


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _ticket(device: torch.device) -> Tensor:
    """The counter of finished programs of this device's current stream; 0 between calls.

    The last program sets it back, so that a call needs no launch for that. A graph that is being
    captured gets its own, zeroed whenever it is replayed, beside whatever else then runs.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return torch.zeros(1, dtype=torch.int32, device=device)
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return _zeroed(device, stream)


@functools.cache
def _zeroed(device: torch.device, stream: int) -> Tensor:
    return torch.zeros(1, dtype=torch.int32, device=device)
