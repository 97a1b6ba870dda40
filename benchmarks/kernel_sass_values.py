"""What integer instructions of NVIDIA's machine code (SASS) compute, for all threads of a program.

Promise: a value is a number, where all threads have the same, or a tensor (threads,), or None: not
known, because it was loaded, is a float, or comes from an instruction that is not modelled here. No
value is guessed. Registers have 32 bits, as unsigned numbers; predicates are true or false.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

Value = int | bool | Tensor | None
Registers = dict[str, Value]

_WORD = 0xFFFFFFFF
_PREDICATE = re.compile(r"!?U?P(\d|T)$")
_REGISTER = re.compile(r"([-~]?)(U?R)(\d+|Z)(\.reuse|\.64)*$")
_CONSTANT = re.compile(r"(-?)c\[0x0\]\[(0x[0-9a-f]+)\]$")
_WIDTHS = {
    **{"64": 2, "WIDE": 2, "128": 4, "LDSM": 4, "CS2R": 2},
    **{"FADD2": 2, "FMUL2": 2, "FFMA2": 2, "DADD": 2, "DMUL": 2, "DFMA": 2},
}
"""Registers that are written, where they are more than one."""


def is_predicate(operand: str) -> bool:
    """Whether this is a predicate (P0, !UP1, PT)."""
    return bool(_PREDICATE.match(operand))


def predicate(registers: Registers, operand: str) -> Value:
    """Value of a predicate, None if it is not known."""
    name = operand.lstrip("!")
    value = True if name.endswith("PT") else registers.get(name)
    return value if value is None or name == operand else value ^ True


def most(registers: Registers, operand: str) -> Value:
    """Where a predicate can be true at most."""
    value = predicate(registers, operand)
    return registers.get(f"most {operand}", True) if value is None else value


def both(one: Value, other: Value) -> Value:
    """One and the other; one false is enough to know it."""
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


def signed(value: Any) -> Any:
    """The 32 bits as a signed number."""
    return (value ^ 0x80000000) - 0x80000000


class Machine:
    """Registers of a program's threads, and the instructions that change them.

    Args:
        constants: words of the constant bank that are known, by address.
        special: special registers that are known (SR_TID.X, SR_CTAID.X).
    """

    def __init__(self, constants: Mapping[int, int], special: Mapping[str, Value]) -> None:
        self.registers: Registers = {}
        self.constants, self.special = constants, special
        self._fog: dict[str, Any] = {}
        self._before: dict[str, tuple[Value, Any]] = {}

    def read(self, operand: str) -> Value:
        """Value of a register, a constant or a number."""
        value, fog = self.bits(operand)
        return value if type(fog) is int and fog == 0 else None

    def bits(self, operand: str) -> tuple[Any, Any]:
        """The same where all bits that are not known are 0, and which ones these are."""
        fog: Any = 0
        if found := _REGISTER.match(operand):
            sign, bank, number, _ = found.groups()
            name = bank + number
            value: Any = 0 if number == "Z" else self.registers.get(name, 0)  # never written: any
            fog = self._fog.get(name, 0)
        elif found := _CONSTANT.match(operand):
            sign, value = found[1], self.constants.get(int(found[2], 16))
        else:
            sign, value = "", _number(operand)
        if value is None or (sign == "-" and not (type(fog) is int and fog == 0)):
            return 0, _WORD
        if sign:
            value = (-value if sign == "-" else ~value & ~fog) & _WORD
        return value, fog

    def address(self, operand: str) -> Value:
        """Low word of an address in memory (desc[UR8][R2.64+0x10]), without what is added last."""
        total: Any = 0
        for part in operand.rstrip("]").rpartition("[")[2].split("+"):
            if _REGISTER.match(part):
                value = self.read(part)
                if value is None:
                    return None
                total = total + value
        return total & _WORD

    def write(self, operand: str, *values: Value, fog: Any = 0) -> None:
        """Put values into a register and those after it, or into a predicate."""
        if is_predicate(operand):
            self._set(operand, values[0], 0)
            self.registers.pop(f"most {operand}", None)
        elif (found := _REGISTER.match(operand)) and found[3] != "Z":
            for offset, value in enumerate(values):
                self._set(f"{found[2]}{int(found[3]) + offset}", value, fog)

    def _set(self, name: str, value: Value, fog: Any) -> None:
        self._before.setdefault(name, (self.registers.get(name, 0), self._fog.get(name, 0)))
        self.registers[name], self._fog[name] = value, fog

    def execute(self, guard: str, opcode: str, operands: tuple[str, ...]) -> None:
        """Do what the instruction does where its guard holds."""
        held = predicate(self.registers, guard)
        if held is False:
            return
        self._before.clear()
        stem, *kinds = opcode.split(".")
        model = _MODELS.get(stem) or _MODELS.get(stem.removeprefix("U"))
        if model is None or not model(self, kinds, operands):
            self._forget(stem, kinds, operands)
        if held is not True:
            for name, old in self._before.items():
                self._merge(held, name, *old)

    def _merge(self, held: Value, name: str, old: Any, old_fog: Any) -> None:
        """What was written counts only where `held`; bits that are the same are known anyway."""
        new, fog = self.registers[name], self._fog[name]
        if held is None and "P" not in name and new is not None and old is not None:
            self.registers[name] = new & old & ~fog & ~old_fog
            self._fog[name] = (new ^ old) | fog | old_fog
        elif type(fog) is int and type(old_fog) is int and fog == old_fog == 0:
            self.registers[name] = choose(held, new, old)
        else:
            self.registers[name], self._fog[name] = None, 0

    def _forget(self, stem: str, kinds: list[str], operands: tuple[str, ...]) -> None:
        """What an instruction writes that is not modelled: predicates in front, then registers."""
        if stem in _WRITE_NOTHING:
            return
        rest = list(operands)
        while rest and is_predicate(rest[0]):
            self.write(rest.pop(0), None)
        if rest and "SETP" not in stem and "PLOP3" not in stem:
            width = max((_WIDTHS.get(kind, 1) for kind in (stem, *kinds)), default=1)
            width = 4 if stem.endswith("MMA") else width
            self.write(rest.pop(0), *[None] * width)
            while len(rest) > 1 and is_predicate(rest[0]):
                self.write(rest.pop(0), None)


@cache
def _number(text: str) -> int | None:
    try:
        return int(text, 0) & _WORD
    except ValueError:
        return None


def _outputs(operands: tuple[str, ...]) -> tuple[str, list[str], list[str], list[str]]:
    """Register written, predicates written, sources, predicates read."""
    rest = list(operands)
    preds = []
    while is_predicate(rest[0]):
        preds.append(rest.pop(0))
    out = rest.pop(0)
    while is_predicate(rest[0]):
        preds.append(rest.pop(0))
    sources = [each for each in rest if not is_predicate(each)]
    return out, preds, sources, [each for each in rest if is_predicate(each)]


def _compare(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """ISETP: a comparison, combined with a predicate; EX takes that of the low words along."""
    out, other, a, b, combined, *low = operands
    x, y = machine.read(a), machine.read(b)
    value: Value = None
    if x is not None and y is not None:
        if "U32" not in kinds:
            x, y = signed(x), signed(y)
        how = kinds[0]
        if "EX" in kinds:
            under = predicate(machine.registers, low[0])
            if under is not None:
                value = {
                    "EQ": lambda: (x == y) & under,
                    "NE": lambda: (x != y) | under,
                    "LT": lambda: (x < y) | ((x == y) & under),
                    "LE": lambda: (x < y) | ((x == y) & under),
                    "GT": lambda: (x > y) | ((x == y) & under),
                    "GE": lambda: (x > y) | ((x == y) & under),
                }[how]()
        else:
            value = {
                "EQ": lambda: x == y,
                "NE": lambda: x != y,
                "LT": lambda: x < y,
                "LE": lambda: x <= y,
                "GT": lambda: x > y,
                "GE": lambda: x >= y,
                "F": lambda: False,
                "T": lambda: True,
            }[how]()
    known = predicate(machine.registers, combined)
    top = most(machine.registers, combined)
    for name, each in ((out, value), (other, None if value is None else value ^ True)):
        if "AND" in kinds:
            machine.write(name, both(each, known))
            limit = both(True if each is None else each, top)
        elif each is None or known is None:
            sure = each is True or known is True
            machine.write(name, (True if "OR" in kinds and sure else None))
            limit = True
        else:
            machine.write(name, each | known if "OR" in kinds else each ^ known)
            limit = True
        if machine.registers.get(name) is None and not name.endswith("PT"):
            machine.registers[f"most {name}"] = limit
    return True


def _lut(table: int, a: Any, b: Any, c: Any, ones: int) -> Any:
    result: Any = 0
    for index in range(8):
        if table >> index & 1:
            term = a if index & 4 else a ^ ones
            term = term & (b if index & 2 else b ^ ones)
            result = result | (term & (c if index & 1 else c ^ ones))
    return result


def _logic_of_predicates(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """PLOP3: any function of three predicates, twice; unknown ones are tried out."""
    outs, sources, tables = operands[:2], operands[2:5], operands[5:]
    values = [predicate(machine.registers, each) for each in sources]
    tops = [most(machine.registers, each) for each in sources]
    for out, table in zip(outs, tables, strict=True):
        lut = int(table, 16)
        unknown = [i for i, value in enumerate(values) if value is None]
        tried = []
        for bits in range(1 << len(unknown)):
            given = list(values)
            inside: Value = True
            for place, i in enumerate(unknown):
                given[i] = bool(bits >> place & 1)
                if given[i]:
                    inside = both(inside, tops[i])
            result = _lut(lut, *given, True)
            tried.append((result, inside))
        first = tried[0][0]
        same = all(not isinstance(r, Tensor) and r == first for r, _ in tried)
        machine.write(
            out,
            bool(first)
            if same and not isinstance(first, Tensor)
            else (first if len(tried) == 1 else None),
        )
        if len(tried) > 1 and not same and not out.endswith("PT"):
            limit: Any = False
            for result, inside in tried:
                limit = limit | (both(result, inside))
            machine.registers[f"most {out}"] = limit
    return True


def _logic(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """LOP3: any function of three registers, bit by bit; the predicate says whether it is not 0."""
    out, preds, sources, read = _outputs(operands)
    values = [machine.bits(each) for each in sources[:3]]
    table = int(sources[3], 16)
    known = all(type(f) is int and f == 0 for _, f in values)
    results = [
        _lut(table, *(v | f if bits >> i & 1 else v for i, (v, f) in enumerate(values)), _WORD)
        for bits in range(1 if known else 8)
    ]
    result, fog = results[0], 0
    for each in results[1:]:
        fog = fog | (each ^ result)
    if isinstance(fog, Tensor) and not fog.any():
        fog = 0
    machine.write(out, result & ~fog, fog=fog)
    known = type(fog) is int and fog == 0
    other = predicate(machine.registers, read[0]) if read else False
    for each in preds[:1]:
        machine.write(each, (result != 0) | other if known and other is not None else None)
    return True


def _pack(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """P2R: predicates as bits of a register."""
    out, bank, rest, chosen = operands
    mask = machine.read(chosen)
    if kinds or not isinstance(mask, int):
        return False
    value, fog = machine.bits(rest)
    value, fog = value & ~mask, fog & ~mask
    for i in range(8):
        if mask >> i & 1:
            one = predicate(machine.registers, f"{bank.removesuffix('R')}{i}")
            if one is None:
                fog = fog | 1 << i
            else:
                value = value | (one.long() if isinstance(one, Tensor) else int(one)) << i
    machine.write(out, value, fog=fog)
    return True


def _unpack(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """R2P: bits of a register as predicates."""
    bank, source, chosen = operands
    value, fog = machine.bits(source)
    mask = machine.read(chosen)
    for i in range(7):
        if not isinstance(mask, int) or mask >> i & 1:
            known = not kinds and isinstance(mask, int) and type(fog) is int and not fog >> i & 1
            machine.write(
                f"{bank.removesuffix('R')}{i}", ((value >> i) & 1) != 0 if known else None
            )
    return True


def _add(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """IADD3, VIADD, IMAD.IADD: a sum, with carries out, and in with X."""
    out, preds, sources, read = _outputs(operands)
    values = [machine.read(each) for each in sources]
    if "X" in kinds:
        values += [predicate(machine.registers, each) for each in read]
    if any(value is None for value in values):
        return False
    total: Any = sum(values)  # type: ignore[arg-type]
    machine.write(out, total & _WORD)
    carries = [each for each in preds if not each.endswith("PT")]
    for each in carries:
        machine.write(each, total > _WORD if len(carries) == 1 else None)
    return True


def _multiply(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """IMAD: a * b + c, 32 bits or WIDE."""
    out, preds, sources, read = _outputs(operands)
    values = [machine.read(each) for each in sources]
    if "MOV" in kinds:
        machine.write(out, values[2])
        return True
    if any(type(value) is int and value == 0 for value in values[:2]):
        values[:2] = [0, 0]
    if any(value is None for value in values) or preds or "HI" in kinds:
        return False
    a, b, c = values
    if "WIDE" in kinds:
        high = _next(sources[2])
        c_high = machine.read(high) if high else 0
        if "U32" not in kinds:
            a, b = signed(a), signed(b)
        product: Any = a * b
        low = (product & _WORD) + c
        machine.write(out, low & _WORD)
        if (target := _next(out)) is not None:
            upper = None if c_high is None else ((product >> 32) + c_high + (low >> 32)) & _WORD
            machine.write(target, upper)
        return True
    carry = predicate(machine.registers, read[0]) if "X" in kinds and read else 0
    if carry is None:
        return False
    machine.write(out, (a * b + c + carry) & _WORD)
    return True


def _next(register: str) -> str | None:
    found = _REGISTER.match(register)
    return f"{found[2]}{int(found[3]) + 1}" if found and found[3] != "Z" else None


def _load_address(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """LEA: (a << s) + b with a carry."""
    out, preds, sources, _ = _outputs(operands)
    a, b, shift = machine.read(sources[0]), machine.read(sources[1]), _number(sources[-1])
    if a is None or b is None or shift is None or "HI" in kinds:
        return False
    total = ((a << shift) & _WORD) + b
    machine.write(out, total & _WORD)
    for each in preds:
        machine.write(each, total > _WORD)
    return True


def _shift(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """SHF: left of the first, or right of the third operand."""
    out, low, amount, high = operands
    count = machine.read(amount)
    value = machine.read(low if kinds[0] == "L" else high)
    if count is None or value is None or "U64" in kinds or "S64" in kinds:
        return False
    if kinds[0] == "L" and high in ("RZ", "URZ") and "HI" not in kinds:
        machine.write(out, (value << count) & _WORD)
    elif kinds[0] == "R" and low in ("RZ", "URZ") and "HI" in kinds:
        machine.write(out, ((signed(value) if "S32" in kinds else value) >> count) & _WORD)
    else:
        return False
    return True


def _move(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """MOV, LDC, R2UR: a value, or two or four neighbours of the constant bank."""
    *_, out, source = (each for each in operands[:3] if not is_predicate(each))
    if found := _CONSTANT.match(source):
        width = 4 if "128" in kinds else 2 if "64" in kinds else 1
        if any(kind in ("U8", "S8", "U16", "S16") for kind in kinds):
            return False
        start = int(found[2], 16)
        machine.write(out, *(machine.constants.get(start + 4 * i) for i in range(width)))
        return True
    if "64" in kinds:
        return False
    machine.write(out, machine.read(source))
    return True


def _special(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """S2R, S2UR, CS2R: a special register; SRZ is 0."""
    out, name = operands
    if name == "SRZ":
        machine.write(out, *([0] if "32" in kinds else [0, 0]))
        return True
    machine.write(out, machine.special.get(name))
    return True


def _halves(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """HFMA2 of nothing but two numbers: how the compiler often loads a constant."""
    if len(operands) != 5 or operands[1:3] != ("-RZ", "RZ"):
        return False
    try:
        low, high = (struct.pack("<e", float(each)) for each in operands[:2:-1])
    except (ValueError, OverflowError):
        return False
    machine.write(operands[0], int.from_bytes(low + high, "little"))
    return True


def _select(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """SEL."""
    out, yes, no, condition = operands
    chosen = choose(predicate(machine.registers, condition), machine.read(yes), machine.read(no))
    machine.write(out, chosen)
    return True


def _extreme(machine: Machine, kinds: list[str], operands: tuple[str, ...]) -> bool:
    """VIMNMX: the smaller where the predicate holds, else the larger."""
    out, preds, sources, read = _outputs(operands)
    a, b = machine.read(sources[0]), machine.read(sources[1])
    if a is None or b is None or preds or len(read) != 1:
        return False
    if "U32" not in kinds:
        a, b = signed(a), signed(b)
    smaller = choose(a < b, a, b)
    larger = choose(a < b, b, a)
    value = choose(predicate(machine.registers, read[0]), smaller, larger)
    machine.write(out, None if value is None else value & _WORD)
    return True


_Model = Callable[[Machine, list[str], tuple[str, ...]], bool]
_MODELS: dict[str, _Model] = {
    "ISETP": _compare,
    "PLOP3": _logic_of_predicates,
    "LOP3": _logic,
    "P2R": _pack,
    "UP2UR": _pack,
    "R2P": _unpack,
    "IADD3": _add,
    "VIADD": _add,
    "IMAD": _multiply,
    "LEA": _load_address,
    "SHF": _shift,
    "MOV": _move,
    "LDC": _move,
    "LDCU": _move,
    "R2UR": _move,
    "S2R": _special,
    "S2UR": _special,
    "CS2R": _special,
    "HFMA2": _halves,
    "SEL": _select,
    "VIMNMX": _extreme,
    "IMNMX": _extreme,
}
_WRITE_NOTHING = ("STG", "STS", "STL", "ST", "RED", "BAR", "BRA", "BSSY", "BSYNC", "EXIT", "NOP")
