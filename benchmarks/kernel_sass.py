"""What does a program of a kernel issue? NVIDIA's machine code (SASS), walked without a device.

Promise: an instruction counts once for each time that a warp gets to it, whether its guard holds or
not. Integers are computed as the machine would (`kernel_sass_values.py`), so loops run as often as
the kernel's arguments make them, unrolled or not, and no table of trip counts is kept. Where data
decides, the longer way is taken; behind an atomic that returns something (the ticket by which the
last program knows itself) the shorter one, which all programs but one go. A loop whose end
data decides has no count: an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from kernel_sass_values import Machine, Value, most, predicate
from torch import Tensor

from antcache.errors import BadConfig

MOST_STEPS = 10**7
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_ATOMIC = ("ATOM", "ATOMG")
_ENDS = ("EXIT", "RET")
_ACCESS_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One line of SASS."""

    address: int
    guard: str
    opcode: str
    operands: tuple[str, ...]

    @cached_property
    def stem(self) -> str:
        """The opcode without its kinds."""
        return self.opcode.split(".")[0]

    @cached_property
    def target(self) -> int | None:
        """Where a jump goes."""
        if self.stem not in ("BRA", "CALL"):
            return None
        return int(self.operands[-1], 16)

    @property
    def condition(self) -> str:
        """The predicate that decides whether it is done; jumps may have one more as an operand."""
        if self.stem == "BRA" and len(self.operands) > 1:
            return self.operands[0]
        return self.guard

    @property
    def lane_bytes(self) -> int:
        """Bytes that a thread reads or writes in memory."""
        return next(
            (_ACCESS_BYTES[kind] for kind in self.opcode.split(".") if kind in _ACCESS_BYTES), 4
        )


@dataclass(kw_only=True)
class Walk:
    """What one program did.

    Attributes:
        issued: times that a warp got to an instruction, by its opcode.
        loaded: bytes read from global memory, by all threads whose guard may hold. What one
            instruction reads for several threads counts once, what is read again counts again.
        stored: bytes written there.
        steps: times that a warp got to an instruction, by its address.
        ticket: whether it took one.
    """

    issued: Counter[str] = field(default_factory=Counter)
    loaded: int = 0
    stored: int = 0
    steps: Counter[int] = field(default_factory=Counter)
    ticket: bool = False

    @property
    def instructions(self) -> int:
        """All that a warp issued."""
        return self.issued.total()


def parse(text: str) -> list[Instruction]:
    """Instructions in `cuobjdump -sass`'s text, up to the endless loop that ends each function.

    Raises:
        BadConfig: there are none.
    """
    found = []
    for line in text.splitlines():
        if match := _LINE.match(line):
            address, guard, opcode, operands = match.groups()
            found.append(
                Instruction(
                    address=int(address, 16),
                    guard=guard or "PT",
                    opcode=opcode,
                    operands=tuple(each.strip() for each in operands.split(",") if each.strip()),
                )
            )
    if not found:
        raise BadConfig("no SASS", expected="output of cuobjdump -sass", found=text[:80])
    return found


def walk(
    program: Sequence[Instruction],
    *,
    constants: Mapping[int, int],
    block: int = 0,
    threads: int = 32,
    last: bool = False,
) -> Walk:
    """Follow thread 0 of a program from its first instruction to its exit.

    Args:
        constants: known words of the constant bank, by address.
        block: number of the program in the grid.
        threads: of a program.
        last: whether it is the last one to take its ticket, which does what is left to be done.

    Raises:
        BadConfig: data decides where a loop ends, or a jump's target is not known.
    """
    lane = torch.arange(threads)
    machine = Machine(
        constants, {"SR_TID.X": lane, "SR_CTAID.X": block, "SR_TID.Y": 0, "SR_CTAID.Y": 0}
    )
    index = {each.address: i for i, each in enumerate(program)}
    farthest, nearest = _distances(program, index)
    done, back, at = Walk(), [], 0
    for _ in range(MOST_STEPS):
        one = program[at]
        done.issued[one.opcode] += 1
        done.steps[one.address] += 1
        target = one.target
        if target is None and one.stem not in _ENDS:
            _count_bytes(done, machine, one, threads)
            done.ticket |= one.stem in _ATOMIC and "RZ" not in one.operands[:2]
            machine.execute(one.guard, one.opcode, one.operands)
            at += 1
            continue
        there = len(program) if target is None else index[target]
        taken = _decided(machine, one)
        if taken is None and target is not None and target <= one.address:
            raise BadConfig(
                "data decides where a loop ends, so its instructions can't be counted",
                where=f"SASS at {one.address:#06x}",
                found=f"@{one.guard} {one.opcode} {', '.join(one.operands)}",
            )
        if taken is None and done.ticket and not last:
            taken = target is None or nearest[there] < nearest[at + 1]
        elif taken is None:
            taken = one.stem == "BRA" and farthest[there] > farthest[at + 1]
        if not taken:
            at += 1
        elif one.stem == "EXIT" or (one.stem == "RET" and not back):
            return done
        elif one.stem == "RET":
            at = back.pop()
        else:
            if one.stem == "CALL":
                back.append(at + 1)
            at = there
    raise BadConfig("a program without an end", expected=f"at most {MOST_STEPS} instructions")


def _decided(machine: Machine, one: Instruction) -> bool | None:
    """Whether a jump is taken by thread 0; None where data decides."""
    value = predicate(machine.registers, one.condition)
    if value is None and _first(most(machine.registers, one.condition)) is False:
        return False
    return None if value is None else _first(value)


def _first(value: Value) -> bool:
    return bool(value[0]) if isinstance(value, Tensor) else bool(value)


def _count_bytes(done: Walk, machine: Machine, one: Instruction, threads: int) -> None:
    """What a program asks for; threads that ask for the same place count once."""
    if one.stem not in ("LDG", "STG"):
        return
    held = most(machine.registers, one.guard)
    place = machine.address(next(each for each in one.operands if "[" in each))
    if place is None:
        active = int(held.sum()) if isinstance(held, Tensor) else threads if held else 0
    elif isinstance(place, Tensor):
        held = held if isinstance(held, Tensor) else torch.full_like(place, bool(held)).bool()
        active = len(place[held].unique())
    else:
        active = int(bool(held.any() if isinstance(held, Tensor) else held))
    if one.stem == "LDG":
        done.loaded += active * one.lane_bytes
    else:
        done.stored += active * one.lane_bytes


def _distances(
    program: Sequence[Instruction], index: Mapping[int, int]
) -> tuple[list[int], list[int]]:
    """Instructions to an exit from each place, by the longest and by the shortest way, if no loop
    is entered again. A way into a subroutine is the slow path of rare values: neither of them.
    """
    size = len(program)
    farthest, nearest = [0] * (size + 1), [0] * (size + 1)
    for i in range(size - 1, -1, -1):
        one = program[i]
        always = one.condition.endswith("PT") and not one.condition.startswith("!")
        ways = [] if always and (one.target is not None or one.stem in _ENDS) else [i + 1]
        if one.target is not None and one.target > one.address and one.target in index:
            ways.append(index[one.target])
        slow = one.stem == "CALL" and always
        ways = [] if slow else ways
        farthest[i] = -size if slow else max((1 + farthest[way] for way in ways), default=0)
        nearest[i] = 0 if one.stem in _ENDS else min((1 + nearest[w] for w in ways), default=size)
    return farthest, nearest
