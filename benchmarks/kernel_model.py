"""How fast could a kernel be? Streaming multiprocessors and memories, and what work takes on them.

Promise: an upper bound, from published numbers alone. A multiprocessor issues one instruction a
clock from each of its 4 schedulers, perfectly; memory moves what was asked for at 92 % of its
nominal bandwidth, as a copy does. What a program reads again comes out of the L2 cache, at no cost,
where all that is read by the programs that run at once fills half of it at most. A launch takes the
longer of both; what is launched one after the other adds up. Latencies and the launches themselves
are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEDULERS = 4
SPECIAL_LANES = 16
"""Threads a clock that the special-function units of a multiprocessor serve."""

ACCESS_BYTES = 128
"""Bytes a clock between a multiprocessor's load-store units and its L1 cache or shared memory."""

SPECIAL = ("MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO")
MEMORY = ("LDG", "STG", "LDS", "STS", "LDL", "STL", "LDSM", "STSM", "SHFL", "ATOM", "ATOMG", "RED")
COPY = 0.92


@dataclass(frozen=True, kw_only=True)
class Arch:
    """A kind of multiprocessor (CUDA C++ Programming Guide, compute capabilities).

    Attributes:
        name: as nvcc says it.
        capability: the same as a number.
        grid_at: where the constant bank has the size of the grid.
        shared: bytes of shared memory.
    """

    name: str
    capability: int
    grid_at: int
    shared: int
    registers: int = 65536
    register_unit: int = 256
    warps: int = 64
    blocks: int = 32
    shared_reserved: int = 1024

    def occupancy(self, registers: int, shared: int, warps: int) -> float:
        """Share of the multiprocessor's warps that programs of this kind can fill at once."""
        per_warp = -(-registers * 32 // self.register_unit) * self.register_unit
        by_registers = self.registers // per_warp // warps
        by_shared = self.shared // (shared + self.shared_reserved)
        return min(by_registers, by_shared, self.blocks, self.warps // warps) * warps / self.warps


ARCHS = {
    arch.name: arch
    for arch in (
        Arch(name="sm_80", capability=80, grid_at=0xC, shared=167936),
        Arch(name="sm_90", capability=90, grid_at=0xC, shared=233472),
        Arch(name="sm_100", capability=100, grid_at=0x370, shared=233472),
    )
}


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU: multiprocessors, their clock in Hz, memory bandwidth in bytes/s, L2 cache in bytes."""

    name: str
    multiprocessors: int = 132
    clock: float = 1.755e9
    bandwidth: float
    cache: int = 50 * 2**20

    def issue_s(self, cycles: float, programs: int) -> float:
        """Time of programs that take a multiprocessor so many issue cycles each."""
        return cycles * programs / min(programs, self.multiprocessors) / self.clock

    def copy_s(self, num_bytes: float) -> float:
        """Time in which a copy moves this many bytes (read and written both count)."""
        return num_bytes / (COPY * self.bandwidth)


DEVICES = {
    "H100": Device(name="H100", bandwidth=3.35e12),
    "H200": Device(name="H200", bandwidth=4.8e12),
}
"""Both of sm_90."""


def issue_cycles(issued: Mapping[str, int], warps: int) -> float:
    """Clocks in which a multiprocessor issues what each of the warps does."""
    return warps * sum(issued.values()) / SCHEDULERS


def special_cycles(issued: Mapping[str, int], warps: int) -> float:
    """Clocks of the special-function units: exponentials, logarithms, reciprocals, conversions."""
    count = sum(n for opcode, n in issued.items() if opcode.split(".")[0] in SPECIAL)
    return warps * count * 32 / SPECIAL_LANES


def memory_cycles(issued: Mapping[str, int], warps: int) -> float:
    """Clocks of the load-store units: shuffles, shared and global memory, if no banks conflict."""
    total = 0.0
    for opcode, n in issued.items():
        stem, *kinds = opcode.split(".")
        if stem in MEMORY:
            lane = 16 if "128" in kinds else 8 if "64" in kinds else 4
            total += n * 32 * lane / ACCESS_BYTES
    return warps * total
