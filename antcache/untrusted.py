"""Files from anybody, read with limits: text, JSON and YAML; and those that are not there yet.

Promise: whatever is in a file, these functions return plain values of bounded size or raise a
`ValueError` of one line, which callers turn into their own error with the file's name. They wait
for nothing (a pipe is no file), and need no more memory or depth than the limits say. These are far
above what such files hold, and each says its reason.
"""

from __future__ import annotations

import codecs
import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

TEXT_BYTES = 256 << 20
"""Of a table: 30 times EPIC-KITCHENS-100's training labels. Its cells take 10 times that."""
JSON_BYTES = 16 << 20
"""Of a JSON document: its values take up to 20 times that."""
BLOCK_BYTES = 1 << 20
"""Read at a time from a long list."""
YAML_BYTES = 256 << 10
"""Of a plan: PyYAML reads 100 kB in a second."""
YAML_VALUES = 100_000
"""In a plan, what is named once and used again (`*name`) counted each time."""
BLANKS = frozenset(" \t\n\r")
DEPTH = 64
"""Of values in values: no file of ours has 10 levels, and Python's own limit is met by code that
walks them."""
DIGITS = 19
"""Of a whole number: what 64 bits hold. Python takes seconds for those of a million digits."""
NAME = 255
"""Characters of a name (uid, video, class): that of a file has no more, and a column of names takes
as much for each as for its longest."""
UNPACKED_PER_BYTE, UNPACKED_ALWAYS = 16, 256 << 20
"""What packed data may unpack to: 16 times their size, and 256 MiB in any case. Numbers pack into
half; only a constant packs into a thousandth."""

POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that a clone without Git LFS leaves in place of a file."""
POINTER_BYTES = 1024
"""A pointer is shorter, says its specification."""


class NotFetched(ValueError):
    """A Git LFS pointer stands where a file should, one of a folder's where it has a `name`."""

    def __init__(self, name: str = "") -> None:
        text = "a Git LFS pointer in place of the file, which git lfs pull fetches"
        super().__init__(f"{name} is {text}" if name else text)


def check_fetched(path: Path) -> None:
    """Check that a file is the file itself; whoever reads one that is no text asks here first.

    Raises:
        OSError: it can't be read.
        NotFetched: it is a Git LFS pointer.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # the reader will say so
        return
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise NotFetched


def read_text(path: Path, *, at_most: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        OSError: there is no file, or it can't be read.
        ValueError: it is no regular file, larger than `at_most` bytes, not UTF-8, or a Git LFS
            pointer.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would be waited for
        raise ValueError("a folder" if path.is_dir() else "no regular file")
    with path.open("rb") as file:
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise ValueError(f"more than {at_most} bytes")
    if data.startswith(POINTER):
        raise NotFetched
    return data.decode("utf-8-sig")


def read_json(path: Path, *, at_most: int = JSON_BYTES) -> Any:
    """The value in a JSON file; errors as `read_text` and `parse_json`."""
    return parse_json(read_text(path, at_most=at_most))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, nested too deeply, or has a whole number of more than 64 bits.
    """
    try:
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check(value, len(text))
    return value


def stream_json(file: BinaryIO, *, at_most: int = JSON_BYTES) -> Iterator[Any]:
    """The values of the JSON list in a file, one after the other, each as `parse_json` has them.

    What is held at a time is one value, and the text of it and of what was read with it.

    Raises:
        ValueError: it is no list, or a value is none or longer than `at_most` characters.
    """
    decoder = json.JSONDecoder(parse_int=_integer)
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    text, at, ended = "", 0, False

    def read_on() -> None:
        nonlocal text, at, ended
        data = file.read(max(BLOCK_BYTES, len(text) - at))
        text, at, ended = text[at:] + utf8.decode(data, final=not data), 0, not data

    def mark() -> str:
        """The next character that is no blank; empty at the end."""
        nonlocal at
        while True:
            while text[at : at + 1] in BLANKS:
                at += 1
            if at < len(text) or ended:
                return text[at : at + 1]
            read_on()

    def take(wanted: str) -> str:
        nonlocal at
        found = mark()
        if not found or found not in wanted:
            raise ValueError(f"{found!r} where one of {wanted} is due" if found else "cut off")
        at += 1
        return found

    take("[")
    empty = mark() == "]"
    while not empty:
        mark()
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except json.JSONDecodeError:
            if ended or len(text) - at > at_most:
                raise
            read_on()
            continue
        if len(text) - end < len("e-1") and not ended:  # a number may go on
            read_on()
            continue
        _check(value, end - at)
        at = end
        yield value
        if take(",]") == "]":
            break
    if empty:
        take("]")
    if mark():
        raise ValueError("more behind the end of the list")


def parse_yaml(text: str) -> Any:
    """The value of a YAML text of plain values.

    Raises:
        ValueError: it is none, nested too deeply, too large once its references are followed, or
            has a whole number of more than 64 bits.
        ImportError: pyyaml is not installed.
    """
    import yaml  # type: ignore[import-untyped]

    if len(text) > YAML_BYTES:
        raise ValueError(f"{len(text)} characters, more than {YAML_BYTES}")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        # Before values are made of them: merging (`<<`) copies what references lead to.
        _check(node, YAML_VALUES)
        _check_keys(node)
        value = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError) as error:
        # PyYAML does not expect other text than its own tags stand for (`!!float ""`).
        raise ValueError(f"a tag on what is none ({error})") from None
    _check(value, YAML_VALUES)
    return value


def _check_keys(node: Any) -> None:
    """Refuse a YAML document in which a key stands twice in one place: the last would win."""
    seen, waiting = set[int](), [node]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or not isinstance(getattr(one, "value", None), list):
            continue
        seen.add(id(one))
        pairs = (each for each in one.value if isinstance(each, tuple))
        keys = Counter(key.value for key, _ in pairs if isinstance(key.value, str))
        if keys and keys.most_common(1)[0][1] > 1:
            raise ValueError(f"the key {keys.most_common(1)[0][0]!r} stands twice")
        for each in one.value:
            waiting += each if isinstance(each, tuple) else (each,)


def names_array(names: Any) -> NDArray[np.str_]:
    """Names (N,) from a list of values.

    Raises:
        ValueError: it is no list of texts, or one is too long.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("not a list of names")
    if any(len(name) > NAME for name in names):
        raise ValueError(f"a name of more than {NAME} characters")
    return np.asarray(names, dtype=np.str_)


def check_unpacked(packed: int, unpacked: int) -> None:
    """Check that data of `packed` bytes unpack to a plausible size.

    Raises:
        ValueError: they don't.
    """
    limit = UNPACKED_PER_BYTE * packed + UNPACKED_ALWAYS
    if unpacked > limit:
        raise ValueError(f"{packed} bytes that unpack to {unpacked}, more than {limit}")


def _integer(digits: str) -> int:
    count = len(digits.removeprefix("-"))
    if count > DIGITS:
        raise ValueError(f"a whole number of {count} digits")
    return int(digits)


def _check(value: Any, at_most: int) -> None:
    """Check depth, number of values, size of whole numbers, and texts; no recursion, no memory.

    Of nodes of YAML, which hold their values under that name, too.
    """
    levels: list[Iterator[Any]] = [iter((value,))]
    count = 0
    while levels:
        try:
            found = next(levels[-1])
        except StopIteration:
            levels.pop()
            continue
        count += 1
        if count > at_most:
            raise ValueError(f"more than {at_most} values")
        if isinstance(found, int) and not -(1 << 63) <= found < 1 << 63:
            raise ValueError("a whole number of more than 64 bits")
        if isinstance(found, str) and not found.isascii():
            found.encode()  # raises where it is no text but half of a character
        inside = getattr(found, "value", found)
        if isinstance(inside, dict):
            levels.append(iter((*inside, *inside.values())))
        elif isinstance(inside, list | tuple | set):
            levels.append(iter(inside))
        if len(levels) > DEPTH:
            raise ValueError("nested too deeply")
