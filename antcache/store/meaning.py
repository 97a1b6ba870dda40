"""What a unit or group says must make sense, even where every byte is as somebody wrote it.

Promise: what comes out is of the types and sizes that the format names, and fits the classes and
the settings that it belongs to. A store may come from anybody, and parts of two stores may have
been put together; what does not fit is refused when it is read, with one line.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.annotations.segments import COLUMNS, no_moment
from antcache.errors import AntcacheError, BadAnnotations, BadConfig, DamagedStore
from antcache.store.backend import Attributes
from antcache.store.features import Features, Stream
from antcache.store.format import CHECKSUMS, CHUNK_BYTES, LazyArray
from antcache.store.soft_targets import SoftTargets

KINDS = {
    **dict.fromkeys(("uid", "video"), "U"),
    **dict.fromkeys(("start_s", "stop_s"), "f"),
    **dict.fromkeys(("verb", "noun", "action"), "iu"),
}
"""Kinds of numpy's types that the columns of labels may have."""

TARGETS: Mapping[str, tuple[str, int]] = {
    "uid": ("text", 1),
    "valid": ("bool", 1),
    "logits": ("float32", 2),
    "index": ("int32", 2),
    "logit": ("float32", 2),
    "tail": ("float32", 1),
    "feature": ("float32", 2),
    "moment": ("text", 1),
}
"""Types, of either order of bytes, and numbers of dimensions of the arrays of soft targets."""

STREAM: Mapping[str, Any] = {
    "dim": int,
    "dtype": str,
    "fps": (int, float),
    "source": str,
    "config": dict,
    "compressed": bool,
    "step_s": (int, float, type(None)),
    "max_age_s": (int, float, type(None)),
    "grid": (list, type(None)),
    "future": list,
    "at": (dict, type(None)),
    "pooled_from": (list, type(None)),
}
"""Types of the settings of a stream."""


class Senseless(DamagedStore):
    """What a unit or group says does not make sense, or does not fit the rest of the store.

    `said` is the message without what a reader can do about it.
    """

    def __init__(
        self, problem: str, *, where: object, expected: object = "", found: object = ""
    ) -> None:
        self.said = str(AntcacheError(problem, where=where, expected=expected, found=found))
        super().__init__(
            self.said,
            hint="its bytes are as somebody wrote them, so that repair can't tell what is right: "
            "write it again, or remove it",
        )


def taxonomy_of(fields: Any, where: str) -> Taxonomy:
    """The classes that the group of labels names.

    Raises:
        DamagedStore: they make no sense.
    """

    def all_of(name: str, kind: type) -> bool:
        value = fields.get(name)
        return value is None or (isinstance(value, list) and all(type(v) is kind for v in value))

    names = ("verbs", "nouns", "actions")
    if isinstance(fields, dict) and isinstance(fields.get("dataset"), str):
        ids = [name for name in fields if name not in ("dataset", *names)]
        if all(all_of(name, str) for name in names) and all(all_of(name, int) for name in ids):
            try:
                return Taxonomy.from_dict(fields)
            except (BadAnnotations, TypeError) as error:
                raise Senseless(f"the classes make no sense ({error})", where=where) from error
    raise Senseless("the classes make no sense", where=where)


def protocol_of(fields: Any, where: str) -> Protocol:
    """The windows that the group of labels names.

    Raises:
        DamagedStore: they make no sense.
    """
    names = {field.name for field in dataclasses.fields(Protocol)}
    if not isinstance(fields, dict) or set(fields) != names:
        raise Senseless("no settings of windows", where=where, found=f"{fields!r:.100}")
    try:
        return Protocol(**fields)
    except BadConfig as error:
        raise Senseless(f"no settings of windows ({error})", where=where) from error


def rate_of(value: Any, where: str) -> float:
    """Frames per second of lists that the group of labels names.

    Raises:
        DamagedStore: they make no sense.
    """
    if not _number(value, above=0):
        raise Senseless("a rate that can't be", where=where, found=f"{value!r:.40}")
    return float(value)


def segments_of(
    arrays: Mapping[str, NDArray[Any]], attributes: Attributes, taxonomy: Taxonomy, where: str
) -> Segments:
    """The labels of a split.

    Raises:
        DamagedStore: they make no sense, or are those of other classes.
    """
    if sorted(arrays) != sorted(COLUMNS) or any(
        arrays[name].dtype.kind not in kinds or arrays[name].ndim != 1
        for name, kinds in KINDS.items()
    ):
        raise Senseless("no labels of segments", where=where, found=", ".join(sorted(arrays)))
    problem = "labels of other classes than the store's"
    _require_same(problem, attributes.get("taxonomy"), taxonomy.fingerprint, where)
    try:
        segments = Segments.of(**arrays)
        segments.check(taxonomy, lambda row: f"{where}, segment {row}")
    except (BadAnnotations, OverflowError) as error:
        raise Senseless(str(error), where="" if where in str(error) else where) from error
    return segments


def stream_of(name: str, fields: Attributes, where: str) -> Stream:
    """The settings of a stream.

    Raises:
        DamagedStore: they make no sense, or are not those that its fingerprint was made of.
    """
    given: dict[str, Any] = {key: fields.get(key) for key in STREAM}
    if "future" not in fields:  # as in streams of vectors, of which nothing of tokens is stored
        given["future"] = []
    wrong = [
        key
        for key, kind in STREAM.items()
        if not isinstance(given[key], kind) or (kind is not bool and isinstance(given[key], bool))
    ]
    if wrong:
        raise Senseless(f"no settings of a stream ({', '.join(wrong)})", where=where)
    try:
        stream = Stream(name=name, **given)
    except AntcacheError as error:
        raise Senseless(f"no settings of a stream ({error})", where=where) from error
    if fields.get("fingerprint") != stream.fingerprint:
        raise Senseless(
            "the settings of the stream are not those that its fingerprint was made of",
            where=where,
            expected=f"{fields.get('fingerprint')!r:.100}",
            found=stream.fingerprint,
        )
    return stream


def features_of(
    arrays: Mapping[str, LazyArray], attributes: Attributes, stream: Stream, where: str
) -> Features:
    """The features of a video, whose rows are not read.

    Raises:
        DamagedStore: they make no sense, or are not of this stream.
    """
    problem = "made with other settings than its stream"
    _require_same(problem, attributes.get("fingerprint"), stream.fingerprint, where)
    needed = {"rows", *(("scale",) if stream.dtype == "int8" else ())}
    needed |= {"times"} if stream.at is not None else set()
    if not needed <= arrays.keys() <= needed | {"times"}:
        raise Senseless(
            "no features of a video",
            where=where,
            expected=", ".join(sorted(needed)),
            found=", ".join(sorted(arrays)),
        )
    rows, wanted = arrays["rows"], ", ".join(map(str, stream.row_shape))
    if rows.shape[1:] != stream.row_shape or rows.dtype != np.dtype(stream.dtype):
        raise Senseless(
            "rows of another kind than its stream's",
            where=where,
            expected=f"{stream.dtype} (rows, {wanted})",
            found=f"{rows.dtype} {rows.shape}",
        )
    if "scale" in arrays:
        _check_scale(arrays["scale"], rows.shape[:2], where)
    rate, start_s, num_rows = (attributes.get(name) for name in ("fps", "start_s", "num_rows"))
    if not _number(rate, above=0) or not _number(start_s) or num_rows != rows.shape[0]:
        raise Senseless(
            "a rate, a start or a number of rows that can't be",
            where=where,
            expected=f"rows per second, seconds, {rows.shape[0]}",
            found=f"{rate!r:.40}, {start_s!r:.40}, {num_rows!r:.40}",
        )
    return Features(
        rows=rows,
        fps=float(attributes["fps"]),
        start_s=float(attributes["start_s"]),
        times=_times(arrays["times"], rows.shape[0], where) if "times" in arrays else None,
        step_s=stream.step_s,
        max_age_s=stream.max_age_s,
        scale=arrays.get("scale"),
        listed=stream.at is not None,
        checksums=sums if isinstance(sums := attributes.get(CHECKSUMS), Mapping) else {},
    )


def _require_same(problem: str, found: Any, wanted: str, where: str) -> None:
    """Refuse what was made under another fingerprint than `wanted`."""
    if found != wanted:
        raise Senseless(problem, where=where, expected=wanted, found=f"{found!r:.100}")


def _number(value: Any, above: float = -math.inf) -> bool:
    return type(value) in (int, float) and above < value < math.inf


def _check_scale(array: LazyArray, shape: tuple[int, ...], where: str) -> None:
    if array.shape != shape or array.dtype != np.dtype(np.float16):
        raise Senseless(
            "scales that are not those of its tokens",
            where=where,
            expected=f"float16 {shape}",
            found=f"{array.dtype} {array.shape}",
        )
    size = max(1, CHUNK_BYTES // (2 * shape[1]))
    for start in range(0, shape[0], size):
        scale = np.asarray(array[start : start + size])
        if not (np.isfinite(scale) & (scale >= 0)).all():
            raise Senseless("scales that can't be", where=where, expected="finite, 0 or more")


def _times(array: LazyArray, num_rows: int, where: str) -> NDArray[np.float64]:
    if array.shape != (num_rows,) or array.dtype != np.dtype(np.float64):
        raise Senseless(
            "times that are not those of its rows",
            where=where,
            expected=f"float64 ({num_rows},)",
            found=f"{array.dtype} {array.shape}",
        )
    times = np.array(array[...])
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise Senseless("times that do not ascend", where=where)
    return times


def targets_of(
    arrays: Mapping[str, NDArray[Any]],
    attributes: Attributes,
    taxonomy: Taxonomy | None,
    where: str,
) -> SoftTargets:
    """Soft targets.

    Raises:
        DamagedStore: they make no sense, or are for other classes than those of the store's labels,
            if it has any.
    """
    check_targets(arrays, attributes, taxonomy, where, exact=False)
    try:
        return SoftTargets(**_as_stored(arrays), attributes=attributes)
    except BadConfig as error:
        raise Senseless(str(error), where=where) from error


def targets_to_write(
    targets: SoftTargets, taxonomy: Taxonomy, where: str
) -> dict[str, NDArray[Any]]:
    """The arrays of soft targets, if they are what the format says: nothing else is written.

    Raises:
        BadConfig: they are not.
    """
    arrays = targets.arrays()
    try:
        check_targets(arrays, targets.attributes, taxonomy, where)
        check_values(arrays, where)
    except Senseless as error:
        raise BadConfig(error.said) from error
    return _as_stored(arrays)


LIKE: Mapping[str, str] = {"float32": "f", "int32": "iu"}
"""Kinds of types that are read as these."""


def _as_stored(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of the types that the format has, in this machine's order of bytes; those that are so
    are not copied."""
    kinds = {name: TARGETS[name][0] for name in arrays}
    return {
        name: array.astype(
            array.dtype.newbyteorder("=") if kinds[name] == "text" else kinds[name], copy=False
        )
        for name, array in arrays.items()
    }


def check_targets(
    arrays: Mapping[str, LazyArray],
    attributes: Attributes,
    taxonomy: Taxonomy | None,
    where: str,
    *,
    exact: bool = True,
) -> None:
    """What `targets_of` checks, reading none of the logits; raises as it does.

    Unless `exact`, floats and whole numbers of other sizes are taken too, as they once could be
    written.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if not {"uid", "valid"} <= arrays.keys() <= TARGETS.keys():
        raise Senseless("no soft targets", where=where, found=shapes)
    for name, array in arrays.items():
        kind, dimensions = TARGETS[name]
        same = _type_of(array) == kind
        if not exact and kind in LIKE:
            same = array.dtype.kind in LIKE[kind]
        if not same or len(array.shape) != dimensions:
            raise Senseless(
                f"no soft targets: {name} of another type",
                where=where,
                expected=f"{kind} of {dimensions} dimension{'s' * (dimensions > 1)}",
                found=f"{_type_of(array)} {array.shape}",
            )
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise Senseless("soft targets of unequal length", where=where, found=shapes)
    said = arrays.keys() - {"uid", "valid", "feature", "moment"}
    if said not in ({"logits"}, {"index", "logit", "tail"}):
        raise Senseless("neither logits, nor index, logit and tail", where=where, found=shapes)
    if "index" in arrays and shapes["index"] != shapes["logit"]:
        raise Senseless("index and logit of unequal shape", where=where, found=shapes)
    uids = np.asarray(arrays["uid"][...]).tolist()
    if len(set(uids)) != len(uids):
        twice, count = next(item for item in Counter(uids).items() if item[1] > 1)
        raise Senseless(
            "soft targets with several rows for one segment",
            where=where,
            expected="each uid once",
            found=f"{twice!r:.200} {count} times",
        )
    if "moment" in arrays and (wrong := no_moment(np.asarray(arrays["moment"][...]))) is not None:
        raise Senseless(
            "soft targets of what is no stretch of a video",
            where=where,
            expected="moments: `start stop video`",
            found=wrong,
        )
    if taxonomy is None:
        return
    problem = "soft targets for other classes than the store's"
    _require_same(problem, attributes.get("taxonomy"), taxonomy.fingerprint, where)
    classes = len(taxonomy.actions)
    if "logits" in arrays and shapes["logits"][1] != classes:
        raise Senseless(
            "soft targets for another number of classes",
            where=where,
            expected=classes,
            found=shapes["logits"][1],
        )
    if "index" in arrays:
        index = np.asarray(arrays["index"][...])
        if index.size and not (index.min() >= 0 and index.max() < classes):
            raise Senseless(
                "soft targets for classes that there are not",
                where=where,
                expected=f"0 to {classes - 1}",
                found=f"{index.min()} to {index.max()}",
            )


def check_values(arrays: Mapping[str, LazyArray], where: str) -> None:
    """Refuse targets whose valid rows hold what no teacher says; what `check_targets` found sound
    is given. A few megabytes are held at once.

    A class may be excluded, by a logit of -inf, but not all of them; a tail of -inf is no mass.

    Raises:
        DamagedStore: a valid row has other values that are not finite.
    """
    valid = np.asarray(arrays["valid"][...])
    for name in SAYABLE:  # a feature that is not finite is none
        if name not in arrays:
            continue
        array = arrays[name]
        size = max(1, CHUNK_BYTES // max(1, 4 * math.prod(array.shape[1:])))
        for start in range(0, len(valid), size):
            part = slice(start, start + size)
            wrong = valid[part] & ~_sayable(name, np.asarray(array[part]))
            if wrong.any():
                row = start + int(np.argmax(wrong))
                uid = str(np.asarray(arrays["uid"][row : row + 1])[0])
                raise Senseless(
                    f"{name} of a valid row that can't be",
                    where=where,
                    expected=SAYABLE[name],
                    found=f"{_odd(np.asarray(array[row : row + 1]))} for the segment {uid!r:.200}",
                )


SAYABLE: Mapping[str, str] = {
    **dict.fromkeys(("logits", "logit"), "numbers, or -inf for some of the classes"),
    "tail": "a number or -inf",
}
"""What valid rows may hold."""


def _sayable(name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows (n,) of `values` hold what they may."""
    if name == "tail":
        return np.asarray(values < np.inf)  # false of NaN
    # The greatest is NaN or +inf if any is, and -inf if all are.
    return np.asarray(np.isfinite(values.max(axis=1, initial=-np.inf)))


def _odd(row: NDArray[Any]) -> str:
    """The value of a wrong row (1, ...) that makes it so: NaN or +inf, else -inf."""
    if np.isnan(row).any():
        return "NaN"
    return "+inf" if np.isposinf(row).any() else "-inf"


def _type_of(array: LazyArray) -> str:
    """The type of an array by name, whatever the order of its bytes."""
    return "text" if array.dtype.kind == "U" else array.dtype.name
