"""What does the launcher launch for a case, and what does the compiler make of it?

Promise: nothing is kept in step by hand. Whatever `antcache.kernels.gpu.launch` launches on tensors
without data is caught in Triton itself (any kernel, with its grid, arguments, block sizes and
warps), compiled for an architecture without a device, and disassembled with the tools of Triton's
own wheel. Letters: B batch rows, C classes, W width of a row in memory.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from kernel_model import Arch
from kernel_sass import Instruction, parse
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.errors import CompilationError
from triton.runtime.jit import JITFunction

from antcache.errors import BadConfig
from antcache.kernels.benchmark.contenders import TEACHERS, TEMPERATURE, TOP_K
from antcache.kernels.benchmark.rows import Case
from antcache.kernels.gpu import launch
from antcache.kernels.op import HALF
from antcache.kernels.record import LossInputs

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.bool: "*i1",
}
BYTES = {"*": 8, "i64": 8, "i32": 4, "fp32": 4}
SCRATCH = 2
"""Pointers that Triton adds behind a kernel's own arguments."""

FORMS = {  # teachers, K (0 for dense), whether there is a tail
    "dense": (1, 0, False),
    "top-50": (1, TOP_K, False),
    "5 teachers": (TEACHERS, 0, False),
}
EDGE_FORMS = {
    "1 teacher with options": (1, 0, False),
    "4 teachers": (4, 0, False),
    "2 x top-10": (2, 10, False),
    "4 x top-64": (4, 64, False),
    "4 x top-256": (4, 256, False),
    "top-1000": (1, 1000, False),
    "2 x top-10 with tail": (2, 10, True),
    "top-1000 with tail": (1, 1000, True),
}
"""Forms in which all options are on."""

OPTIONS = ("num_warps", "num_stages", "num_ctas", "enable_fp_fusion", "maxnreg")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One compilation: the kernel, types of its arguments, constants and options."""

    kernel: Any
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """Of the kernel."""
        return str(self.kernel.__name__)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch: a variant, and what it is given.

    Attributes:
        variant: what is compiled.
        numbers: integer arguments, by name.
        programs: of the grid.
        backward: whether it belongs to backward, which with an upstream factor of 1 does nothing.
    """

    variant: Variant
    numbers: tuple[tuple[str, int], ...]
    programs: int
    backward: bool = False


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What the assembler made of a variant; registers are per thread, memory in bytes.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread's stack, which is where registers are spilled to.
        shared: of a program.
        warps: of a program.
        constant_bytes: size of the constant bank, which ends with the arguments.
        cubin: what a GPU loads.
    """

    registers: int
    spilled: int
    shared: int
    warps: int
    constant_bytes: int
    cubin: bytes

    @cached_property
    def code(self) -> tuple[Instruction, ...]:
        """Its instructions; to disassemble takes as long as to compile."""
        return tuple(parse(said_of(self.cubin, "-sass")))


@contextmanager
def caught(*, backward: bool = False) -> Iterator[list[Launch]]:
    """Everything that is launched inside, which then isn't."""
    found: list[Launch] = []

    def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        found.append(_launch(kernel, arguments, named, grid, backward))

    with mock.patch.object(JITFunction, "run", run):
        yield found


def _launch(
    kernel: Any, arguments: Sequence[Any], named: dict[str, Any], grid: Any, backward: bool
) -> Launch:
    """What Triton would compile for these arguments: 1 and None become constants, multiples of 16
    and pointers (PyTorch aligns them) are known to be such.
    """
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    values = {**dict(zip(kernel.arg_names, arguments, strict=False)), **named}
    signature, constants, numbers, aligned = {}, {}, {}, []
    for number, parameter in enumerate(kernel.params):
        name = parameter.name
        value = values.get(name, parameter.default)
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
            aligned.append(number)
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            numbers[name] = int(value)
            if value % 16 == 0:
                aligned.append(number)
    variant = Variant(
        kernel=kernel,
        signature=tuple(signature.items()),
        constants=tuple(constants.items()),
        aligned=tuple(aligned),
        options=tuple(options.items()),
    )
    grid = grid(constants) if callable(grid) else grid
    return Launch(
        variant=variant, numbers=tuple(numbers.items()), programs=prod(grid), backward=backward
    )


def inputs_of(case: Case) -> LossInputs:
    """What the loss of a case is given: tensors without data."""

    def empty(*shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or getattr(torch, case.dtype), device="meta")

    batch, classes, width = case.batch, case.classes, case.width
    edge = case.form in EDGE_FORMS
    teachers, k, tail = (FORMS | EDGE_FORMS)[case.form]
    k = min(k, classes)
    return LossInputs(
        logits=empty(batch, width),
        teacher=empty(teachers, batch, k or width),
        teacher_index=empty(teachers, batch, k, dtype=torch.int64) if k else None,
        tail=empty(teachers, batch, dtype=torch.float32) if tail else None,
        valid=empty(batch, dtype=torch.bool) if edge else None,
        labels=empty(batch, dtype=torch.int64),
        rows=empty(batch, dtype=torch.int64) if edge else None,
        class_weight=empty(classes, dtype=torch.float32) if edge else None,
        teacher_weight=empty(batch, teachers, dtype=torch.float32) if edge else None,
        temperature=TEMPERATURE,
        label_smoothing=0.1 if edge else 0.0,
        num_classes=classes,
        gradient=True,
    )


@cache
def launched(case: Case) -> list[Launch]:
    """What forward and backward of a case launch."""
    return launches_of(inputs_of(case))


def launches_of(inputs: LossInputs) -> list[Launch]:
    """What forward and backward launch."""
    with caught() as forward:
        out = launch.launch(inputs)
    with caught(backward=True) as backward:
        if inputs.gradient and inputs.logits.dtype in HALF:
            launch.launch_again(inputs, out.grad, out.counts, out.loss)
        if inputs.gradient:
            launch.scale(out.grad, out.loss)
    return forward + backward


@cache
def build(wanted: Variant, arch: Arch) -> Compiled:
    """Compile a variant.

    Raises:
        BadConfig: it does not compile, or the disassembler says nothing of it.
    """
    source = ASTSource(
        fn=wanted.kernel,
        signature=dict(wanted.signature),
        constexprs=dict(wanted.constants),
        attrs={(number,): [["tt.divisibility", 16]] for number in wanted.aligned},
    )
    target = GPUTarget("cuda", arch.capability, 32)
    try:
        made = triton.compile(source, target=target, options=dict(wanted.options))
    except CompilationError as error:
        raise BadConfig(f"{wanted.name} does not compile for {arch.name}: {error}") from error
    text = said_of(made.asm["cubin"], "-res-usage")
    used = re.search(r"REG:(\d+) STACK:(\d+) .*?CONSTANT\[0\]:(\d+)", text)
    if not used:
        raise BadConfig(f"no registers of {wanted.name}", found=text[:200])
    return Compiled(
        registers=int(used[1]),
        spilled=int(used[2]),
        shared=made.metadata.shared,
        warps=made.metadata.num_warps,
        constant_bytes=int(used[3]),
        cubin=made.asm["cubin"],
    )


def said_of(cubin: bytes, option: str) -> str:
    """What the disassembler says of a compiled kernel: its resources, or its SASS.

    Raises:
        BadConfig: the tool refuses it.
    """
    tool = knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        command = [tool, option, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadConfig("cuobjdump refuses a kernel", found=done.stderr.strip()[-200:])
    return done.stdout


def constant_bank(wanted: Launch, made: Compiled, arch: Arch) -> dict[int, int]:
    """The words of the constant bank that a launch decides: integer arguments and the grid.

    Pointers are 128 MiB from each other, so that rows of two tensors are never the same place.
    """
    numbers, at, places = dict(wanted.numbers), 0, {}
    for name, kind in wanted.variant.signature:
        if kind != "constexpr":
            size = BYTES["*" if kind.startswith("*") else kind]
            at = -(-at // size) * size
            places[name] = at
            at += size
    start = made.constant_bytes - (-(-at // 8) + SCRATCH) * 8
    bank = {arch.grid_at: wanted.programs, arch.grid_at + 4: 1, arch.grid_at + 8: 1}
    for number, (name, kind) in enumerate(wanted.variant.signature):
        if kind.startswith("*"):
            numbers[name] = (number + 1) << 27
        if name in numbers:
            bank[start + places[name]] = numbers[name] & 0xFFFFFFFF
            if kind != "i32":
                bank[start + places[name] + 4] = numbers[name] >> 32 & 0xFFFFFFFF
    return bank
