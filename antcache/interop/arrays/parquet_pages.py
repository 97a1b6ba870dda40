"""How much a parquet file unpacks to, by the headers of its pages, before anything is unpacked.

Promise: a file of 1 kB can state 2 billion values in a page and 1,000 in the summary at its end,
and pyarrow makes room for the former; so the pages themselves are asked, and a file is refused
where they are more than is plausible for its size. A header that can't be read is a `ValueError`.
Form: apache/parquet-format, `parquet.thrift`, in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from antcache.untrusted import check_unpacked

VALUE_BYTES = 4
"""What a value counts as, at least: those that are all alike take no bytes in a file."""
ROWS_PER_BYTE, ROWS_ALWAYS = 1 / 8, 1 << 16
"""Rows that a file may have: each has a uid and logits, and takes some time."""
BATCH_ROWS, BATCH_BYTES = 1024, 64 << 20
"""Rows that are read together at most: each may be as large as a whole page."""
HEADER_BYTES = 64 << 10
"""Of a page's header, which holds the least and the largest value of its column; the rest is small.
"""
OLD_PADDING = 100
"""Bytes behind a column that pyarrow looks at as well, for files whose writers counted wrongly."""
DEPTH = 8
"""Of structures and lists in a header; there are three."""


def check_parquet(path: Path, metadata: Any, columns: Sequence[str]) -> int:
    """Check what the columns of a file unpack to, and how many of its rows may be read together.

    Args:
        path: the file.
        metadata: its summary, pyarrow's `FileMetaData`.
        columns: names of the columns that are wanted.

    Raises:
        ValueError: more rows or values than are plausible, or a header that is none.
    """
    size = path.stat().st_size
    rows = int(size * ROWS_PER_BYTE) + ROWS_ALWAYS
    if metadata.num_rows > rows:
        raise ValueError(f"{metadata.num_rows} rows in {size} bytes, more than {rows}")
    total, largest = 0, 1
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            chunks = metadata.row_group(group)
            for number in range(chunks.num_columns):
                chunk = chunks.column(number)
                if chunk.path_in_schema.split(".")[0] not in columns:
                    continue
                for unpacked, values in _pages(file, chunk, size):
                    largest = max(largest, unpacked)
                    total += max(unpacked, VALUE_BYTES * values)
                    check_unpacked(size, total)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // largest))


def _pages(file: BinaryIO, chunk: Any, size: int) -> Iterator[tuple[int, int]]:
    """Bytes that each page of a column chunk unpacks to, and values that it states."""
    begin = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        begin = min(begin, chunk.dictionary_page_offset)
    end = begin + chunk.total_compressed_size
    if not 0 <= begin <= end <= size:
        raise ValueError("a column outside the file")
    while begin < end + OLD_PADDING:
        file.seek(begin)
        data = file.read(HEADER_BYTES)
        try:
            header, length = _structure(data, 0, 0)
            unpacked, packed = header[2], header[3]
            kinds = [header[n] for n in (5, 7, 8) if n in header]
            values = max((kind[1] for kind in kinds), default=0)
            if min(unpacked, packed, values) < 0:
                raise ValueError("a negative size")
        except (LookupError, TypeError, ValueError):
            if begin >= end:  # what follows the column is no page
                return
            raise ValueError("a page without a header") from None
        yield unpacked, values
        begin += length + packed


def _structure(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Fields of a structure by number, and where it ends; texts are left out."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head, at = data[at], at + 1
        if head == 0:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _signed(data, at)
        fields[number], at = _value(data, at, head & 15, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A field's value and where it ends; the kind of a truth says which one it is."""
    if depth > DEPTH:
        raise ValueError("nested too deeply")
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _signed(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind in (9, 10):
        head, at = data[at], at + 1
        count = head >> 4
        if count == 15:
            count, at = _varint(data, at)
        if count > len(data) - at:  # each value takes a byte, or more
            raise ValueError("a list that is longer than the header")
        if head & 15 in (1, 2):  # of truths, which take one here: their kind is that of all
            return None, at + count
        for _ in range(count):
            _, at = _value(data, at, head & 15, depth + 1)
        return None, at
    if kind == 12:
        return _structure(data, at, depth + 1)
    raise ValueError("a field of an unknown kind")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without an end")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
