"""What does the compiler make of the kernels on an sm_90 GPU (H100, H200)?

    python benchmarks/kernel_compile.py [--shapes 128x106,...] [--forms dense,...] [--record]

Compiles, without a device, every variant that forward and backward of the cases of
`benchmarks/kernel.py` launch, and those of `EDGES`, where the launcher changes its block sizes and
all options are on. Prints registers, spilled bytes, shared memory and the theoretical occupancy.
Needs only torch and triton. Block sizes, warps and arguments are the launcher's own: `launch` runs
on tensors without data, and what it would launch is caught instead.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel import make_importable

make_importable()

import torch  # noqa: E402
import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.backends.nvidia.compiler import get_ptxas  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from antcache.errors import AntcacheError, BadConfig  # noqa: E402
from antcache.kernels import kernel, kernel_loop, launch  # noqa: E402
from antcache.kernels.benchmark import rows  # noqa: E402
from antcache.kernels.benchmark.contenders import TEACHERS, TEMPERATURE, TOP_K  # noqa: E402
from antcache.kernels.benchmark.machine import versions  # noqa: E402
from antcache.kernels.benchmark.rows import Case, Figure  # noqa: E402
from antcache.kernels.benchmark.run import RESULTS, parse_shapes  # noqa: E402
from antcache.kernels.op import HALF  # noqa: E402
from antcache.kernels.record import LossInputs  # noqa: E402

TARGET = GPUTarget("cuda", 90, 32)
KERNELS = {
    "tile_kernel": kernel,
    "loop_kernel": kernel_loop,
    "count_kernel": kernel,
    "scale_kernel": kernel,
}
TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.bool: "*i1",
}
EDGE_FORMS = {  # teachers, K (0 for dense), whether there is a tail
    "4 teachers": (4, 0, False),
    "2 x top-10": (2, 10, False),
    "4 x top-64": (4, 64, False),
    "top-1000": (1, 1000, False),
    "2 x top-10, tail": (2, 10, True),
    "top-1000, tail": (1, 1000, True),
}
EDGES = [
    Case(dtype="bfloat16", form=form, batch=batch, classes=classes)
    for form in EDGE_FORMS
    for batch, classes in ((64, 8000), (64, 4000), (1024, 1500), (1024, 120), (64, 9000))
    if EDGE_FORMS[form][1] <= classes
]
OPTIONS = ("num_warps", "num_stages", "num_ctas", "enable_fp_fusion", "maxnreg")

# One streaming multiprocessor of sm_90 (CUDA C++ Programming Guide, compute capability 9.0).
REGISTERS, REGISTER_UNIT, WARPS, BLOCKS = 65536, 256, 64, 32
SHARED, SHARED_RESERVED = 233472, 1024


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One compilation: the kernel's name, types of its arguments, constants and options."""

    name: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[int, ...]
    options: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the assembler says of a variant; registers are per thread, memory in bytes."""

    registers: int
    spilled: int
    shared: int
    warps: int

    @property
    def occupancy(self) -> float:
        """Share of the multiprocessor's warps that can be there at once."""
        per_warp = -(-self.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
        by_registers = REGISTERS // per_warp // self.warps
        by_shared = SHARED // (self.shared + SHARED_RESERVED)
        return min(by_registers, by_shared, BLOCKS, WARPS // self.warps) * self.warps / WARPS


class _Catcher:
    """Stands in for a kernel: notes what is launched instead of launching it."""

    def __init__(self, function: Any, caught: list[Variant]) -> None:
        self.function, self.caught = function, caught

    def __getitem__(self, grid: object) -> Any:
        def caught(*arguments: Any, **named: Any) -> None:
            self.caught.append(variant(self.function, arguments, named))

        return caught


@contextmanager
def caught() -> Iterator[list[Variant]]:
    """Everything that `launch` launches inside."""
    found: list[Variant] = []
    original = {name: getattr(module, name) for name, module in KERNELS.items()}
    for name, module in KERNELS.items():
        setattr(module, name, _Catcher(original[name], found))
    try:
        yield found
    finally:
        for name, module in KERNELS.items():
            setattr(module, name, original[name])


def variant(function: Any, arguments: Sequence[Any], named: dict[str, Any]) -> Variant:
    """What Triton would compile for these arguments: 1 and None become constants, multiples of 16
    and pointers (PyTorch aligns them) are known to be such.
    """
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    values = {**dict(zip(function.arg_names, arguments, strict=False)), **named}
    kinds = {p.name: p.is_constexpr for p in function.params}
    signature, constants, aligned = {}, {}, []
    for number, name in enumerate(function.arg_names):
        value = values[name]
        if kinds[name] or value is None or (type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
            aligned.append(number)
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                aligned.append(number)
    return Variant(
        name=function.__name__,
        signature=tuple(signature.items()),
        constants=tuple(constants.items()),
        aligned=tuple(aligned),
        options=tuple(options.items()),
    )


def launched(case: Case) -> list[Variant]:
    """What forward and backward of this case launch, found on tensors without data."""

    def empty(*shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or getattr(torch, case.dtype), device="meta")

    batch, classes = case.batch, case.classes
    common = {
        "dense": (1, 0, False),
        "top-50": (1, min(TOP_K, classes), False),
        "5 teachers": (TEACHERS, 0, False),
    }
    edge = case.form in EDGE_FORMS
    teachers, k, tail = (common | EDGE_FORMS)[case.form]
    inputs = LossInputs(
        logits=empty(batch, classes),
        teacher=empty(teachers, batch, k or classes),
        teacher_index=empty(teachers, batch, k, dtype=torch.int64) if k else None,
        tail=empty(teachers, batch, dtype=torch.float32) if tail else None,
        valid=empty(batch, dtype=torch.bool) if edge else None,
        labels=empty(batch, dtype=torch.int64),
        rows=empty(batch, dtype=torch.int64) if edge else None,
        class_weight=empty(classes, dtype=torch.float32) if edge else None,
        teacher_weight=empty(batch, teachers, dtype=torch.float32) if edge else None,
        temperature=TEMPERATURE,
        weight=1.0,
        label_weight=1.0,
        label_smoothing=0.1 if edge else 0.0,
        ignore_index=-100,
        reduction="mean",
        gradient=True,
    )
    with caught() as found:
        out = launch.launch(inputs)
        if inputs.logits.dtype in HALF:
            launch.launch_again(inputs, out.grad, out.counts, out.loss)
        launch.scale(out.grad, out.loss)
    return found


def build(wanted: Variant) -> Report:
    """Compile a variant and ask the assembler.

    Raises:
        BadConfig: the assembler refuses it.
    """
    function = getattr(KERNELS[wanted.name], wanted.name)
    source = ASTSource(
        fn=function,
        signature=dict(wanted.signature),
        constexprs=dict(wanted.constants),
        attrs={(number,): [["tt.divisibility", 16]] for number in wanted.aligned},
    )
    made = triton.compile(source, target=TARGET, options=dict(wanted.options))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(made.asm["ptx"])
        done = subprocess.run(
            [assembler(), "-v", "--gpu-name=sm_90a", str(file), "-o", str(Path(folder, "cubin"))],
            capture_output=True,
            text=True,
            check=False,
        )
    registers = re.search(r"Used (\d+) registers", done.stderr)
    stores = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    if done.returncode or not registers or not stores:
        raise BadConfig(f"ptxas refuses {wanted.name}", found=done.stderr.strip()[-200:])
    return Report(
        registers=int(registers[1]),
        spilled=max(int(stores[1]), int(stores[2])),
        shared=made.metadata.shared,
        warps=made.metadata.num_warps,
    )


def assembler() -> str:
    """The ptxas that Triton itself takes for this target."""
    return str(get_ptxas(TARGET.arch).path)


def survey(cases: Sequence[Case]) -> list[tuple[Variant, list[Case], Report]]:
    """Every variant once, with the cases that launch it; a line each is printed."""
    users: dict[Variant, list[Case]] = {}
    for case in cases:
        for wanted in launched(case):
            users.setdefault(wanted, []).append(case)
    head = ("kernel", "first case", "cases", "warps", "regs", "spill", "shared", "occupancy")
    print("| {:12} | {:34} | {:>5} | {:>5} | {:>4} | {:>5} | {:>6} | {:>9} |".format(*head))
    print(f"|{'-' * 14}|{'-' * 36}|" + "|".join("-" * w + ":" for w in (6, 6, 5, 6, 7, 10)) + "|")
    found = []
    for wanted, who in users.items():
        made = build(wanted)
        found.append((wanted, who, made))
        print(
            f"| {wanted.name:12} | {who[0]!s:34} | {len(who):5} | {made.warps:5} | "
            f"{made.registers:4} | {made.spilled:5} | {made.shared:6} | {made.occupancy:9.0%} |",
            flush=True,
        )
    return found


def main() -> None:
    """Compile, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shapes", default="", metavar="BxC,...", help="these shapes alone, no edges"
    )
    parser.add_argument("--forms", default=",".join(rows.FORMS), help="these alone of the cases")
    parser.add_argument("--record", action="store_true", help="update kernel_compile.json")
    parser.add_argument("--out", type=Path, default=RESULTS, help="record there instead")
    given = parser.parse_args()
    try:
        forms = given.forms.split(",")
        if not set(forms) <= set(rows.FORMS):
            raise BadConfig("unknown form", expected=", ".join(rows.FORMS), found=forms)
        shapes = parse_shapes(given.shapes) if given.shapes else rows.shapes()
        cases = [case for case in rows.cases(shapes) if case.form in forms]
        found = survey(cases if given.shapes else [*cases, *EDGES])
    except AntcacheError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    reports = [made for _, _, made in found]
    figures = [
        Figure(
            figure="bytes spilled by any variant, sm_90",
            value=max(made.spilled for made in reports),
            unit="bytes",
            at_most=0,
            n=len(reports),
        ),
        Figure(
            figure="registers of the largest variant, sm_90",
            value=max(made.registers for made in reports),
            unit="registers",
            at_most=255,
            n=len(reports),
        ),
        Figure(
            figure="lowest theoretical occupancy, sm_90",
            value=min(made.occupancy for made in reports),
            unit="share",
            n=len(reports),
        ),
        Figure(figure="variants compiled for sm_90", value=len(reports), unit="variants"),
    ]
    if given.record:
        rows.write_figures(
            given.out / "kernel_compile.json",
            figures,
            device="sm_90, no device",
            versions=versions(),
            command=" ".join(["python", "benchmarks/kernel_compile.py", *sys.argv[1:]]),
        )
    broken = [figure.figure for figure in figures if not figure.holds]
    values = {figure.figure: figure.value for figure in figures}
    print(json.dumps({"benchmark": "kernel_compile", **values, "broken": broken}))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
