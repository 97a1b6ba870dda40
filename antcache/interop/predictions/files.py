"""Files with predictions: pickles, files of torch, `.npz`, parquet and AVT's HDF5.

Promise: what a file is, is told by its first bytes; its name does not matter. Whatever it is, it is
read without running anything of it. Nothing is made up: a file that lacks uids or logits, or has
other things in their place, is refused, and the entry is named.

    list of dictionaries   uid, logit_action or logits, and LM_feat or feature if wanted
    dictionary             uid -> logits; or the columns uid and logits, as in .npz
    .npz                   uid (N,), logits or logit_action (N, C), and valid, feature or LM_feat
    parquet                uid, and logits as lists or as one column per class id; valid, feature
    HDF5                   AVT's results/0.h5: uid (N,), logits/action (N, C)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AntcacheError, BadPredictions, NotFound, needs
from antcache.interop.arrays.npz import is_npz, read_npz
from antcache.interop.arrays.parquet_pages import check_parquet
from antcache.interop.arrays.pickled_tensors import read_pickle
from antcache.interop.arrays.restricted_pickle import short
from antcache.interop.avt.results import read_results
from antcache.progress import Progress, silent
from antcache.untrusted import check_fetched

HDF5 = b"\x89HDF\r\n\x1a\n"
LOGITS = ("logits", "logit_action")
FEATURES = ("feature", "LM_feat")

OTHER_FORMS = {
    b"\x93NUMPY": ("a single numpy array", "save uid and logits together with numpy.savez"),
    b"\x1f\x8b": ("a gzip file", "unpack it first"),
}
"""First bytes of forms that are not read, what they are, and what to do."""


@dataclass(frozen=True)
class Prediction:
    """What a file says about one segment.

    Attributes:
        uid: the segment, as text.
        logits: of any shape with the values of C classes, or None where the file says that there
            is no prediction.
        feature: of the teacher's last layer, of any shape with E values, or None.
        where: the entry, for error messages.
    """

    uid: str
    logits: NDArray[Any] | None
    feature: NDArray[Any] | None
    where: str


@dataclass(frozen=True)
class PredictionFile:
    """A file that was opened: its form (pickle, npz, ...), and its predictions, read once."""

    form: str
    predictions: Iterable[Prediction]


def open_predictions(path: Path, progress: Progress = silent) -> PredictionFile:
    """The predictions in the file at `path`.

    Raises:
        NotFound: there is no such file.
        RefusedPickle: it is a pickle with more in it than arrays and plain values.
        BadPredictions: it holds something else than predictions.
        MissingExtra: it is a parquet file, and pyarrow is not installed.
    """
    if not path.is_file():
        raise NotFound("no such file", where=path)
    try:
        check_fetched(path)
        with path.open("rb") as file:
            head = file.read(8)
        for begin, (what, hint) in OTHER_FORMS.items():
            if head.startswith(begin):
                raise BadPredictions("not a file of predictions", where=path, found=what, hint=hint)
        if head.startswith(b"PAR1"):
            return PredictionFile("parquet", _parquet(path))
        if head == HDF5:
            return PredictionFile("hdf5", _of_columns(read_results(path), path))
        if head.startswith(b"PK\x03\x04") and is_npz(path):
            return PredictionFile("npz", _npz(path))
        return PredictionFile("pickle", _of_value(read_pickle(path, progress), path))
    except (OSError, ValueError) as error:
        if isinstance(error, AntcacheError):
            raise
        raise BadPredictions("can't be read", where=path, found=error) from error


def file_hash(path: Path) -> str:
    """`blake2b:` and the digest of the file at `path`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return f"blake2b:{found.hexdigest()}"


# Pickles


def _of_value(value: object, path: Path) -> Iterator[Prediction]:
    if isinstance(value, list | tuple):
        return _of_entries(value, path)
    if isinstance(value, dict) and "uid" in value:
        return _of_columns(value, path)
    if isinstance(value, dict):
        return _of_mapping(value, path)
    raise BadPredictions(
        "not predictions",
        where=path,
        expected="a list of dictionaries with uid and logit_action",
        found=type(value).__name__,
    )


def _of_entries(entries: Sequence[Any], path: Path) -> Iterator[Prediction]:
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise BadPredictions(
                "not a prediction",
                where=where,
                expected="a dictionary with uid and logit_action",
                found=type(entry).__name__,
            )
        if "uid" not in entry:
            raise BadPredictions("no uid", where=where, found=_keys(entry))
        uid = _uid(entry["uid"], where)
        where = f"{where}, uid {uid}"
        logits = entry[_column(entry, LOGITS, where)]
        feature = _column(entry, FEATURES, where, needed=False)
        yield Prediction(
            uid, _values(logits, where), _values(entry[feature], where) if feature else None, where
        )


def _of_mapping(entries: Mapping[Any, Any], path: Path) -> Iterator[Prediction]:
    for key, logits in entries.items():
        uid = _uid(key, f"{path}: key")
        where = f"{path}: uid {uid}"
        yield Prediction(uid, _values(logits, where), None, where)


def _values(value: Any, where: str) -> NDArray[Any]:
    """Numbers as an array: what already is one, or a flat list of plain numbers."""
    if isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value):
        value = np.asarray(value, dtype=np.float64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise BadPredictions(
            "not an array of numbers",
            where=where,
            found=value.dtype if isinstance(value, np.ndarray) else type(value).__name__,
        )
    return value


def _uid(value: Any, where: str) -> str:
    """A uid as text: text, bytes or an integer, also as an array of one value."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is bytes:
        value = value.decode("utf-8", "backslashreplace")
    if type(value) is int and abs(value) < 1 << 64:
        return str(value)
    if type(value) is str:
        return str(value)
    raise BadPredictions(
        "a uid that is neither text nor an integer", where=where, found=type(value).__name__
    )


def _keys(entry: Iterable[Any]) -> str:
    """The keys that are there, for an error message."""
    keys = [short(key) for _, key in zip(range(8), entry, strict=False)]
    return ", ".join(keys) or "nothing"


def _column(
    entry: Mapping[Any, Any], names: tuple[str, ...], where: str, *, needed: bool = True
) -> str:
    """Which of `names` the entry has; an empty text if it has none and none is needed."""
    found = [name for name in names if name in entry]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadPredictions(f"{' and '.join(found)}: which?", where=where, hint="keep one of them")
    if needed:
        raise BadPredictions(
            f"no {names[0]}", where=where, expected=" or ".join(names), found=_keys(entry)
        )
    return ""


# Columns


def _of_columns(columns: Mapping[str, Any], path: Path, first: int = 0) -> Iterator[Prediction]:
    """Predictions from columns over N segments: arrays, or lists with one value per row.

    Args:
        columns: by name.
        path: the file.
        first: number of the first row in the file.
    """
    where = str(path)
    uids = _rows(columns["uid"], "uid", where)
    logits = _rows(columns[_column(columns, LOGITS, where)], "logits", where)
    name = _column(columns, FEATURES, where, needed=False)
    features = _rows(columns[name], name, where) if name else None
    valid = _rows(columns["valid"], "valid", where) if "valid" in columns else None
    lengths = [len(c) for c in (uids, logits, features, valid) if c is not None]
    if len(set(lengths)) > 1:
        raise BadPredictions("columns of unequal length", where=where, found=lengths)
    for row, value in enumerate(uids):
        uid = _uid(value, f"{path}: row {first + row}")
        place = f"{path}: row {first + row}, uid {uid}"
        if valid is not None and not isinstance(valid[row], bool | np.bool_):
            raise BadPredictions("valid is neither true nor false", where=place)
        if (valid is not None and not valid[row]) or logits[row] is None:
            yield Prediction(uid, None, None, place)
            continue
        own = None if features is None else features[row]
        feature = None if own is None else _values(own, place)
        yield Prediction(uid, _values(logits[row], place), feature, place)


def _rows(column: Any, name: str, where: str) -> Any:
    """`column`, if it has rows."""
    if isinstance(column, list | tuple) or (isinstance(column, np.ndarray) and column.ndim):
        return column
    raise BadPredictions(f"{name} is no column", where=where, found=type(column).__name__)


def _npz(path: Path) -> Iterator[Prediction]:
    try:
        names, columns = read_npz(path, ("uid", "valid", *LOGITS, *FEATURES))
    except ValueError as error:
        raise BadPredictions(
            "can't be read as .npz",
            where=path,
            found=error,
            hint="numbers and text as numpy.savez writes them; object arrays are not read",
        ) from error
    _require_uid(names, path)
    return _of_columns(columns, path)


def _require_uid(names: Sequence[str], path: Path) -> None:
    if "uid" not in names:
        raise BadPredictions("no uid", where=path, expected="a column uid", found=_keys(names))


def _parquet(path: Path) -> Iterator[Prediction]:
    with needs("pyarrow", "import"):
        import pyarrow
        import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        _require_uid(names, path)
        classes = sorted((n for n in names if n.isdecimal()), key=int)
        if classes and not set(names) & set(LOGITS):
            _require_all_ids(classes, path)
        else:
            classes = []
        wanted = [n for n in names if n in ("uid", "valid", *LOGITS, *FEATURES)]
        first = 0
        rows = check_parquet(path, file.metadata, [*wanted, *classes])
        for batch in file.iter_batches(batch_size=rows, columns=[*wanted, *classes]):
            columns: dict[str, Any] = {
                name: _arrow_rows(batch.column(name), name, path) for name in wanted
            }
            if classes:
                values = [_arrow_values(batch.column(name), name, path) for name in classes]
                columns["logits"] = np.stack(values, axis=1)
            yield from _of_columns(columns, path, first)
            first += len(batch)
    except BadPredictions:
        raise
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
        raise BadPredictions(
            "can't be read as parquet", where=path, found=short(str(error))
        ) from error


def _require_all_ids(names: Sequence[str], path: Path) -> None:
    """One column for each class: 0, 1, ... without a gap."""
    if [int(n) for n in names] != list(range(len(names))):
        missing = next(i for i, n in enumerate([*names, "-1"]) if int(n) != i)
        raise BadPredictions(
            "class ids with a gap", where=path, expected=f"a column {missing}", found=len(names)
        )


def _arrow_rows(column: Any, name: str, path: Path) -> list[Any]:
    """A column as plain values, or as one array of numbers (or None) per row."""
    import pyarrow as pa
    import pyarrow.compute

    kind = column.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        if name in (*LOGITS, *FEATURES):
            raise BadPredictions(f"{name} is no column of lists", where=path, found=kind)
        rows: list[Any] = column.to_pylist()
        return rows
    lengths = pyarrow.compute.list_value_length(column).to_pylist()
    flat = _arrow_values(column.flatten(), name, path)
    ends = np.cumsum([n or 0 for n in lengths])
    return [
        None if n is None else flat[end - n : end] for n, end in zip(lengths, ends, strict=True)
    ]


def _arrow_values(column: Any, name: str, path: Path) -> NDArray[Any]:
    """Numbers of an arrow array; a null is NaN."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise BadPredictions(f"{name} is not numbers", where=path, found=column.type)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
