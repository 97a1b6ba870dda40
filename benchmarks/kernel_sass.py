"""What does a program of a kernel issue? NVIDIA's machine code (SASS), walked without a device.

Promise: an instruction counts once for each time that a warp gets to it, whether its guard holds or
not. Integers are computed as the machine would (`kernel_sass_integers.py`), so loops run as often
as the kernel's arguments make them, unrolled or not, and no table of trip counts is kept. Where
data decides, the longer way is taken; behind an atomic that returns something (the ticket by which
the last program knows itself) the shorter one, which all programs but one go. A loop around such
an atomic waits for another program, and is over at once. What can't be counted is an error: a loop
whose end data decides, a jump to who knows where.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from kernel_sass_integers import execute
from kernel_sass_registers import Registers, Value, both, is_predicate
from torch import Tensor

from antcache.errors import BadConfig

MOST_STEPS = 10**7
SECTOR_BYTES = 32
"""What memory moves at least."""

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_ATOMIC = ("ATOM", "ATOMG")
_LOADS, _STORES = ("LDG", "LDGSTS"), ("STG",)
_BULK = ("UBLKCP", "UBLKRED", "UTMALDG", "UTMASTG", "UTMAREDG")
_INDIRECT = ("BRX", "BRXU", "JMP", "JMX", "JMXU")
_ACCESS_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One line of SASS."""

    address: int
    guard: str
    opcode: str
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"/*{self.address:04x}*/ @{self.guard} {self.opcode} {', '.join(self.operands)}"

    @cached_property
    def stem(self) -> str:
        """The opcode without its kinds."""
        return self.opcode.split(".")[0]

    @cached_property
    def jumps(self) -> bool:
        """Whether the next instruction may be another than the one below."""
        return self.stem in ("BRA", "CALL", "EXIT", "RET", *_INDIRECT)

    @cached_property
    def returns(self) -> bool:
        """Whether it is an atomic that returns something."""
        return self.stem in _ATOMIC and "RZ" not in self.operands[:2]

    @cached_property
    def target(self) -> int | None:
        """Where a jump goes, if it says so."""
        if self.stem in ("BRA", "CALL") and self.operands[-1].startswith("0x"):
            return int(self.operands[-1], 16)
        return None

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Predicates that must hold; jumps may have more than the guard."""
        more = [each for each in self.operands if is_predicate(each)] if self.jumps else []
        return tuple(each for each in (self.guard, *more) if each not in ("PT", "UPT"))

    @cached_property
    def lane_bytes(self) -> int:
        """Bytes that a thread reads or writes in memory."""
        kinds = self.opcode.split(".")
        return next((_ACCESS_BYTES[kind] for kind in kinds if kind in _ACCESS_BYTES), 4)


@dataclass(kw_only=True)
class Walk:
    """What one program did.

    Attributes:
        issued: times that a warp got to an instruction, by its opcode.
        loaded: bytes read from global memory by all threads whose guard may hold. What one
            instruction reads for several threads counts once.
        fresh: those of them that the program had not read before.
        stored: bytes written there.
        by_example: whether data decides some of the places, so that these bytes are an example.
        ticket: whether it took one.
    """

    issued: Counter[str] = field(default_factory=Counter)
    loaded: int = 0
    fresh: int = 0
    stored: int = 0
    by_example: bool = False
    ticket: bool = False

    @property
    def instructions(self) -> int:
        """All that a warp issued."""
        return self.issued.total()


def parse(text: str) -> list[Instruction]:
    """Instructions in the text of `cuobjdump -sass`.

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
        BadConfig: it can't be counted.
    """
    special: dict[str, Value] = {"SR_TID.X": torch.arange(threads), "SR_CTAID.X": block}
    axes = ("SR_TID.Y", "SR_TID.Z", "SR_CTAID.Y", "SR_CTAID.Z")
    special |= dict.fromkeys(axes, 0)
    registers = Registers(constants, special)
    index = {each.address: i for i, each in enumerate(program)}
    farthest, nearest = _distances(program, index)
    done, places, back, at = Walk(), list[Tensor](), list[int](), 0
    for _ in range(MOST_STEPS):
        one = program[at]
        done.issued[one.opcode] += 1
        at += 1
        if not one.jumps:
            _count_bytes(done, places, registers, one, threads)
            done.ticket |= one.returns
            execute(registers, one.guard, one.opcode, one.operands)
            continue
        there = index.get(one.target) if one.target is not None else None
        taken = _decided(registers, one)
        if taken is None and there is not None and any(e.returns for e in program[there:at]):
            taken = done.ticket = False  # what it waited for is no ticket
        if taken is None and there is not None and there < at:
            raise BadConfig("data decides where a loop ends: it can't be counted", found=str(one))
        if taken is None:
            way, other = (len(program) if there is None else there), at
            short = done.ticket and not last
            taken = nearest[way] < nearest[other] if short else farthest[way] > farthest[other]
        if not taken:
            continue
        if one.stem == "EXIT" or (one.stem == "RET" and not back):
            done.fresh = min(_distinct(places), done.loaded)
            return done
        if one.stem == "RET":
            there = back.pop()
        elif one.stem == "CALL":
            back.append(at)
        if there is None:
            raise BadConfig("a jump to who knows where", found=str(one))
        at = there
    raise BadConfig("a program without an end", expected=f"at most {MOST_STEPS} instructions")


def _decided(registers: Registers, one: Instruction) -> bool | None:
    """Whether thread 0 jumps; None where data decides."""
    if one.opcode.startswith("BRA.DIV"):  # threads of a warp that do not go together
        return False
    value: Value = True
    for each in one.conditions:
        if _first(registers.most(each)) is False:
            return False
        value = both(value, registers.predicate(each))
    return None if value is None else _first(value)


def _first(value: Value) -> bool:
    return bool(value[0]) if isinstance(value, Tensor) else bool(value)


def _count_bytes(
    done: Walk, places: list[Tensor], registers: Registers, one: Instruction, threads: int
) -> None:
    """What an instruction moves between the program and memory."""
    if one.stem in _BULK:
        raise BadConfig("bytes of a bulk copy can't be counted", found=str(one))
    if one.stem not in (*_LOADS, *_STORES):
        return
    held = registers.most(one.guard)
    mask = held if isinstance(held, Tensor) else torch.full((threads,), bool(held))
    where = [each for each in one.operands if "[" in each][-1]
    done.by_example |= registers.address(where) is None
    registers.by_example = True  # where it is known, this is what is known
    place = registers.address(where)
    registers.by_example = False
    if place is None:
        raise BadConfig("an address that can't be followed", found=str(one))
    every = place if isinstance(place, Tensor) else torch.full((threads,), place)
    lanes = torch.unique(every[mask])
    if one.stem in _LOADS:
        places.append(lanes)
        done.loaded += len(lanes) * one.lane_bytes
    else:
        done.stored += len(lanes) * one.lane_bytes


def _distinct(places: Sequence[Tensor]) -> int:
    """Bytes of the sectors of memory in which these addresses are."""
    every = torch.cat([torch.empty(0, dtype=torch.long), *places])
    return SECTOR_BYTES * len(torch.unique(every // SECTOR_BYTES))


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
        ways = [] if one.jumps and not one.conditions else [i + 1]
        if one.target is not None and one.target > one.address and one.target in index:
            ways.append(index[one.target])
        slow = one.stem == "CALL" and not one.conditions
        ways = [] if slow else ways
        farthest[i] = -size if slow else max((1 + farthest[way] for way in ways), default=0)
        ends = one.stem in ("EXIT", "RET")
        nearest[i] = 0 if ends else min((1 + nearest[way] for way in ways), default=size)
    return farthest, nearest
