"""Registers and predicates of a kernel's program, as far as they are known without its data.

Promise: a value is a number, where all threads have the same, or a tensor (threads,), or None: not
known. Registers have 32 bits, as unsigned numbers, of which some may be known and others not (masks
are kept so); of a predicate it may be known where it is true at most. Beside what is known, and
never mixed with it, stands an example: what the value would be if the integers that are loaded
counted up from 0. It tells which threads go to the same place in memory, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

Value = int | bool | Tensor | None
WORD = 0xFFFFFFFF
_PREDICATE = re.compile(r"!?U?P(\d|T)$")
_REGISTER = re.compile(r"([-~]?)(U?R)(\d+|Z)(\.reuse|\.64)*$")
_CONSTANT = re.compile(r"(-?)c\[0x0\]\[(0x[0-9a-f]+)\]$")


@cache
def is_predicate(operand: str) -> bool:
    """Whether this is a predicate (P0, !UP1, PT)."""
    return bool(_PREDICATE.match(operand))


@cache
def number(operand: str) -> int | None:
    """The 32 bits of a number in the text, if it is an integer."""
    try:
        return int(operand, 0) & WORD
    except ValueError:
        return None


@cache
def register(operand: str) -> tuple[str, str, int | None] | None:
    """Sign, bank (R or UR) and number of a register, None for the one that is always 0."""
    found = _REGISTER.match(operand)
    return found and (found[1], found[2], None if found[3] == "Z" else int(found[3]))


@cache
def constant(operand: str) -> tuple[str, int] | None:
    """Sign of a word of the constant bank, and where it is."""
    found = _CONSTANT.match(operand)
    return found and (found[1], int(found[2], 16))


def clear(fog: Any) -> bool:
    """Whether no bit is unknown."""
    return type(fog) is int and fog == 0


def signed(value: Any) -> Any:
    """The 32 bits as a signed number."""
    return (value ^ 0x80000000) - 0x80000000


def both(one: Value, other: Value) -> Value:
    """One and the other; one that is false is enough to know it."""
    if one is None or other is None:
        return False if one is False or other is False else None
    return one & other


def choose(condition: Value, yes: Value, no: Value) -> Value:
    """`yes` where the condition holds, else `no`."""
    if condition is None or yes is None or no is None:
        return None
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


class Registers:
    """What the threads of a program hold.

    Args:
        constants: words of the constant bank that are known, by address.
        special: special registers that are known (SR_TID.X, SR_CTAID.X).
    """

    def __init__(self, constants: Mapping[int, int], special: Mapping[str, Value]) -> None:
        self.constants, self.special = constants, special
        self._values: dict[str, Value] = {}
        self._fog: dict[str, Any] = {}
        self._most: dict[str, Value] = {}
        self._before: dict[str, tuple[Value, Any]] = {}
        self._examples: dict[str, Any] = {}
        self.by_example = False

    def predicate(self, operand: str) -> Value:
        """Value of a predicate."""
        name = operand.lstrip("!")
        value = True if name.endswith("PT") else self._values.get(name)
        if value is None and self.by_example:
            value = self._examples.get(name, True)
        return value if value is None or name == operand else value ^ True

    def most(self, operand: str) -> Value:
        """Where a predicate is true at most."""
        value = self.predicate(operand)
        return self._most.get(operand, True) if value is None else value

    def read(self, operand: str) -> Value:
        """Value of a register, a constant or a number."""
        value, fog = self.bits(operand)
        return value if clear(fog) else None

    def bits(self, operand: str) -> tuple[Any, Any]:
        """The same with 0 in the bits that are not known, and which ones these are."""
        sign, fog = "", 0
        value: Any
        if found := register(operand):
            sign, bank, place = found
            name = f"{bank}{place}"
            value = 0 if place is None else self._values.get(name, 0)  # never written: any will do
            fog = self._fog.get(name, 0)
        elif at := constant(operand):
            sign, value = at[0], self.constants.get(at[1])
        else:
            value = number(operand)
        if self.by_example and found and (value is None or not clear(fog)):
            value, fog = self._examples.get(name, 0), 0
        if value is None or (sign == "-" and not clear(fog)):
            return 0, WORD
        if sign:
            value = (-value if sign == "-" else ~value & ~fog) & WORD
        return value, fog

    def address(self, operand: str) -> Value:
        """Low word of an address in memory (desc[UR8][R2.64+0x10])."""
        total: int | Tensor = 0
        for part in operand.rstrip("]").rpartition("[")[2].split("+"):
            value = self.read(part)
            if value is None:
                return None
            total = (total + value) & WORD
        return total

    def write(self, operand: str, *values: Value, fog: Any = 0, most: Value = True) -> None:
        """Put values into a register and those after it, or into a predicate."""
        if is_predicate(operand):
            self._set(operand, values[0], 0)
            if not self.by_example:
                self._most[operand] = most
        elif (found := register(operand)) and found[2] is not None:
            for offset, value in enumerate(values):
                self._set(f"{found[1]}{found[2] + offset}", value, fog)

    def _set(self, name: str, value: Value, fog: Any) -> None:
        if self.by_example:
            self._examples[name] = value
            return
        self._examples.pop(name, None)
        self._before.setdefault(name, (self._values.get(name, 0), self._fog.get(name, 0)))
        self._values[name], self._fog[name] = value, fog

    def unknown(self) -> bool:
        """Whether the instruction wrote something that is not known."""
        return any(
            self._values[each] is None or not clear(self._fog[each]) for each in self._before
        )

    def begin(self) -> None:
        """An instruction begins."""
        self._before.clear()

    def keep_where(self, held: Value) -> None:
        """What the instruction wrote counts only where its guard held."""
        for name, (old, old_fog) in self._before.items():
            new, fog = self._values[name], self._fog[name]
            self._most.pop(name, None)
            if clear(fog) and clear(old_fog) and held is not None:
                self._values[name] = choose(held, new, old)
            elif is_predicate(name) or new is None or old is None or held is not None:
                self._values[name], self._fog[name] = None, 0
            else:  # bits that are the same either way
                unknown: Any = (new ^ old) | fog | old_fog
                self._values[name], self._fog[name] = new & ~unknown, unknown
