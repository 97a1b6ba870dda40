"""Parquet: what unpacks to much more than a file has is refused by its pages, before it unpacks."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from antcache.errors import BadPredictions
from antcache.interop.arrays import parquet_pages
from antcache.interop.arrays.parquet_pages import BATCH_ROWS, check_parquet
from antcache.interop.predictions.files import open_predictions


def check(path: Path, columns: tuple[str, ...] = ("uid", "logits")) -> int:
    return check_parquet(path, pa.parquet.ParquetFile(path).metadata, columns)


def written(path: Path, rows: int = 3000, **options: Any) -> Path:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "uid": [f"uid {i}" for i in range(rows)],
            "logits": list(rng.normal(size=(rows, 20))),
            "valid": [True] * rows,
        }
    )
    pa.parquet.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    ("version", "pages", "compression"),
    list(product(("1.0", "2.6"), ("1.0", "2.0"), ("none", "snappy", "zstd", "gzip"))),
)
def test_what_pyarrow_writes_is_read(
    tmp_path: Path, version: str, pages: str, compression: str
) -> None:
    path = written(
        tmp_path / "p",
        version=version,
        data_page_version=pages,
        compression=compression,
        row_group_size=700,
        write_page_index=True,
        data_page_size=5000,
        store_decimal_as_integer=True,
    )
    assert 500 < check(path) <= BATCH_ROWS
    assert check(path, ("valid",)) == BATCH_ROWS
    assert len(list(open_predictions(path).predictions)) == 3000


def test_every_page_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many values as the summary says of honest files, whatever pages they lie on."""
    seen: list[int] = []
    monkeypatch.setattr(parquet_pages, "check_unpacked", lambda size, total: seen.append(total))
    path = written(tmp_path / "p", data_page_size=2000, row_group_size=1000, use_dictionary=False)
    metadata = pa.parquet.ParquetFile(path).metadata
    stated = unpacked = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            stated += chunk.num_values
            unpacked += chunk.total_uncompressed_size
    check(path, ("uid", "logits", "valid"))
    assert len(seen) > 20  # pages
    assert unpacked * 0.9 < seen[-1] < unpacked * 1.5 + 4 * stated


def constant(path: Path, count: int) -> Path:
    """One row of `count` values that are all 0, in 1 kB."""
    flat = pa.array(np.zeros(count, np.float32))
    rows = pa.LargeListArray.from_arrays(pa.array([0, count], pa.int64()), flat)
    table = pa.table({"uid": ["a"], "logits": rows})
    pa.parquet.write_table(table, path, compression="zstd", data_page_size=1 << 40)
    return path


def varint(value: int, length: int = 1) -> bytes:
    out = b""
    while value > 127 or len(out) < length - 1:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def test_constant_values_and_a_lying_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow makes room for what the page says, whatever the summary says."""
    monkeypatch.setattr("antcache.untrusted.UNPACKED_ALWAYS", 1 << 20)
    count = 1 << 21
    path = constant(tmp_path / "p", count)
    assert path.stat().st_size < 2000
    with pytest.raises(ValueError, match="bytes that unpack to 83886"):
        check(path)
    data = path.read_bytes()
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    honest, lying = varint(2 * count), varint(2000, len(varint(2 * count)))
    path.write_bytes(data[:begin] + data[begin:].replace(honest, lying))
    file = pa.parquet.ParquetFile(path)
    assert file.metadata.row_group(0).column(1).num_values == 1000
    assert len(next(file.iter_batches()).column("logits").flatten()) == count  # a case is a case
    with pytest.raises(ValueError, match="bytes that unpack to 83886"):
        check(path)
    with pytest.raises(BadPredictions, match=r"can't be read as parquet.*unpack to 83886"):
        list(open_predictions(path).predictions)


def test_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "ROWS_ALWAYS", 1000)
    uid = pa.array(["a"] * 50_000)
    pa.parquet.write_table(pa.table({"uid": uid, "logits": [[0.0]] * 50_000}), tmp_path / "p")
    with pytest.raises(ValueError, match=r"50000 rows in \d+ bytes, more than"):
        check(tmp_path / "p")


def test_as_many_rows_as_the_bytes_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "p", rows=1000)
    rest = 1000 - int(path.stat().st_size * parquet_pages.ROWS_PER_BYTE)
    monkeypatch.setattr(parquet_pages, "ROWS_ALWAYS", rest)
    assert check(path) >= 1
    monkeypatch.setattr(parquet_pages, "ROWS_ALWAYS", rest - 1)
    with pytest.raises(ValueError, match=r"1000 rows in \d+ bytes, more than 999"):
        check(path)


@pytest.mark.parametrize("count", [0, 3, 14, 15, 300])
def test_lists_in_headers_are_passed_over(count: int) -> None:
    """No header has one yet; one of a later version of the form may."""
    size = bytes((count << 4 | 5,)) if count < 15 else b"\xf5" + varint(count)
    numbers = b"".join(varint(2 * n) for n in range(count))
    header = b"\x15\x0e" + b"\x19" + size + numbers + b"\x15\x08" + b"\x00"
    found, end = parquet_pages._structure(header + b"\x15\x0e\x00", 0, 0)
    assert found == {1: 7, 2: None, 3: 4}
    assert end == len(header)


def value(kind: int, number: int) -> bytes:
    """A value of a kind, in a list, as the compact protocol has it."""
    if kind in (1, 2):
        return b"\x01" if number % 2 else b"\x02"
    if kind == 3:
        return bytes((number % 256,))
    if kind in (4, 5, 6):
        return varint(2 * number)
    if kind == 7:
        return bytes(8)
    if kind == 8:
        return varint(number) + b"x" * number
    if kind in (9, 10):
        return b"\x31\x01\x02\x01"  # three truths
    return b"\x11" + b"\x15" + varint(2 * number) + b"\x00"  # a truth as a field takes no byte


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12])
@pytest.mark.parametrize("count", [0, 3, 14, 15, 40])
@pytest.mark.parametrize("form", [9, 10], ids=["list", "set"])
def test_lists_of_any_kind_are_passed_over(form: int, count: int, kind: int) -> None:
    """A truth takes a byte there, but none as a field; neither is a page's size."""
    size = bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + varint(count)
    values = b"".join(value(kind, n) for n in range(count))
    header = b"\x15\x0e" + bytes((0x10 | form,)) + size + values + b"\x15\x08\x11\x12\x00"
    found, end = parquet_pages._structure(header + b"\x15\x0e\x00", 0, 0)
    assert found == {1: 7, 2: None, 3: 4, 4: True, 5: False}
    assert end == len(header)


def test_what_pyarrow_writes_behind_the_pages_is_passed_over(tmp_path: Path) -> None:
    """An index of each column, whose first field is a list of truths, and one of its pages."""
    path = written(tmp_path / "p", write_page_index=True, data_page_size=2000)
    metadata = pa.parquet.ParquetFile(path).metadata
    assert metadata.num_row_groups == 1
    columns = [metadata.row_group(0).column(n) for n in range(metadata.num_columns)]
    assert all(each.has_column_index and each.has_offset_index for each in columns)
    data = path.read_bytes()
    at = sum(each.total_compressed_size for each in columns) + len(b"PAR1")
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    found = []
    while at < end:
        fields, at = parquet_pages._structure(data[:end], at, 0)
        found.append(sorted(fields))
    assert at == end
    assert [{1, 2, 3, 4} <= {*fields} for fields in found] == [True] * len(columns) + [False] * (
        len(columns)
    )


def test_long_texts_are_read_some_at_a_time(tmp_path: Path) -> None:
    """Rows of one text of 8 MB: as many as 64 MB hold, and not 1,024."""
    text = pa.array(["x" * (8 << 20)] * 20)
    pa.parquet.write_table(pa.table({"uid": text}), tmp_path / "p", compression="zstd")
    assert 1 <= check(tmp_path / "p", ("uid",)) <= 8


MANY = [b"\x19" * 5000]  # lists in lists
MANY += [bytes((0x19, 0xF0 | kind)) + varint(1 << 62) + bytes(30) for kind in (1, 3, 7, 9)]


def test_headers_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path / "p", rows=50, use_dictionary=False)
    begin = pa.parquet.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    data = path.read_bytes()
    for junk in (
        b"\xff" * 40,
        b"\x15" + b"\x80" * 39,
        b"\x1c" * 40,
        b"\x19\xfc" + b"\xff" * 38,
        *MANY,
    ):
        path.write_bytes(data[:begin] + junk + data[begin + len(junk) :])
        with pytest.raises(ValueError, match="a page without a header"):
            check(path)
        with pytest.raises(BadPredictions, match="can't be read as parquet"):
            list(open_predictions(path).predictions)
