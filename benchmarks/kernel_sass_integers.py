"""What the integer instructions of NVIDIA's machine code (SASS) compute.

Promise: those that loops, masks and addresses are made of are done as the machine does them; what
any other writes is not known afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from kernel_sass_registers import (
    WORD,
    Registers,
    Value,
    both,
    choose,
    clear,
    constant,
    is_predicate,
    number,
    register,
    signed,
)
from torch import Tensor

Operands = tuple[str, ...]
Model = Callable[[Registers, list[str], Operands], bool]
"""Does an instruction by its kinds (what follows the dots) and operands; false: it can't."""

WIDTHS = {
    **{"64": 2, "WIDE": 2, "128": 4, "LDSM": 4, "CS2R": 2},
    **{"FADD2": 2, "FMUL2": 2, "FFMA2": 2, "DADD": 2, "DMUL": 2, "DFMA": 2},
}
"""Registers that are written, where they are more than one."""

LOADS = ("LDG",)
WRITE_NOTHING = ("STG", "STS", "STL", "ST", "RED", "REDG", "BAR", "BSSY", "BSYNC", "NOP")


def execute(registers: Registers, guard: str, opcode: str, operands: Operands) -> None:
    """Do what the instruction does where its guard holds."""
    held = registers.predicate(guard)
    if held is False:
        return
    registers.begin()
    stem, *kinds = opcode.split(".")
    model = MODELS.get(stem) or MODELS.get(stem.removeprefix("U"))
    if model is None or not model(registers, kinds, operands):
        _forget(registers, stem, kinds, operands)
    if held is not True:
        registers.keep_where(held)
    if (model or stem in LOADS) and registers.unknown():
        registers.by_example = True
        (model or _count_up)(registers, kinds, operands)
        registers.by_example = False


def _count_up(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """An example of what is loaded: threads that read the same place get the same number."""
    place = registers.address(operands[-1])
    value: Value = 0
    if isinstance(place, Tensor):
        value = torch.unique(place, return_inverse=True)[1]
    halves = {"64": (value, 0), "128": (value, 0, value, 0)}  # 64-bit integers, their high words 0
    registers.write(
        operands[0], *next((halves[each] for each in kinds if each in halves), (value,))
    )
    return True


def _forget(registers: Registers, stem: str, kinds: list[str], operands: Operands) -> None:
    """What an instruction writes that can't be done: predicates in front, then registers."""
    if stem in WRITE_NOTHING:
        return
    rest = list(operands)
    while rest and is_predicate(rest[0]):
        registers.write(rest.pop(0), None)
    if rest and "SETP" not in stem:
        width = max(WIDTHS.get(kind, 1) for kind in (stem, *kinds))
        registers.write(rest.pop(0), *[None] * (4 if stem.endswith("MMA") else width))
        while len(rest) > 1 and is_predicate(rest[0]):
            registers.write(rest.pop(0), None)


def _parts(operands: Operands) -> tuple[str, list[str], list[str], list[str]]:
    """Register written, predicates written (PT is nobody), sources, predicates read."""
    rest, written = list(operands), []
    while is_predicate(rest[0]):
        written.append(rest.pop(0))
    out = rest.pop(0)
    while is_predicate(rest[0]):
        written.append(rest.pop(0))
    return (
        out,
        [each for each in written if not each.endswith("PT")],
        [each for each in rest if not is_predicate(each)],
        [each for each in rest if is_predicate(each)],
    )


def _after(operand: str) -> str | None:
    """The register after this one, which has the high word."""
    found = register(operand)
    return f"{found[1]}{found[2] + 1}" if found and found[2] is not None else None


def _relation(how: str, x: Any, y: Any) -> Any:
    return {
        "EQ": lambda: x == y,
        "NE": lambda: x != y,
        "LT": lambda: x < y,
        "LE": lambda: x <= y,
        "GT": lambda: x > y,
        "GE": lambda: x >= y,
    }[how]()


def _compare(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """ISETP: a comparison and its opposite, each combined with a predicate.

    EX compares high words: where they are the same, a predicate says it of the low ones.
    """
    out, opposite, a, b, combined, *low = operands
    x, y = registers.read(a), registers.read(b)
    value: Value = None
    if x is not None and y is not None:
        x, y = (x, y) if "U32" in kinds else (signed(x), signed(y))
        value = _relation(kinds[0], x, y)
        if "EX" in kinds:
            below = registers.predicate(low[0])
            strict = {"LE": "LT", "GE": "GT"}.get(kinds[0], kinds[0])
            value = None if below is None else choose(x == y, below, _relation(strict, x, y))
    known, limit = registers.predicate(combined), registers.most(combined)
    for name, each in ((out, value), (opposite, None if value is None else value ^ True)):
        if "AND" in kinds:
            most = both(True if each is None else each, limit)
            registers.write(name, both(each, known), most=most)
        elif each is None or known is None:
            registers.write(name, None)
        else:
            registers.write(name, each | known if "OR" in kinds else each ^ known)
    return True


def _lut(table: int, values: Sequence[Any], ones: int) -> Any:
    """The function of three bits that the table lists, for all bits at once."""
    a, b, c = values
    result: Any = 0
    for index in range(8):
        if table >> index & 1:
            term = (a if index & 4 else a ^ ones) & (b if index & 2 else b ^ ones)
            result = result | (term & (c if index & 1 else c ^ ones))
    return result


def _logic_of_predicates(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """PLOP3: two functions of three predicates. Unknown ones are tried out."""
    values = [registers.predicate(each) for each in operands[2:5]]
    unknown = [i for i, value in enumerate(values) if value is None]
    for out, table in zip(operands[:2], operands[5:], strict=True):
        results: list[Any] = []
        most: Any = False
        for tried in range(1 << len(unknown)):
            inside: Any = True
            for place, i in enumerate(unknown):
                values[i] = bool(tried >> place & 1)
                if values[i]:
                    inside = inside & registers.most(operands[2 + i])
            results.append(_lut(int(table, 16), [_bit(each) for each in values], 1) == 1)
            most = most | (results[-1] & inside)
        same = all(each is results[0] for each in results)
        registers.write(out, results[0] if same else None, most=most)
    return True


def _bit(value: Any) -> Any:
    return value.long() if isinstance(value, Tensor) else int(value)


def _logic(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """LOP3: a function of three registers, bit by bit; a predicate says whether it is not 0."""
    out, written, sources, read = _parts(operands)
    values = [registers.bits(each) for each in sources[:3]]
    tries = 1 if all(clear(fog) for _, fog in values) else 8
    results = [
        _lut(
            int(sources[3], 16),
            [v | fog if tried >> i & 1 else v for i, (v, fog) in enumerate(values)],
            WORD,
        )
        for tried in range(tries)
    ]
    fog: Any = 0
    for each in results[1:]:
        fog = fog | (each ^ results[0])
    if isinstance(fog, Tensor) and not fog.any():
        fog = 0
    registers.write(out, results[0] & ~fog, fog=fog)
    other = registers.predicate(read[0]) if read else False
    known = clear(fog) and other is not None
    for each in written:
        registers.write(each, (results[0] != 0) | other if known else None)
    return True


def _pack(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """P2R: predicates as bits of a register, the others of its bits from another."""
    out, bank, rest, chosen = operands
    mask = number(chosen)
    if kinds or mask is None:
        return False
    value, fog = registers.bits(rest)
    value, fog = value & ~mask, fog & ~mask
    for i in range(8):
        if mask >> i & 1:
            one = registers.predicate(f"{bank.removesuffix('R')}{i}")
            value = value | (0 if one is None else _bit(one) << i)
            fog = fog | (1 << i if one is None else 0)
    registers.write(out, value, fog=fog)
    return True


def _unpack(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """R2P: bits of a register as predicates."""
    bank, source, chosen = operands
    value, fog = registers.bits(source)
    mask = number(chosen)
    for i in range(7):
        if mask is None or mask >> i & 1:
            known = not kinds and mask is not None and type(fog) is int and not fog >> i & 1
            registers.write(f"{bank.removesuffix('R')}{i}", value >> i & 1 != 0 if known else None)
    return True


def _add(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """IADD3, VIADD: a sum; its carries go into predicates, and with X they come in."""
    out, written, sources, read = _parts(operands)
    values: list[Any] = [_addend(registers, each) for each in sources]
    if "X" in kinds:
        values += [registers.predicate(each) for each in read]
    if any(value is None for value in values) or "64" in kinds:
        return False
    total = sum(values)
    registers.write(out, total & WORD)
    for count, each in enumerate(written, 1):
        registers.write(each, total >= count << 32)
    return True


def _addend(registers: Registers, operand: str) -> Any:
    """A source of a sum. To subtract is to add the complement and 1: 0 carries then."""
    if not operand.startswith("-R") and not operand.startswith("-UR"):
        return registers.read(operand)
    value = registers.read(operand.replace("-", "~", 1))
    return None if value is None else value + 1


def _multiply(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """IMAD: a * b + c, WIDE and HI (its upper word) with 64 bits; moves and shifts, too."""
    out, written, sources, read = _parts(operands)
    if "MOV" in kinds:
        return _move(registers, [], (out, sources[2]))
    values: list[Any] = [registers.read(each) for each in sources]
    if any(type(value) is int and value == 0 for value in values[:2]):
        values[:2] = [0, 0]
    if any(value is None for value in values) or written:
        return False
    a, b, c = values
    if "WIDE" in kinds or "HI" in kinds:
        product = a * b if "U32" in kinds else signed(a) * signed(b)
        above = _after(sources[2])
        high = registers.read(above) if above else 0
        low = (product & WORD) + c
        upper = None if high is None else ((product >> 32) + high + (low >> 32)) & WORD
        if "HI" in kinds:
            registers.write(out, upper)
            return True
        registers.write(out, low & WORD)
        if target := _after(out):
            registers.write(target, upper)
        return True
    carry = registers.predicate(read[0]) if "X" in kinds and read else 0
    if carry is None:
        return False
    registers.write(out, (a * b + c + carry) & WORD)
    return True


def _load_address(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """LEA: (a << s) + b, with a carry; HI: the upper word of (c, a) << s, plus b."""
    out, written, sources, _ = _parts(operands)
    a, b, count = registers.read(sources[0]), registers.read(sources[1]), number(sources[-1])
    if a is None or b is None or count is None or "X" in kinds:
        return False
    shifted = a << count
    if "HI" in kinds:
        upper = registers.read(sources[2])
        if upper is None:
            return False
        shifted = (shifted >> 32) | (upper << count)
    total = (shifted & WORD) + b
    registers.write(out, total & WORD)
    for each in written:
        registers.write(each, total > WORD)
    return True


def _shift(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """SHF of two words, one of which is 0: the first to either side, with HI the third right."""
    out, first, amount, third = operands
    left, high = kinds[0] == "L", "HI" in kinds
    value, other = (third, first) if high else (first, third)
    x, count = registers.read(value), registers.read(amount)
    plain = other in ("RZ", "URZ") and not (left and high) and not {"U64", "S64"} & {*kinds}
    if x is None or count is None or not plain:
        return False
    if left:
        registers.write(out, (x << count) & WORD)
    else:
        registers.write(out, ((signed(x) if "S32" in kinds else x) >> count) & WORD)
    return True


def _extend(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """SGXT: the lowest bits as a number, signed or (U32) not."""
    out, source, width = operands
    x, bits = registers.read(source), number(width)
    if x is None or not bits:
        return False
    low: Any = x & ((1 << bits) - 1)
    sign = 0 if "U32" in kinds else 1 << (bits - 1)
    registers.write(out, ((low ^ sign) - sign) & WORD)
    return True


def _move(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """MOV, LDC, R2UR: a value, or two or four neighbours of the constant bank."""
    plain = [each for each in operands if not is_predicate(each)]
    out, source = plain[:2]
    width = max(WIDTHS.get(kind, 1) for kind in ("", *kinds))
    if {"U8", "S8", "U16", "S16"} & {*kinds}:
        return False
    if at := constant(source):
        registers.write(out, *(registers.constants.get(at[1] + 4 * i) for i in range(width)))
        return True
    if width > 1:
        return False
    value, fog = registers.bits(source)
    registers.write(out, value, fog=fog)
    return True


def _special(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """S2R, CS2R: a special register; SRZ is 0."""
    out, name = operands
    known = 0 if name == "SRZ" else registers.special.get(name)
    registers.write(out, *[known] * (1 if name != "SRZ" or "32" in kinds else 2))
    return True


def _halves(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """HFMA2 of nothing but two numbers: how the compiler often loads a constant."""
    if len(operands) != 5 or operands[1:3] != ("-RZ", "RZ"):
        return False
    try:
        low, high = (struct.pack("<e", float(each)) for each in (operands[4], operands[3]))
    except ValueError:
        return False
    registers.write(operands[0], int.from_bytes(low + high, "little"))
    return True


def _select(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """SEL: the first where the predicate holds, else the second."""
    out, yes, no, condition = operands
    chosen = choose(registers.predicate(condition), registers.read(yes), registers.read(no))
    registers.write(out, chosen)
    return True


def _extreme(registers: Registers, kinds: list[str], operands: Operands) -> bool:
    """VIMNMX: the smaller where the predicate holds, else the larger; VIADDMNMX of a sum first."""
    out, written, sources, read = _parts(operands)
    *summands, last = (registers.read(each) for each in sources)
    if any(each is None for each in (*summands, last)) or written:
        return False
    a: Any = sum(summands) & WORD  # type: ignore[arg-type, operator]
    b: Any = last
    less = a < b if "U32" in kinds else signed(a) < signed(b)
    smaller, larger = choose(less, a, b), choose(less, b, a)
    registers.write(out, choose(registers.predicate(read[-1]), smaller, larger))
    return True


MODELS: dict[str, Model] = {
    "ISETP": _compare,
    "PLOP3": _logic_of_predicates,
    "LOP3": _logic,
    "P2R": _pack,
    "UP2UR": _pack,
    "R2P": _unpack,
    "R2UP": _unpack,
    "IADD3": _add,
    "VIADD": _add,
    "IMAD": _multiply,
    "LEA": _load_address,
    "SHF": _shift,
    "SGXT": _extend,
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
    "VIADDMNMX": _extreme,
}
