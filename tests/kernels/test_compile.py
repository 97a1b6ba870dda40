"""The Triton kernels compile for a real GPU (sm_90), without one, and keep rows in registers.

The interpreter takes much that the compiler does not: other types, other names, no registers. What
is compiled is what the launcher launches. All of the benchmark: `benchmarks/kernel_compile.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]


def call(form, classes, dtype="float32", batch=1024, strided=False, padded=0, **fields):
    case = {"dtype": dtype, "form": form, "batch": batch, "classes": classes, "padded": padded}
    return {"case": case, "strided": strided, **fields}


CALLS = {
    "labels": call("dense", 2513, teacher=None),
    "dense": call("dense", 2513),
    "dense, bf16": call("dense", 2513, "bfloat16"),
    "dense, bf16, padded": call("dense", 2513, "bfloat16", padded=2528),
    "dense, longest": call("dense", 8000),
    "dense, short rows": call("dense", 106),
    "dense, one temperature": call("dense", 2513, padded=2528, temperature=1.0),
    "dense x 5": call("5 teachers", 2513),
    "dense, options": call("1 teacher with options", 2513),
    "dense x 4, options": call("4 teachers", 2513),
    "top-50": call("top-50", 2513),
    "top-64 x 4, options": call("4 x top-64", 2513),
    "tail": call("2 x top-10 with tail", 2513, "bfloat16"),
    "tail, short rows": call("2 x top-10 with tail", 106),
    "tail, Jensen-Shannon": call("2 x top-10 with tail", 3806, padded=3808, beta=0.5),
    "tail, most entries": call("top-1000 with tail", 4000, "bfloat16", batch=64),
    "tail, short rows, reverse": call("top-1000 with tail", 1500, "bfloat16", beta=1.0),
    "top-50, no labels": call("top-50", 2513, "bfloat16", labels=None),
    "one row": call("dense", 2513, padded=2528, batch=1),
    "strided": call("dense", 1000, strided=True, reduction="sum"),
    "no gradient": call("2 x top-10 with tail", 1000, gradient=False, reduction="none"),
    "reverse": call("dense", 2513, padded=2528, beta=1.0),
    "Jensen-Shannon": call("5 teachers", 2513, padded=2528, beta=0.5),
    "counted here": call("4 teachers", 2513, batch=128),
    "long": call("dense", 20000),
    "long, labels": call("dense", 20000, teacher=None),
    "long, bf16 x 5": call("5 teachers", 20000, "bfloat16"),
    "long, options": call("1 teacher with options", 20000, beta=1.0, strided=True),
    "long, Jensen-Shannon x 4": call("4 teachers", 20000, beta=0.5, temperature=3.3),
    "long, top-64 x 4, options": call("4 x top-64", 9000, beta=1.0),
    "long, top-256 x 4": call("4 x top-256", 20000, "bfloat16", beta=0.5),
    "long, tail, strided": call("2 x top-10 with tail", 20000, strided=True),
    "long, tail": call("top-1000 with tail", 9000, "bfloat16"),
    "long, top-50": call("top-50", 131072),
}


@pytest.fixture(scope="module")
def compiler() -> Iterator[subprocess.Popen[str]]:
    """A process that compiles what it is asked to, one call a line: these tests' part of all."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("ahead_of_time.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("name", CALLS)
def test_compiles_without_spills(compiler, name):
    compiler.stdin.write(json.dumps(CALLS[name]) + "\n")
    compiler.stdin.flush()
    launches = json.loads(compiler.stdout.readline())
    assert launches
    for one in launches:
        assert one["spilled"] == 0, one
        assert one["registers"] <= 255
        assert one["shared"] <= 227 * 1024  # of one program on an H100 or H200
