"""The machine of a benchmark: names, versions, and the peak memory of the loss on the CPU.

Promise: memory is that of a process of its own, whose high-water mark is read: the inputs and
whatever the first call loads are not counted; the gradient is. Linux only, where the system lets a
process reset its own mark. What can't be told is left empty, never guessed.
Letters: B batch rows, C classes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from antcache.kernels.benchmark.contenders import contender, make_inputs
from antcache.kernels.benchmark.rows import OURS, Case
from antcache.kernels.loss import Impl

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CONTENDERS = ("liger-kernel", "orda-kernel", "flash-linear-attention")
PACKAGES = ("antcache", "torch", "triton", "numba", "numpy", *CONTENDERS)
CHILD = """
import sys
sys.path[:] = {path!r}
from antcache.kernels.benchmark.machine import report
report({batch}, {classes}, {impl!r})
"""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of python and of `packages`, as far as installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """The GPU's name, or the number of cores and the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {os.cpu_count()} cores, {platform.machine()}"


def driver() -> str:
    """Version of the GPU's driver, empty if it can't be asked."""
    if not shutil.which("nvidia-smi"):
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    return asked.stdout.splitlines()[0].strip() if asked.returncode == 0 and asked.stdout else ""


def extra_memory(batch: int, classes: int, impl: Impl, say: Callable[[str], None]) -> float | None:
    """Memory of loss and gradient beyond the inputs, in units of the float32 logits (B, C).

    None, and a line to `say`, where it can't be measured.
    """
    if not CLEAR.exists():
        say("not measured: memory on the CPU (it takes Linux)")
        return None
    code = CHILD.format(path=sys.path, batch=batch, classes=classes, impl=impl)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        say(f"not measured: memory on the CPU ({reason[-1]})")
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def report(batch: int, classes: int, impl: Impl) -> None:
    """In the child: measure, and write the result to stdout."""
    case = Case(dtype="float32", form="dense", batch=batch, classes=classes)
    small = Case(dtype="float32", form="dense", batch=16, classes=classes)
    generator = torch.Generator().manual_seed(0)
    loss = contender(OURS, impl)

    warm, item = make_inputs(small, "cpu", generator), make_inputs(case, "cpu", generator)
    torch.autograd.grad(loss(warm), warm.logits)
    CLEAR.write_text("5")  # the high-water mark falls to what is in use now
    before = _kilobytes("VmRSS")
    kept = torch.autograd.grad(loss(item), item.logits)
    after = _kilobytes("VmHWM")
    del kept
    sys.stdout.write(json.dumps(1024 * (after - before) / item.logits.nbytes) + "\n")


def _kilobytes(name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{STATUS} has no {name}")
