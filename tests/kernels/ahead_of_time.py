"""Compile what the launcher launches, without a device, and report what it takes.

Run by `test_compile.py` in a process of its own: that of the tests has Triton's interpreter. Reads
a call from each line of stdin, as JSON (the benchmark's case; what else is asked for), and answers
with a line of what each of its launches takes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from kernel_model import ARCHS
from kernel_variants import build, inputs_of, launches_of

from antcache.kernels.benchmark.rows import Case
from antcache.kernels.record import LossInputs


def inputs(case: dict[str, Any], *, strided: bool, **fields: Any) -> LossInputs:
    """Inputs of a case with other fields; `strided` spreads the columns of logits and teacher."""
    made = inputs_of(Case(**case))._replace(**fields)
    if not strided:
        return made
    spread = {
        name: torch.empty_strided(t.shape, (*t.stride()[:-1], 2**20), dtype=t.dtype, device="meta")
        for name in ("logits", "teacher", "teacher_index")
        if (t := getattr(made, name)) is not None
    }
    return made._replace(**spread)


def takes(call: dict[str, Any]) -> list[dict[str, Any]]:
    """What every launch of a call takes."""
    found = []
    for launch in launches_of(inputs(**call)):
        made = build(launch.variant, ARCHS["sm_90"])
        name = f"{launch.variant.name}{', backward' if launch.backward else ''}"
        sizes = {key: getattr(made, key) for key in ("registers", "spilled", "shared")}
        found.append({"kernel": name, **sizes})
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(takes(json.loads(line))), flush=True)
