"""Reads the pickles of others without running anything of them: arrays and plain values, only.

Promise: no opcode of a pickle is carried out by Python's own unpickler, which may call whatever a
file names. A small machine of our own reads them. It is told a few names, and our own answer to
each (`pickled_arrays`); it imports nothing that a file names, calls no method of what a file holds,
and refuses everything else: other names, instances, persistent ids, the extension registry, buffers
outside the file. A refused file is refused as a whole, and what it asked for is named.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from typing import IO, Any, cast

MAX_PROTOCOL = 5
DEEPEST = 10_000
"""Marks that are open at a time, each of which takes 50 times its byte. Python's own pickler, which
calls itself for a value in a value, ends at a tenth of that."""
REPORT_EVERY = 1 << 15
"""Opcodes between two reports of progress."""

MORE = "the pickle holds more than arrays and plain values"

PLAIN = (str, bytes, int, float, bool, type(None))
"""Types of keys of dictionaries and members of sets: their hash runs no code and walks nothing."""

REFUSED = {
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"), "an instance of a class"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "the extension registry"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "a persistent id"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "a buffer outside the file"),
}
"""Opcodes that are never carried out, and what they would bring in."""


class Refusal(Exception):
    """Why a pickle is refused, before the file's name is known.

    Args:
        problem: what is wrong with it.
        found: what it asked for.
    """

    def __init__(self, problem: str, found: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.found = found


PickleFile = BytesIO | mmap
"""What opcodes are read from: these never allocate ahead."""


class Budget:
    """Bytes that a file may make out of its own: a short file can't fill the memory."""

    def __init__(self, file_bytes: int) -> None:
        self.left = 4 * file_bytes + (1 << 20)

    def spend(self, num_bytes: int) -> None:
        """Take `num_bytes` from what is left.

        Raises:
            Refusal: there is less.
        """
        self.left -= num_bytes
        if self.left < 0:
            raise Refusal("the pickle asks for much more memory than its own size")


@dataclass(frozen=True)
class Name:
    """An admitted name, `module name`; the machine holds it in place of what Python has there."""

    text: str


class Pending:
    """What `REDUCE` has begun and `BUILD` will complete: the machine puts the result in its place.

    Attributes:
        build: makes the value from the state.
        keys: where the memo holds it.
    """

    __slots__ = ("build", "keys")

    def __init__(self, build: Callable[[Any], object]) -> None:
        self.build = build
        self.keys: list[int] = []


STATE_OF_WEIGHTS = {"_metadata"}
"""What the dictionary of a model's weights has beside them, versions of its layers: left out."""

Call = Callable[..., object]
"""Our answer to a name: `call(machine, *arguments)`."""


def short(value: object) -> str:
    """Text of a file for an error message: no control characters, and not too long."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


class Machine:
    """Carries out the opcodes of one pickle.

    Args:
        calls: names that may be called, and our answer to each.
        marks: names that may be named only.
        budget: shared by all pickles of a file.
        persistent: turns a persistent id into a value; None refuses them.
        report: called now and then with the position in bytes.
    """

    def __init__(
        self,
        calls: Mapping[str, Call],
        marks: Iterable[str],
        budget: Budget,
        persistent: Callable[[object], object] | None = None,
        report: Callable[[int], None] | None = None,
    ) -> None:
        self.calls = calls
        self.names = {*calls, *marks}
        self.budget = budget
        self._persistent = persistent
        self._report = report

    def run(self, stream: PickleFile) -> object:
        """The value of the pickle that begins here; the stream is left behind its end.

        Raises:
            Refusal: it holds what is not admitted, or is no whole pickle.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        try:
            opcodes = pickletools.genops(cast(IO[bytes], stream))
            for number, (opcode, argument, _) in enumerate(opcodes):
                self._step(opcode.name, argument)
                if self._report is not None and not number % REPORT_EVERY:
                    self._report(stream.tell())
            value = self._stack.pop()
        except NONSENSE as error:
            found = f"{short(str(error))} before byte {stream.tell()}"
            raise Refusal("not a whole pickle", found) from error
        if self._stack or self._below:
            raise Refusal("not a whole pickle", "values left over")
        return value

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name in ("PERSID", "BINPERSID") and self._persistent is not None:
            key = self._stack.pop() if name == "BINPERSID" else argument
            self._stack.append(self._persistent(key))
        elif name in REFUSED:
            raise Refusal(MORE, REFUSED[name])
        else:
            raise ValueError(f"unknown opcode {name}")

    # Stack and memo

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self, _: None = None) -> Any:
        return self._stack.pop() if self._stack else self._pop_mark()  # a mark counts as a value

    def _pop_mark(self, _: None = None) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: None) -> None:
        if len(self._below) == DEEPEST:
            raise Refusal("the pickle is nested too deeply")
        self._below.append(self._stack)
        self._stack = []

    def _get(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def _put(self, key: int | None) -> None:
        place = len(self._memo) if key is None else key
        self._memo[place] = value = self._stack[-1]
        if type(value) is Pending:
            value.keys.append(place)

    # Containers

    def _last(self, count: int) -> list[Any]:
        """The last few values, taken from the stack."""
        if len(self._stack) < count:
            raise ValueError("too few values")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _fill(self, kind: type, items: list[Any]) -> None:
        """Put items into the list, dictionary or set that is the last value now."""
        value, found = self._stack[-1], type(self._stack[-1])
        if found is not kind:
            raise ValueError(f"not a {kind.__name__}")
        if kind is list:
            value.extend(items)
        else:
            value.update(_pairs(items) if kind is dict else map(plain, items))

    # Names and what is made by them

    def _name(self, text: str) -> None:
        if text not in self.names:
            found = short(text.replace(" ", "."))[1:-1]
            raise Refusal(MORE, found)
        self._stack.append(Name(text))

    def _stack_name(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("a name that is no text")
        self._name(f"{module} {name}")

    def _reduce(self, _: None) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        if type(name) is not Name or name.text not in self.calls or type(arguments) is not tuple:
            raise Refusal(MORE, "a call of a value")
        self._stack.append(self.calls[name.text](self, *arguments))

    def _build(self, _: None) -> None:
        state, pending = self._stack.pop(), self._stack.pop()
        if type(pending) is dict and type(state) is dict and state.keys() == STATE_OF_WEIGHTS:
            self._stack.append(pending)
            return
        if type(pending) is not Pending:
            raise Refusal(MORE, "the state of an instance")
        value = pending.build(state)
        for key in pending.keys:
            if self._memo.get(key) is pending:
                self._memo[key] = value
        self._stack.append(value)

    def _protocol(self, number: int) -> None:
        if number > MAX_PROTOCOL:
            raise ValueError(f"pickle protocol {number}, at most {MAX_PROTOCOL} is known")


NONSENSE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
)
"""What opcodes that make no sense raise, here and in numpy."""

_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "NONE"),
}
"""Opcodes whose argument is the value; NONE has None for its argument."""

_STEPS: dict[str, Callable[[Machine, Any], object]] = {
    "PROTO": Machine._protocol,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "EMPTY_SET": lambda machine, _: machine._push(set()),
    "LIST": lambda machine, _: machine._push(machine._pop_mark()),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._pop_mark())),
    "DICT": lambda machine, _: machine._push(dict(_pairs(machine._pop_mark()))),
    "FROZENSET": lambda machine, _: machine._push(frozenset(map(plain, machine._pop_mark()))),
    "TUPLE1": lambda machine, _: machine._push(tuple(machine._last(1))),
    "TUPLE2": lambda machine, _: machine._push(tuple(machine._last(2))),
    "TUPLE3": lambda machine, _: machine._push(tuple(machine._last(3))),
    "APPEND": lambda machine, _: machine._fill(list, machine._last(1)),
    "APPENDS": lambda machine, _: machine._fill(list, machine._pop_mark()),
    "SETITEM": lambda machine, _: machine._fill(dict, machine._last(2)),
    "SETITEMS": lambda machine, _: machine._fill(dict, machine._pop_mark()),
    "ADDITEMS": lambda machine, _: machine._fill(set, machine._pop_mark()),
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_mark,
    "DUP": lambda machine, _: machine._push(machine._stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine._put),
    "GLOBAL": Machine._name,
    "STACK_GLOBAL": Machine._stack_name,
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
}


def plain(key: Any) -> Any:
    """`key`, if it may be a key or the member of a set.

    Raises:
        Refusal: it may not.
    """
    if type(key) not in PLAIN:
        raise Refusal("a key that is no plain value", type(key).__name__)
    return key


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return [(plain(k), v) for k, v in zip(items[::2], items[1::2], strict=True)]
