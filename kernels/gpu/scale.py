"""Triton kernels of the distillation loss: value, parts and gradient in one pass over each row.

Promise: one program owns R rows of the logits. It reads each student row and its teacher rows once,
writes the gradient once, and keeps every sum in float32 and in one fixed order, so the result is
deterministic. Dense teachers: `dense.py`; top-k: `few.py`; rows that do not fit their
registers: `long/dense.py`; here is what backward needs. Formulas: `docs/kernel.md`; truth:
`reference.py`; launches: `launch.py`.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature, E = M * K, R
rows of a program. `x_ptr` is a pointer, `stride_xb` the distance in elements between neighbours of x
along b.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts


@triton.jit
def scale_kernel(
    grad_ptr, stride_gb, stride_gc, factor_ptr, stride_f, C, BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Multiply a row of the gradient by its upstream factor; a factor of 1 touches nothing."""
    row = tl.program_id(0).to(tl.int64)
    factor = tl.load(factor_ptr + row * stride_f).to(tl.float32)
    if factor != 1.0:
        for start in range(0, C, BLOCK_C):
            col = parts.columns(start, BLOCK_C, WIDE)
            at = grad_ptr + row * stride_gb + col * stride_gc
            value = tl.load(at, mask=col < C, other=0.0).to(tl.float32) * factor
            tl.store(at, value.to(grad_ptr.dtype.element_ty), mask=col < C)
