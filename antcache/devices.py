"""The one place that turns a device's name into a torch device.

Promise: a name that can't be used here is one clear error, before any work. Torch is loaded late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.errors import BadConfig

if TYPE_CHECKING:
    import torch


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
