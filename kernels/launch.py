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
from antcache.kernels.record import NONE, TAIL, LossInputs, LossOutputs, empty_outputs

TILE = 8192
"""Longest row that stays in registers, half of it with a tail; ptxas spills at twice that."""

TILE_ELEMENTS = 1024
"""Logits per program where rows are short and several share one; more of them spill registers."""

COMPARED = 2048
"""Pairs of top-k entries compared at once, where several teachers may name the same class."""

LOOP_BLOCK = 2048
COUNT_HERE = 512
"""Batch up to which every program counts the rows of the means itself, which saves a launch."""


def launch(inputs: LossInputs, grad: Tensor | None = None) -> LossOutputs:
    """Loss, parts and gradient; the latter goes into `grad`, which may be the logits."""
    out = empty_outputs(inputs, grad)
    with _on(inputs.logits.device):
        count_here = len(inputs.logits) <= COUNT_HERE
        if inputs.reduction == "mean" and not count_here:
            _count(inputs, out.counts)
        _run(inputs, out, out.loss, count_here=count_here, again=False)
    return out


def launch_again(inputs: LossInputs, grad: Tensor, counts: Tensor, factor: Tensor) -> None:
    """The gradient of `inputs` times the factor () or (B,) into `grad`, rounded once.

    Where all factors are 1, `grad` stays as `launch` left it. `counts` are those of its outputs.
    """
    out = empty_outputs(inputs, grad)._replace(counts=counts)
    with _on(grad.device):
        _run(inputs, out, factor, count_here=False, again=True)


def _run(
    inputs: LossInputs, out: LossOutputs, factor: Tensor, *, count_here: bool, again: bool
) -> None:
    """One launch of the kernel that fits the rows."""
    x, teachers = inputs.logits, inputs.num_teachers
    batch, classes = x.shape
    block = triton.next_power_of_2(classes)
    tile = block <= (TILE // 2 if inputs.form == TAIL else TILE)
    block_k = triton.next_power_of_2(inputs.top_k)
    entries = block_k * triton.next_power_of_2(teachers) if inputs.teacher_index is not None else 1
    pairs = min(entries * block_k, COMPARED) if teachers > 1 else entries
    rows = _rows_per_program(batch, block, pairs, inputs.form) if tile else 1
    warps = _num_warps(block * rows, pairs * rows, inputs) if tile else 8
    sizes: dict[str, Any] = {
        "FORM": inputs.form,
        "M": teachers,
        "K": inputs.top_k,
        "SMOOTH": inputs.label_smoothing > 0,
        "BETA": inputs.divergence,
        "T_ONE": inputs.temperature == 1,
        "MEAN": inputs.reduction == "mean",
        "PER_ROW": inputs.reduction == "none",
        "GRAD": inputs.gradient,
        "ROWS": rows,
        "BLOCK_C": block if tile else LOOP_BLOCK,
        "BLOCK_K": block_k,
        "BLOCK_E": entries,
        "BLOCK_N": min(block_k, COMPARED // entries),
        "BLOCK_B": triton.next_power_of_2(min(batch, 4096)),
        "COUNT_HERE": count_here,
        "AGAIN": again,
        "WIDE": _wide(x, inputs.teacher, out.grad),
        "enable_fp_fusion": False,  # equal rows then cancel exactly, by every compiler
        "num_warps": warps,
        # What more warps have in any case; told so, ptxas spills no few bytes for more of them.
        "maxnreg": 128 if warps > 4 else None,
    }
    if not tile:
        sizes["BLOCK_M"] = triton.next_power_of_2(teachers)
    run = kernel.tile_kernel if tile else kernel_loop.loop_kernel
    run[(triton.cdiv(batch, rows),)](*_arguments(inputs, out, factor), **sizes)


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


def _num_warps(elements: int, pairs: int, inputs: LossInputs) -> int:
    """Warps of a program, so that nothing spills on sm_90 (`benchmarks/kernel_compile.py`)."""
    simple = inputs.teacher_index is None
    if elements > 4096 or (elements > 2048 and not simple):
        return 16
    return 8 if max(elements, pairs) > 1024 else 4


def _count(inputs: LossInputs, counts: Tensor) -> None:
    """The two numbers that the means divide by, of a large batch, into `counts`."""
    vectors = (inputs.labels, inputs.class_weight, inputs.rows, inputs.valid)
    kernel.count_kernel[(1,)](
        *(_flat(t) for t in vectors),
        *(counts, *inputs.logits.shape, inputs.num_rows, inputs.ignore_index),
        HAS_TARGETS=inputs.form != NONE,
        BLOCK_B=4096,
        num_warps=16,
    )


def _arguments(inputs: LossInputs, out: LossOutputs, factor: Tensor) -> list[Any]:
    """Arguments of both kernels, in their order; what is absent is None, which is compiled in."""
    x = inputs.logits
    outside = None
    if inputs.form == TAIL:
        outside = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    share = inputs.teacher_weight if inputs.num_teachers > 1 else None
    return [
        *_view(x, 2),
        *_view(inputs.teacher, 3),
        *_view(inputs.teacher_index, 3),
        *_view(inputs.tail, 2),
        *_view(share, 2),
        *(_flat(t) for t in (inputs.rows, inputs.valid, inputs.labels, inputs.class_weight)),
        *_view(out.grad, 2),
        *_view(outside, 2)[:2],
        *(out.ce, out.kl, out.has_target.view(torch.int8), out.loss),
        *(out.counts, _ticket(x.device), *_view(factor, 1)),
        *(*_view(inputs.row_temperature, 1), *_view(inputs.row_weight, 1), inputs.normaliser),
        *(*x.shape, inputs.classes, inputs.num_rows),
        *(inputs.temperature, inputs.kl_weight, inputs.label_weight),
        *(inputs.label_smoothing, inputs.beta, inputs.ignore_index),
    ]


def _view(tensor: Tensor | None, ndim: int) -> tuple[Any, ...]:
    """A pointer and the strides of its axes; those that it lacks in front have no stride."""
    strides = () if tensor is None else tensor.stride()
    return (tensor, *(0,) * (ndim - len(strides)), *strides)


def _flat(vector: Tensor | None) -> Tensor | None:
    """A vector as the kernels take it, its elements side by side."""
    return None if vector is None else vector.contiguous()


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
