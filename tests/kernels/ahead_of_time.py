"""Compile variants of the Triton kernels for a GPU, without one, and report what ptxas says.

Run by `test_compile.py` in a process of its own: that of the tests has Triton's interpreter. Reads
a JSON list of variants from stdin and writes a JSON list of what became of each.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from antcache.kernels import kernel, kernel_dense, kernel_loop, kernel_sum

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin"
POINTERS = {
    "x_ptr": "",
    "t_ptr": "",
    "grad_ptr": "",
    "index_ptr": "i64",
    "tail_ptr": "fp32",
    "share_ptr": "fp64",
    "rows_ptr": "i64",
    "valid_ptr": "i1",
    "labels_ptr": "i64",
    "class_weight_ptr": "fp32",
    "outside_ptr": "i8",
    "ce_ptr": "fp32",
    "kl_ptr": "fp32",
    "has_ptr": "i8",
    "loss_ptr": "fp32",
    "counts_ptr": "fp32",
    "factor_ptr": "fp32",
    "ticket_ptr": "i32",
    "sums_ptr": "fp32",
    "row_temperature_ptr": "fp32",
    "row_weight_ptr": "fp32",
    "normaliser_ptr": "fp32",
}
FLOATS = ("temperature", "kl_weight", "label_weight", "smoothing", "beta")
KERNELS = {
    "dense": kernel_dense.dense_kernel,
    "tile": kernel.tile_kernel,
    "loop": kernel_loop.loop_kernel,
    "count": kernel_sum.count_kernel,
    "scale": kernel.scale_kernel,
}


def build(variant: dict) -> dict:
    """Registers, bytes spilled and bytes of shared memory of one variant."""
    function, constants = KERNELS[variant["kernel"]], dict(variant["constants"])
    for name in variant["ones"]:  # what the JIT compiles in where an argument is 1
        constants[name] = 1
    signature = {}
    for name in function.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in POINTERS:
            signature[name] = "*" + (POINTERS[name] or variant["dtype"])
        else:
            signature[name] = "fp32" if name in FLOATS else "i32"
    attrs = {
        (function.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in variant.get("aligned", [])
    }
    known = {name: value for name, value in constants.items() if name in function.arg_names}
    compiled = triton.compile(
        ASTSource(fn=function, signature=signature, constexprs=known, attrs=attrs),
        target=GPUTarget("cuda", variant.get("arch", 90), 32),
        options={
            "num_warps": variant["warps"],
            "maxnreg": variant.get("registers"),
            "enable_fp_fusion": False,
        },
    )
    return {"shared": compiled.metadata.shared, **assemble(compiled.asm["ptx"], variant)}


def assemble(ptx: str, variant: dict) -> dict:
    """What the bundled assembler reports; nothing where there is none."""
    arch = variant.get("arch", 90)
    name = f"sm_{arch}" + ("a" if arch >= 90 else "")
    found = [path for path in (PTXAS / "ptxas-blackwell", PTXAS / "ptxas") if path.exists()]
    if not found:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        done = subprocess.run(
            [found[0], "-v", f"--gpu-name={name}", source, "-o", Path(folder, "kernel.cubin")],
            capture_output=True,
            text=True,
            check=False,
        )
    spilled = re.search(r"(\d+) bytes spill stores", done.stderr)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    if not spilled or not registers:
        return {"error": done.stderr}
    return {"spilled": int(spilled[1]), "registers": int(registers[1])}


if __name__ == "__main__":
    json.dump([build(variant) for variant in json.load(sys.stdin)], sys.stdout)
