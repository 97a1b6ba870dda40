"""The store: labels, features and soft targets of one dataset in one place.

Promise: what is opened is a store of a format that this version reads, and nothing that is there is
ever taken for an empty place. What is listed is complete and checked; what is not published does
not exist. Nothing is overwritten unasked. Reading needs neither torch nor transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, MissingKey
from antcache.store import meaning
from antcache.store.backend import Backend, differing_arrays
from antcache.store.backends import (
    check_format,
    find_backend,
    is_empty,
    new_backend,
    raise_format,
)
from antcache.store.faults import damaged
from antcache.store.features import Features, Stream
from antcache.store.format import (
    FORMAT,
    MARK,
    TOKEN_FORMAT,
    check_name,
    difference,
    is_key,
    may_lie_in,
)
from antcache.store.labels import LabelStore
from antcache.store.location import parse_location, removing
from antcache.store.quantise import quantise
from antcache.store.soft_targets import SoftTargets


class Store(LabelStore):
    """A store on disk or at a URL; use `Store.open`, `Store.create` or `Store.open_or_create`.

    It can be pickled, and used in forked processes.
    """

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        memory_map: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open an existing store.

        Args:
            path: a folder, or a URL.
            memory_map: read uncompressed arrays on a local disk straight from their files; false
                where they lie on a disk that can't be mapped.
            storage_options: for fsspec's filesystem, over its configuration and environment; for
                URLs only.

        Raises:
            NotFound: there is nothing at `path`.
            Unreachable: `path` is a URL that can't be asked.
            NotAStore: it is a file, another kind of folder, or a store of a later format.
            DamagedStore: its root is not as it was written.
        """
        place = parse_location(path)
        backend = find_backend(place, memory_map=memory_map, options=storage_options)
        check_format(backend)
        return cls(backend)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Create an empty store; `backend` is `zarr` (default) or `hdf5` (default for `.h5`).

        A store at a URL is a Zarr store; `storage_options` as in `open`.

        Raises:
            AlreadyExists: something is at `path` that is not an empty folder.
            BadConfig: there is no such backend, or not at a URL.
            WriteFailed: it can't be written there.
        """
        made = new_backend(parse_location(path), backend, storage_options)
        return cls.create_in(made, dataset=dataset)

    @classmethod
    def create_in(cls, backend: Backend, *, dataset: str | None = None) -> Self:
        """Create an empty store in a backend of one's own; `Store(backend)` opens it again.

        `antcache.testing.StoreContract` tells whether such a backend keeps a store's promises.

        Raises:
            AlreadyExists: there is one.
            WriteFailed: it can't be written.
        """
        store = cls(backend)
        mark = {"format": FORMAT, "version": __version__}
        known = {} if dataset is None else {"dataset": dataset}
        store.backend.create({MARK: mark, **known})
        return store

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        *,
        dataset: str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the store at `path`, or create it where nothing is.

        Raises:
            NotAStore: something else is there.
            FingerprintMismatch: it is a store of another dataset.
        """
        options = storage_options
        if is_empty(parse_location(path), options):
            with suppress(AlreadyExists):  # another process may create it at the same moment
                return cls.create(path, dataset=dataset, backend=backend, storage_options=options)
        store = cls.open(path, storage_options=options)
        if dataset is not None:
            store._require_dataset(dataset)
        return store

    @property
    def kind(self) -> str:
        """Name of the backend: zarr or hdf5."""
        return self.backend.form

    # Features

    def streams(self) -> list[str]:
        """Names of the feature streams."""
        return self.backend.groups("features")

    def only_stream(self) -> str:
        """Name of the feature stream, of a store that has one.

        Raises:
            BadConfig: it has none, or several.
        """
        streams = self.streams()
        if len(streams) != 1:
            raise BadConfig(
                "which stream?" if streams else "the store has no features",
                where=self.path,
                found=", ".join(streams) or "none",
                hint="name one: `stream`" if streams else "antcache extract writes them",
            )
        return streams[0]

    def stream(self, name: str) -> Stream:
        """Settings of a stream.

        Raises:
            MissingKey: the store has no such stream.
            DamagedStore: they are not as they were written, or make no sense.
        """
        key = f"features/{name}"
        found = self.backend.group_attributes(key) if may_lie_in("features", name) else {}
        if not found:  # to list the streams takes longer, in a bucket
            self._require(name, self.streams(), "stream", "antcache extract")
        return meaning.stream_of(name, found, self.backend.where(key))

    def create_stream(
        self,
        name: str,
        *,
        dim: int,
        dtype: str,
        fps: float,
        source: str,
        config: Mapping[str, Any],
        compressed: bool = False,
        grid: Sequence[int] | None = None,
        future: Sequence[float] = (),
        at: Mapping[str, Sequence[float]] | None = None,
        pooled_from: Sequence[int] | None = None,
    ) -> Stream:
        """Create a stream; one that exists with the same settings is returned as it is.

        Whether it is compressed is no setting in this sense: it changes no value. The first stream
        of tokens (see `Stream.grid`) makes the store one of format 2, which earlier versions of
        antcache refuse.

        Raises:
            BadConfig: there can be no such stream.
            FingerprintMismatch: the stream exists with other settings; the difference is shown.
        """
        tokens: dict[str, Any] = {
            "grid": None if grid is None else tuple(grid),
            "future": tuple(future),
            "at": None if at is None else {key: list(values) for key, values in at.items()},
            "pooled_from": None if pooled_from is None else tuple(pooled_from),
        }
        new = Stream(
            name=name,
            dim=dim,
            dtype=dtype,
            fps=float(fps),
            source=source,
            config=json.loads(json.dumps(dict(config))),  # as it will be read back
            compressed=compressed,
            **tokens,
        )
        fields = ("dim", "dtype", "fps", "source", "config", "compressed", "fingerprint")
        own = {k: getattr(new, k) for k in fields} | new.token_fields
        if new.grid is not None and name not in self.streams():
            raise_format(self.backend, TOKEN_FORMAT)
        # Several processes may create it at the same moment: one does, the others compare.
        self.backend.add_group_attributes(f"features/{name}", own, unless="fingerprint")
        old = self.stream(name)
        if old.fingerprint != new.fingerprint:
            raise FingerprintMismatch(
                f"stream {name!r} was made with other settings",
                where=self.path,
                found=difference(old.settings, new.settings),
                hint="use another stream name, or remove this one with all its videos: "
                + removing(self.path, f"features/{name}"),
            )
        return old

    def set_gap_rule(self, name: str, *, step_s: float | None, max_age_s: float | None) -> Stream:
        """Say which spacing of rows is a gap, and how old a row may be that stands in for one.

        See `Stream`. No value and no fingerprint changes, so it may be set at any time.

        Raises:
            MissingKey: the store has no such stream.
            BadConfig: not positive numbers of seconds.
        """
        new = replace(self.stream(name), step_s=step_s, max_age_s=max_age_s)
        rule = {"step_s": new.step_s, "max_age_s": new.max_age_s}
        self.backend.set_group_attributes(f"features/{name}", rule)
        return new

    def videos(self, stream: str, *, listed: bool = False) -> list[str]:
        """Names of the videos that are complete in a stream.

        Args:
            stream: its name.
            listed: look what lies there, whatever an index of the stream says, as who writes does.
        """
        key = f"features/{stream}"
        return self.backend.units(key) if listed else self.backend.known_units(key)

    def row_counts(self, stream: str) -> dict[str, int]:
        """How many rows each video of a stream has, by their sizes; nothing else is looked at.

        Raises:
            MissingKey: the store has no such stream.
            DamagedStore: it or one of its videos is not as it was written.
        """
        settings = self.stream(stream)
        if settings.compressed:
            videos = self.videos(stream)
            return {v: self.features(stream, v, settings=settings).num_rows for v in videos}
        row_bytes = math.prod(settings.row_shape) * np.dtype(settings.dtype).itemsize
        sizes = self.backend.value_bytes(f"features/{stream}", "rows")
        return {video: size // row_bytes for video, size in sizes.items()}

    def all_videos(self) -> set[str]:
        """Names of the videos that are complete in some stream."""
        return {video for stream in self.streams() for video in self.videos(stream)}

    def has_features(self, stream: str, video: str) -> bool:
        """Whether a video is complete in a stream."""
        return self.backend.has(f"features/{stream}/{video}")

    def write_features(
        self,
        stream: str,
        video: str,
        rows: NDArray[Any],
        *,
        scale: NDArray[np.float16] | None = None,
        start_s: float = 0.0,
        times: NDArray[np.float64] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the rows of a video; row r was seen at `start_s + r / fps` or `times[r]`.

        Args:
            stream: name of the stream.
            video: name of the video.
            rows: (R, D), of tokens (R, K, D). In a stream of int8 tokens either int8 with `scale`,
                or floats, which are quantised.
            scale: (R, K) float16, what each int8 token is to be multiplied with.
            start_s: time of row 0 in seconds.
            times: (R,) time of each row in seconds, where they are not `1 / fps` apart.
            attributes: what else is to be known of the video.

        Raises:
            AlreadyExists: the video is in the stream; nothing is changed.
            BadConfig: the shape, the scale, or the order of `times`, is wrong.
        """
        check_name(video, "video")
        settings = self.stream(stream)
        where = f"features/{stream}/{video}"
        if rows.shape[1:] != settings.row_shape:
            raise BadConfig(
                "features of another shape",
                where=where,
                expected=f"(rows, {', '.join(map(str, settings.row_shape))})",
                found=rows.shape,
            )
        arrays = _stored_rows(settings, rows, scale, where)
        if times is None and settings.at is not None:
            raise BadConfig("rows at the times of windows need times", where=where)
        if times is not None:
            if len(times) != len(rows) or (np.diff(times) <= 0).any():
                raise BadConfig("times must ascend, one per row", where=where)
            arrays["times"] = np.asarray(times, dtype=np.float64)
        own = {
            "num_rows": len(rows),
            "fps": settings.fps,
            "start_s": float(start_s),
            "fingerprint": settings.fingerprint,
        }
        all_attributes = {**(attributes or {}), **own}
        self.backend.publish(where, arrays, all_attributes, compressed=settings.compressed)

    def claim_features(self, stream: str, video: str) -> AbstractContextManager[bool]:
        """Say that this process works on a video; false if another one does.

        The claim ends with the context, or with the process however it ends. It saves double work;
        `write_features` is safe without it.
        """
        return self.backend.claim(f"features/{stream}/{video}")

    def features(self, stream: str, video: str, *, settings: Stream | None = None) -> Features:
        """Rows of a video, opened lazily.

        Args:
            stream: name of the stream.
            video: name of the video.
            settings: what `stream` returned for it: saves reading it again for every video.

        Raises:
            MissingKey: the video is not in the stream.
            DamagedStore: it is not as it was written, or does not belong to the stream. Rows are
                compared with their hashes when they are read.
        """
        key = f"features/{stream}/{video}"
        arrays, attributes = self.backend.open(key)
        return meaning.features_of(
            arrays, attributes, settings or self.stream(stream), self.backend.where(key)
        )

    # Soft targets

    def target_names(self) -> list[str]:
        """Names of the soft targets."""
        return self.backend.units("targets")

    def write_targets(self, name: str, targets: SoftTargets, *, overwrite: bool = False) -> None:
        """Publish a teacher's soft targets.

        Raises:
            AlreadyExists: there are soft targets of this name and `overwrite` is false.
            BadConfig: they are not what the format says: another number of classes or type, a uid
                several times, or a row that is valid and holds NaN, say; nothing is written.
            FingerprintMismatch: they are for another taxonomy than the store's labels, or for other
                stretches of video than its segments of these uids.
        """
        check_name(name, "set of soft targets")
        key = f"targets/{name}"
        # Labels of another taxonomy come where there are no soft targets; see `write_splits`.
        with self.backend.exclusively("labels") if self.backend.can_wait else nullcontext():
            self._check_of_labels(key, targets)
            arrays = meaning.targets_to_write(targets, self.taxonomy, key)
            self.backend.set_group_attributes("targets", {})
            self.backend.publish(key, arrays, targets.attributes, overwrite=overwrite)
        if not self.backend.can_wait:  # who only writes other soft targets is not refused
            try:
                self._check_of_labels(key, targets)
            except FingerprintMismatch:
                self.backend.remove(key)
                raise

    def targets(self, name: str) -> SoftTargets:
        """Soft targets of a teacher.

        Raises:
            MissingKey: the store has none of this name.
            DamagedStore: they are not as they were written, or do not fit the store's classes.
        """
        self._require(name, self.target_names(), "set of soft targets", "antcache teacher train")
        key = f"targets/{name}"
        arrays, attributes = self.backend.read(key)
        return meaning.targets_of(arrays, attributes, self._taxonomy(), self.backend.where(key))

    # All of it

    def check(self, key: str, *, settings: Stream | None = None) -> None:
        """Read of a unit what says whether it fits the store; a few megabytes are held at once.

        Of features these are times and attributes; rows are compared when they are read.

        Args:
            key: of the unit.
            settings: of its stream, as for `features`.

        Raises:
            MissingKey: it is not there.
            DamagedStore: it is not as it was written, or does not fit.
        """
        kind, _, name = key.partition("/")
        if kind == "features":
            self.features(*name.split("/"), settings=settings)
        elif kind == "labels":
            self.labels(name)
        else:
            arrays, attributes = self.backend.open(key)
            where = self.backend.where(key)
            meaning.check_targets(arrays, attributes, self._taxonomy(), where)
            if wrong := differing_arrays(arrays, attributes):
                raise damaged(where, f"{', '.join(wrong)} not as written")
            meaning.check_values(arrays, where)

    def remove(self, *keys: str) -> None:
        """Remove units, e.g. `features/rgb/P01_01`, or a stream with all its videos and settings,
        `features/rgb`; none if one of them can't be.

        Raises:
            MissingKey: one is no key of a unit or stream, or the store lists no such one.
            WriteFailed: the disk refused; those named before the one it speaks of are removed.
        """
        streams = {f"features/{name}" for name in self.streams()}
        units: dict[str, None] = {}
        for key in keys:
            group, _, name = key.rpartition("/")
            if key in streams:
                units |= dict.fromkeys(f"{key}/{video}" for video in self.backend.units(key))
            elif is_key(key) and name in self.backend.units(group):
                units[key] = None
            else:
                raise MissingKey(
                    f"the store has no {key!r}",
                    where=self.path,
                    expected="labels/SPLIT, targets/NAME, features/STREAM/VIDEO or features/STREAM",
                    hint="" if len(keys) == 1 else "nothing was removed",
                )
        for unit in units:
            self.backend.remove(unit)
        for key in streams.intersection(keys):  # killed before, it is a stream without videos
            self.backend.set_group_text(key, None)


def _stored_rows(
    stream: Stream, rows: NDArray[Any], scale: NDArray[np.float16] | None, where: str
) -> dict[str, NDArray[Any]]:
    """Rows as they are stored, with their scales where those are int8 tokens.

    Raises:
        BadConfig: the scales are not those of these rows, or they can't be int8.
    """
    if stream.dtype != "int8":
        if scale is not None:
            raise BadConfig("only int8 tokens have a scale", where=where, found=stream.dtype)
        return {"rows": rows.astype(stream.dtype, copy=False)}
    if scale is None and rows.dtype.kind == "f":
        rows, scale = quantise(rows, where=where)
    if (
        rows.dtype != np.int8
        or scale is None
        or scale.dtype != np.float16
        or scale.shape != rows.shape[:2]
        or not (np.isfinite(scale) & (scale >= 0)).all()
    ):
        raise BadConfig(
            "int8 tokens need a scale each",
            where=where,
            expected=f"int8 rows and float16 {rows.shape[:2]}, finite, 0 or more; or float rows",
            found=f"{rows.dtype} rows and {None if scale is None else scale.dtype} "
            f"{None if scale is None else scale.shape}",
        )
    return {"rows": rows, "scale": scale}
