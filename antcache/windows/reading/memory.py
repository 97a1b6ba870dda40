"""Whether a pack of windows fits: how much memory a device has to give.

Promise: a figure of this moment; nothing is reserved.
"""

from __future__ import annotations

from pathlib import Path

import torch

PACK_SHARE = 0.7
"""Share of the free memory that packs may take; the rest is for weights and activations."""

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that could be taken on `device` now; None where the system does not say.

    Of the host: what the kernel calls available (page cache can be given back), and no more than
    the process's control group (a batch job's, a container's) may still take.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [free for free in (_available(), _group_free()) if free is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(sizes["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in sizes else None


def _group_free() -> int | None:
    """What the control group and those above it leave (version 2 of control groups)."""
    try:
        own = _OWN_GROUP.read_text().rpartition("::")[2].strip().strip("/")
    except OSError:
        return None
    folder, found = _GROUPS / own, []
    for each in (folder, *folder.parents):
        if not each.is_relative_to(_GROUPS):
            break
        try:
            limit = (each / "memory.max").read_text().strip()
            used = int((each / "memory.current").read_text())
            stat = dict(line.split() for line in (each / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            cache = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
            found.append(int(limit) - used + cache)
    return min(found, default=None)
