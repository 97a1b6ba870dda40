"""Kernels whose traffic is known, compiled without a device and walked: run by `test_kernel_walk`.

Writes, for each kernel and architecture, what a program from the middle of its grid moved. It is a
process of its own because that of the tests may have Triton's interpreter.
"""
# ruff: noqa: N803

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from kernel_model import ARCHS
from kernel_sass import walk
from kernel_variants import build, caught, constant_bank

ROWS, COLUMNS, PROGRAMS = 24, 2513, 8
SHAPES = ((torch.float32, 256), (torch.bfloat16, 1024))
"""Types, and how many columns at once: a tenth of them, and some."""


@triton.jit
def persistent_kernel(x_ptr, out_ptr, stride, B, C, BLOCK: tl.constexpr):
    """Each program reads every eighth row twice, in blocks: its maximum is taken off it."""
    for row in range(tl.program_id(0), B, tl.num_programs(0)):
        top = tl.full((BLOCK,), float("-inf"), tl.float32)
        for start in range(0, C, BLOCK):
            col = start + tl.arange(0, BLOCK)
            x = tl.load(x_ptr + row * stride + col, mask=col < C, other=float("-inf"))
            top = tl.maximum(top, x.to(tl.float32))
        highest = tl.max(top, 0)
        for start in range(0, C, BLOCK):
            col = start + tl.arange(0, BLOCK)
            x = tl.load(x_ptr + row * stride + col, mask=col < C, other=0.0)
            y = x.to(tl.float32) - highest
            tl.store(out_ptr + row * stride + col, y.to(out_ptr.dtype.element_ty), mask=col < C)


@triton.jit
def ticket_kernel(x_ptr, out_ptr, ticket_ptr, B, BLOCK: tl.constexpr):
    """Each program writes a number; the last one reads them all."""
    row = tl.program_id(0)
    tl.store(out_ptr + row, tl.load(x_ptr + row) + 1)
    tl.debug_barrier()
    if tl.atomic_add(ticket_ptr, 1) == tl.num_programs(0) - 1:
        total = tl.zeros((BLOCK,), tl.float32)
        for block in range(tl.cdiv(B, BLOCK)):
            at = block * BLOCK + tl.arange(0, BLOCK)
            total += tl.load(out_ptr + at, mask=at < B, other=0.0, cache_modifier=".cg")
        tl.store(out_ptr + B, tl.sum(total, 0))


def walked() -> list[dict[str, object]]:
    """What a program of each does."""
    found: list[dict[str, object]] = []
    with caught() as launches:
        for dtype, block in SHAPES:
            x = torch.empty(ROWS, COLUMNS, dtype=dtype, device="meta")
            persistent_kernel[(PROGRAMS,)](x, x, COLUMNS, ROWS, COLUMNS, BLOCK=block)
        numbers = torch.empty(5000, device="meta")
        ticket = torch.empty(1, dtype=torch.int32, device="meta")
        ticket_kernel[(5000,)](numbers, numbers, ticket, 5000, BLOCK=1024)
    for arch in ARCHS.values():
        for launch in launches:
            made = build(launch.variant, arch)
            given = {
                "constants": constant_bank(launch, made, arch),
                "block": launch.programs // 2,
                "threads": 32 * made.warps,
            }
            done, last = walk(made.code, **given), walk(made.code, **given, last=True)
            found.append(
                {
                    "kernel": launch.variant.name,
                    "pointer": launch.variant.signature[0][1],
                    "arch": arch.name,
                    "loaded": done.loaded,
                    "fresh": done.fresh,
                    "stored": done.stored,
                    "loaded by the last": last.loaded,
                }
            )
    return found


if __name__ == "__main__":
    json.dump(walked(), sys.stdout)
