"""The one place that turns names of devices and precisions into what torch computes on and in.

Promise: a name that can't be used here is one clear error, before any work. Torch is loaded late.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from antcache.errors import BadConfig

if TYPE_CHECKING:
    import torch


def usable_cores() -> int:
    """How many cores this process may use, as far as the system says."""
    asked = getattr(os, "sched_getaffinity", None)
    return len(asked(0)) if asked else os.cpu_count() or 1


BRIEF = {"GOMP_SPINCOUNT": "10000"}
"""The environment in which threads of GNU's OpenMP that wait for one another soon sleep: by itself
it has them look for work 300,000 times before, on cores that others could use."""

ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
"""The environment in which they sleep at once."""


def let_waiting_threads_sleep(*, at_once: bool = False) -> None:
    """Let threads of a matrix product that wait for one another sleep soon, so that other work has
    their cores; or `at_once`, for decoders beside.

    OpenMP reads this once, when PyTorch is loaded: nothing is done after that. What the environment
    says stays.
    """
    if "torch" in sys.modules:
        return
    said = {name: os.environ[name] for name in (*BRIEF, *ASLEEP) if name in os.environ}
    if not said:
        os.environ.update(ASLEEP if at_once else BRIEF)
    elif at_once and said == BRIEF:  # of an earlier call, or of the process above
        for name in BRIEF:
            del os.environ[name]
        os.environ.update(ASLEEP)


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a CUDA GPU if there is one, else the CPU.

    Raises:
        BadConfig: there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]  # torch's own words take several lines
        raise BadConfig(
            "no such device here", where="device", found=f"{name} ({reason})"
        ) from error
    return device


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a model runs in bfloat16; `auto`: where the device computes in it.

    These are GPUs, and CPUs whose instructions multiply bfloat16 (AVX512-BF16, AMX).
    """
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type != "cpu":
        return device.type == "cuda"
    # Torch 2.6 has no such function.
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
