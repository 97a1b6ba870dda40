"""Copies a store into another form: Zarr or HDF5, another type, compressed or not, tokens pooled.

Promise: every unit of the source is checked before it is copied, and a damaged one is named and not
copied. Values whose type stays are the same to the bit, and so are their checksums; float32 becomes
float16 only where float16 can hold the value. An interrupted run is finished by the same call. One
video is in memory at a time, and the source is only read.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from antcache.checks import one_of
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch
from antcache.progress import Progress, silent
from antcache.store.backend import Attributes
from antcache.store.backends import BACKENDS, Options, is_empty, new_backend, raise_format
from antcache.store.features import TOKEN_DTYPES, Stream
from antcache.store.format import CHECKSUMS, MARK, TOKEN_FORMAT, difference
from antcache.store.integrity.convert_tokens import token_stream
from antcache.store.integrity.convert_unit import UnitCopy, apart
from antcache.store.integrity.rounding import Rounding
from antcache.store.location import Location, parse_location
from antcache.store.store import Store
from antcache.store.tokens import Grid, as_grid

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What the copy shall be like.

    Attributes:
        backend: zarr or hdf5; None: what the target is, or what its name says.
        dtype: float16 or float32 for all streams, int8 for those of tokens; None: as in the source.
        tokens: grid that tokens are pooled to; None: as in the source.
        compressed: whether rows lie compressed; None: as in the target if the stream is there, else
            as in the source.
        streams: names of the streams that are copied; None: all of them.
    """

    backend: str | None = None
    dtype: str | None = None
    tokens: Grid | None = None
    compressed: bool | None = None
    streams: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.backend is not None:
            one_of("backend", self.backend, BACKENDS)
        if self.dtype is not None:
            one_of("dtype", self.dtype, TOKEN_DTYPES)
        if self.tokens is not None:
            as_grid("tokens", self.tokens)


@dataclass(frozen=True, kw_only=True)
class ConvertPlan:
    """What a conversion will do.

    Attributes:
        target: the store that is written.
        backend: its kind.
        done: units that are in the target already, as they should be.
        to_do: the others.
        num_bytes: size of the values in `to_do`, before they are converted and compressed.
    """

    target: str
    backend: str
    done: tuple[str, ...]
    to_do: tuple[str, ...]
    num_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        target: the store that was written.
        backend: its kind.
        written: units that are new in it.
        skipped: units that were in it before.
        rounding: stream -> what rounding to float16 or int8 changed in the videos of `written`.
        num_bytes: size of the values that were read.
        seconds: how long it took.
    """

    target: str
    backend: str
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    rounding: dict[str, Rounding]
    num_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def plan_conversion(
    source: Store,
    target: str | Path,
    config: ConvertConfig | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> ConvertPlan:
    """What `convert` would do; nothing is written, and no feature row is read.

    Raises:
        As `convert`, as far as attributes tell.
    """
    return _Conversion(source, target, config or ConvertConfig(), storage_options).plan()


def convert(
    source: Store,
    target: str | Path,
    config: ConvertConfig | None = None,
    progress: Progress = silent,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> ConvertReport:
    """Copy labels, soft targets and features of `source` into the store at `target`.

    A unit keeps its attributes. Where the type or grid of a stream changes, its fingerprint does,
    and each video says what it was `converted_from`; of tokens the stream's config says so, too.
    Streams of vectors stay as they are where tokens are pooled or become int8. Units that are in
    the target already are left as they are; what the target holds beside them is not touched.
    `progress` is called with "videos" and "MB".

    Args:
        source: what is copied.
        target: a folder or URL where nothing is, or a store that an earlier call began.
        config: form of the copy.
        progress: called after each unit.
        storage_options: for the target, as in `Store.open`.

    Raises:
        BadConfig: source and target are one; the target has another form; float16 or int8 can't
            hold a value; there are no tokens to pool, or not to this grid.
        DamagedStore: a unit of the source is not as it was written; it is not copied.
        FingerprintMismatch: the target has another dataset, other classes, or a stream with other
            settings; or a video does not belong to its stream.
        AlreadyExists: the target has a unit of the same name with other values.
        MissingKey: the source has no such stream.
        WriteFailed: the disk refused.
    """
    job = _Conversion(source, target, config or ConvertConfig(), storage_options)
    plan = job.plan()
    log.info(
        "convert: %s to %s: %d units to do, %d done",
        *(source.path, plan.target, len(plan.to_do), len(plan.done)),
    )
    report = job.run(plan, progress)
    log.info("convert: %d units, %.1f s", len(report.written), report.seconds)
    return report


class _Conversion:
    """One source, one target, and the streams as they will be."""

    def __init__(
        self, source: Store, target: str | Path, config: ConvertConfig, options: Options
    ) -> None:
        self.began = time.monotonic()
        self.source, self.config, self.options = source, config, options
        self.place = parse_location(target)
        _refuse_same(source.path, self.place)
        self.target: Store | None = None
        if not is_empty(self.place, options):
            self.target = Store.open(self.place, storage_options=options)
        if self.target is not None and config.backend not in (None, self.target.kind):
            raise BadConfig(
                "the target exists in another form",
                where=self.place,
                expected=config.backend,
                found=self.target.kind,
            )
        names = source.streams() if config.streams is None else config.streams
        self.old = {name: source.stream(name) for name in names}
        self._refuse_vectors()
        self.new = {name: self._new_stream(stream) for name, stream in self.old.items()}
        self.groups = dict(self._groups())
        self._refuse_other_groups()

    def _new_stream(self, old: Stream) -> Stream:
        """The stream as it will be in the target."""
        dtype, compressed = self.config.dtype, self.config.compressed
        if old.grid is not None:
            new = token_stream(old, self.config.tokens, dtype)
        else:
            new = old if dtype in (None, "int8") else replace(old, dtype=dtype)
        new = replace(new, compressed=old.compressed if compressed is None else compressed)
        if self.target is None or old.name not in self.target.streams():
            return new
        there = self.target.stream(old.name)
        where = self.target.backend.where(f"features/{old.name}")
        if there.fingerprint != new.fingerprint:
            raise FingerprintMismatch(
                "the target's stream has other settings",
                where=where,
                found=difference(there.settings, new.settings),
                hint="convert into a new store, or as the conversion that this one continues",
            )
        if compressed not in (None, there.compressed):
            raise BadConfig(
                "the target's stream exists in another form",
                where=where,
                expected="compressed" if compressed else "uncompressed",
                found="compressed" if there.compressed else "uncompressed",
            )
        return there

    def _refuse_vectors(self) -> None:
        """Raise `BadConfig` if tokens are asked for, and a stream that was named has none, or none
        of the source has any."""
        if self.config.tokens is None and self.config.dtype != "int8":
            return
        vectors = [name for name, stream in self.old.items() if stream.grid is None]
        if vectors and (self.config.streams is not None or len(vectors) == len(self.old)):
            raise BadConfig(
                "only tokens can be pooled, or kept in int8",
                where=self.source.path,
                found=f"{', '.join(vectors)}: a vector a row",
            )

    def _groups(self) -> Iterator[tuple[str, Attributes]]:
        """Groups of the target with the attributes they will have, each after the one above it."""
        read = self.source.backend.group_attributes
        yield "", {k: v for k, v in read("").items() if k != MARK}
        for key in ("labels", "targets"):
            if read(key) or self.source.backend.units(key):
                yield key, read(key)
        if self.new:
            yield "features", read("features")
        for name, stream in self.new.items():
            key = f"features/{name}"
            changed: Attributes = {"compressed": stream.compressed}
            if stream.fingerprint != self.old[name].fingerprint:
                changed |= {"dtype": stream.dtype, "fingerprint": stream.fingerprint}
                changed |= {"config": stream.config, **stream.token_fields}
            yield key, {**read(key), **changed}

    def _refuse_other_groups(self) -> None:
        """Raise `FingerprintMismatch` if the target is of another dataset, or of other classes."""
        if self.target is None:
            return
        for key in ("", "labels"):
            there = self.target.backend.group_attributes(key)
            wanted = self.groups.get(key, {})
            other = [k for k in apart(there, wanted) if k in wanted and there.get(k) is not None]
            if other:
                name = self.target.dataset == self.source.dataset
                raise FingerprintMismatch(
                    f"the target has another {', '.join(other)}",
                    where=self.target.backend.where(key),
                    expected="" if name else self.source.dataset,
                    found="" if name else self.target.dataset,
                    hint="convert into a new store",
                )

    def units(self) -> Iterator[UnitCopy]:
        """Every unit that is copied; what is small comes first."""
        for group in ("labels", "targets", *(f"features/{name}" for name in self.new)):
            name = group.removeprefix("features/")
            for unit in self.source.backend.units(group):
                key = f"{group}/{unit}"
                arrays, attributes = self.source.backend.open(key)
                yield UnitCopy(
                    key=key,
                    attributes=attributes,
                    num_bytes=sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays.values()),
                    old=self.old.get(name) if name != group else None,
                    new=self.new.get(name) if name != group else None,
                )

    def plan(self) -> ConvertPlan:
        """Which units are to be copied; they are kept in `to_do`."""
        self.to_do: list[UnitCopy] = []
        done = []
        for unit in self.units():
            self._refuse_foreign(unit)
            if self.target is not None and unit.is_in(self.target):
                done.append(unit.key)
            else:
                self.to_do.append(unit)
        there = (
            self.target.backend
            if self.target
            else new_backend(self.place, self.config.backend, self.options)
        )
        return ConvertPlan(
            target=str(self.place),
            backend=there.form,
            done=tuple(done),
            to_do=tuple(unit.key for unit in self.to_do),
            num_bytes=sum(unit.num_bytes for unit in self.to_do),
        )

    def _refuse_foreign(self, unit: UnitCopy) -> None:
        """A video made with other settings than its stream can't get the fingerprint of ours."""
        if unit.streams is None:
            return
        old, found = unit.streams[0], unit.attributes.get("fingerprint")
        if found != old.fingerprint:
            raise FingerprintMismatch(
                "the video was made with other settings than its stream",
                where=self.source.backend.where(unit.key),
                expected=old.fingerprint,
                found=found,
                hint="remove it and extract it again",
            )

    def _opened_target(self) -> Store:
        """The target, created if needed, with its groups."""
        if self.target is None:
            self.target = Store.open_or_create(
                self.place,
                dataset=self.source.dataset,
                backend=self.config.backend,
                storage_options=self.options,
            )
        if any(stream.grid is not None for stream in self.new.values()):
            raise_format(self.target.backend, TOKEN_FORMAT)
        for key, attributes in self.groups.items():
            # A stream is added as a whole, or is there: nothing of ours goes into another's.
            whole = "fingerprint" if key.startswith("features/") else ""
            self.target.backend.add_group_attributes(key, attributes, unless=whole)
        # Another process may have been faster: what is there now is what counts.
        self.new = {name: self._new_stream(stream) for name, stream in self.old.items()}
        self._refuse_other_groups()
        return self.target

    def run(self, plan: ConvertPlan, progress: Progress) -> ConvertReport:
        """Copy what is to be done."""
        target = self._opened_target()
        videos = sum(unit.new is not None for unit in self.to_do)
        seen, num_bytes = 0, 0
        written: list[str] = []
        skipped = list(plan.done)
        rounding: dict[str, Rounding] = {}
        for unit in self.to_do:
            (written if self._copy(unit, target) else skipped).append(unit.key)
            num_bytes += unit.num_bytes
            seen += unit.new is not None
            if unit.streams is not None and unit.streams[1].dtype != "float32":
                name = unit.streams[1].name
                rounding[name] = rounding.get(name, Rounding()) | unit.rounding
            progress("videos", seen, videos)
            progress("MB", num_bytes / 1e6, plan.num_bytes / 1e6)
        return ConvertReport(
            target=plan.target,
            backend=target.kind,
            written=tuple(written),
            skipped=tuple(skipped),
            rounding=rounding,
            num_bytes=num_bytes,
            seconds=time.monotonic() - self.began,
        )

    def _copy(self, unit: UnitCopy, target: Store) -> bool:
        """Check a unit and publish its copy; false if another process did so meanwhile."""
        self.source.check(unit.key)  # what reading would refuse is not handed on
        arrays = unit.read(self.source)
        attributes = {k: v for k, v in unit.wanted.items() if k != CHECKSUMS}
        compressed = unit.new is not None and unit.new.compressed
        labels = unit.key.startswith("labels/")  # which an import may be replacing
        try:
            with target.backend.exclusively("labels") if labels else nullcontext():
                target.backend.publish(unit.key, arrays, attributes, compressed=compressed)
        except AlreadyExists:
            if not unit.is_in(target):
                raise
            log.warning("%s: another process wrote it meanwhile", unit.key)
            return False
        log.info("%s: copied", unit.key)
        return True


def _refuse_same(source: Location, target: Location) -> None:
    """Raise `BadConfig` if the target is the source, or lies in it."""
    if isinstance(source, Path) and isinstance(target, Path):
        # realpath, not resolve(): that one raises where links lead to themselves
        real = Path(os.path.realpath(target))
        inside = Path(os.path.realpath(source)) in (real, *real.parents)
    else:
        inside = f"{target}/".startswith(f"{source}/")
    if inside:
        raise BadConfig("the target is, or lies in, the source", where=target)
