"""Files from anybody: limits hold before memory is taken, and each says what is wrong."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from antcache import untrusted
from antcache.errors import LONGEST, BadConfig, quoted
from antcache.untrusted import (
    check_unpacked,
    names_array,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    stream_json,
)

NINES = "9" * 5000
DEEP = 100_000


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(path) == "abc"
    assert read_text(path, at_most=6) == "abc"
    with pytest.raises(ValueError, match="more than 5 bytes"):
        read_text(path, at_most=5)
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nope")
    with pytest.raises(ValueError, match="a folder"):
        read_text(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_text(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_text(Path("/dev/zero"))
    with pytest.raises(ValueError, match="more than 9 bytes"):  # one that states no size
        read_text(Path("/proc/self/status"), at_most=9)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"a": [1, 2.5, "é", True, None]}, 2**63 - 1, -(2**63), [[[[1]]]] * 50]
)
def test_json_as_it_is(tmp_path: Path, value: object) -> None:
    text = json.dumps(value)
    assert parse_json(text) == value
    (tmp_path / "j").write_text(text)
    assert read_json(tmp_path / "j") == value
    assert list(stream_json(io.BytesIO(f"[{text},{text}]".encode()))) == [value, value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * DEEP, "nested too deeply"),
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ('{"a":' * DEEP, "nested too deeply"),
        (NINES, "a whole number of 5000 digits"),
        (f"[-{NINES[:20]}]", "a whole number of 20 digits"),
        (str(2**63), "more than 64 bits"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1, 2", "Expecting"),
        ('"\\ud800"', "surrogates not allowed"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_json(text)
    assert "\n" not in str(error.value)
    assert type(error.value) is not RecursionError


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_json_is_streamed(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """However the file is cut into pieces, within characters and numbers too."""
    monkeypatch.setattr(untrusted, "BLOCK_BYTES", block)
    rng = random.Random(0)
    for indent in (None, 1):
        values = [
            rng.choice([1234567, -1.5e-7, "é切\n", {"a": [1, {"b": None}]}, [], True, None])
            for _ in range(200)
        ]
        data = b"\xef\xbb\xbf  " + json.dumps(values, indent=indent, ensure_ascii=False).encode()
        assert list(stream_json(io.BytesIO(data + b"\n "))) == values
    assert list(stream_json(io.BytesIO(b"[ ]"))) == []


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize(
    ("data", "whole", "message"),
    [
        (b"", 0, "cut off"),
        (b"{}", 0, "due"),
        (b"[1, 2", 2, "cut off"),
        (b"[1, 2 3]", 2, "'3' where one of ,] is due"),
        (b"[1, ]", 1, "Expecting value"),
        (b"[1] 2", 1, "more behind the end"),
        (b"[1]]", 1, "more behind the end"),
        (b'[1, "\xff"]', 1, "can't decode"),
        (b"[1, " + b"[" * 5000, 1, "nested too deeply"),
        (b"[1, " + NINES.encode() + b"]", 1, r"a whole number of \d+ digits"),
        (b'[1, "' + b"a" * 5000, 1, "Unterminated string"),
    ],
)
def test_a_stream_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, block: int, data: bytes, whole: int, message: str
) -> None:
    """What comes before the fault is there; block by block where that is the hard way."""
    monkeypatch.setattr(untrusted, "BLOCK_BYTES", block)
    values = stream_json(io.BytesIO(data))
    found = []
    with pytest.raises(ValueError, match=message):
        found.extend(values)
    if block > 1:
        assert len(found) <= whole


def test_a_value_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text without an end is not read to the end of the file."""
    monkeypatch.setattr(untrusted, "BLOCK_BYTES", 100)
    file = io.BytesIO(b'["' + b"a" * 1_000_000)
    with pytest.raises(ValueError, match="Unterminated string"):
        next(stream_json(file, at_most=5000))
    assert file.tell() < 20_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1.0e-3\nb: [x, 2]", {"a": 1e-3, "b": ["x", 2]}),
        ("base: &b {q: 1}\nc: {<<: *b, r: 2}", {"base": {"q": 1}, "c": {"q": 1, "r": 2}}),
    ],
)
def test_yaml_as_it_is(text: str, value: object) -> None:
    assert parse_yaml(text) == value


def laughs(merged: bool) -> str:
    lines = ["a: &a {x: 1}" if merged else "a: &a [1, 2]"]
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        ten = ", ".join([f"*{before}"] * 10)
        lines.append(f"{name}: &{name} {{<<: [{ten}]}}" if merged else f"{name}: &{name} [{ten}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "nested too deeply"),
        ("- " * 3000, "nested too deeply"),
        ("&a [*a]", "nested too deeply"),
        ("<<: &a\n  <<: &b {b: *a}", "nested too deeply"),
        (f"a: {NINES}", "4300 digits"),
        (f"a: 0x{'f' * 5000}", "more than 64 bits"),
        (f"a: {'9' * 20}", "more than 64 bits"),
        (laughs(merged=False), "more than 100000 values"),
        (laughs(merged=True), "more than 100000 values"),
        ("a: !!python/object/apply:os.system ['x']", "could not determine a constructor"),
        ("a: !!float ''", "a tag on what is none"),
        ("a: !!timestamp x", "a tag on what is none"),
        ("a: 2023-99-99", "month must be in 1"),
        ("a: {b: 1, c: 2, b: 3}", "the key 'b' stands twice"),
        ("a: 1\na: 1", "the key 'a' stands twice"),
        ("a: [1", "expected ',' or ']'"),
        ("a: \0", "special characters are not allowed"),
        ('a: "\\ud800"', "surrogates not allowed"),
        ("#" * (untrusted.YAML_BYTES + 1), "more than 262144"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)


def test_names() -> None:
    names = names_array(["a", "é" * 255, ""])
    assert names.dtype.kind == "U"
    assert names.tolist() == ["a", "é" * 255, ""]
    with pytest.raises(ValueError, match="more than 255"):
        names_array(["a", "u" * 256])
    for wrong in ("ab", [1], [["a"]], {"a": 1}, None):
        with pytest.raises(ValueError, match="not a list of names"):
            names_array(wrong)


def test_what_unpacks() -> None:
    check_unpacked(1 << 20, 1 << 28)
    check_unpacked(1 << 30, 1 << 34)
    with pytest.raises(ValueError, match="1048576 bytes that unpack to 1073741824, more than"):
        check_unpacked(1 << 20, 1 << 30)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        10**5000,
        list(range(10**5)),
        dict.fromkeys(range(1000), "y" * 1000),
        [[[[[[1] * 100] * 100] * 100] * 100] * 100] * 100,
    ],
    ids=["text", "number", "list", "dictionary", "tower"],
)
def test_messages_have_an_end(value: object) -> None:
    """Whatever a file holds, what a message quotes of it is one line of bounded length."""
    assert len(quoted(value)) <= LONGEST
    error = BadConfig("wrong", where="w" * 10**6, expected=value, found=value)
    assert len(str(error)) < 10_000
    assert "\n" not in str(BadConfig("wrong", found="a\n  b\n\nc"))
    assert str(BadConfig("wrong", found="a\n  b\n\nc")).endswith("found a b c")


def test_whole_values_are_quoted_as_they_are() -> None:
    assert quoted([1, "a"]) == "[1, 'a']"
    assert quoted({"a": 1}) == "{'a': 1}"
    assert quoted(np.float32(0.5)) == "0.5"
    assert quoted("a  b") == "a  b"
