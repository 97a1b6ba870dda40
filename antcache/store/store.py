"""The store: labels, features and soft targets of one dataset in one place.

Promise: what is listed is complete and checked; what is not published does not exist. Nothing is
overwritten unasked. Reading needs neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations import Segments, Taxonomy
from antcache.errors import (
    BadConfig,
    FingerprintMismatch,
    MissingKey,
)
from antcache.store.backend import Backend
from antcache.store.backends import (
    BACKENDS,
    check_format,
    find_backend,
    is_empty,
    new_backend,
)
from antcache.store.features import Features, Stream
from antcache.store.format import FORMAT, MARK, check_name, difference
from antcache.store.location import Location, parse_location
from antcache.store.soft_targets import SoftTargets


class Store:
    """A store on disk; use `Store.open`, `Store.create` or `Store.open_or_create`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def path(self) -> Location:
        """Root folder, or URL."""
        return self.backend.root

    @classmethod
    def open(cls, path: str | Path, *, memory_map: bool = True) -> Store:
        """Open an existing store.

        Args:
            path: a folder, or a URL.
            memory_map: read uncompressed arrays on a local disk straight from their files; false
                where they lie on a disk that can't be mapped.

        Raises:
            NotFound: there is nothing at `path`.
            NotAStore: it is a file, another kind of folder, or a store of a later format.
            DamagedStore: its root is not as it was written.
        """
        backend = find_backend(parse_location(path), memory_map=memory_map)
        check_format(backend)
        return cls(backend)

    @classmethod
    def create(
        cls, path: str | Path, *, dataset: str | None = None, backend: str | None = None
    ) -> Store:
        """Create an empty store; `backend` is `zarr` (default) or `hdf5` (default for `.h5`).

        Raises:
            AlreadyExists: something is at `path` that is not an empty folder.
        """
        store = cls(new_backend(parse_location(path), backend))
        store.backend.create()
        mark = {"format": FORMAT, "version": __version__}
        store.backend.set_group_attributes("", {MARK: mark, "dataset": dataset})
        return store

    @classmethod
    def open_or_create(
        cls, path: str | Path, *, dataset: str | None = None, backend: str | None = None
    ) -> Store:
        """Open the store at `path`, or create it where nothing is.

        Raises:
            NotAStore: something else is there.
            FingerprintMismatch: it is a store of another dataset.
        """
        if is_empty(parse_location(path)):
            return cls.create(path, dataset=dataset, backend=backend)
        store = cls.open(path)
        if dataset is not None:
            store._claim(dataset)
        return store

    def _claim(self, dataset: str) -> None:
        """Give the store its dataset, or refuse another one."""
        if self.dataset is None:
            self.backend.set_group_attributes("", {"dataset": dataset})
        elif self.dataset != dataset:
            raise FingerprintMismatch(
                "the store belongs to another dataset",
                where=self.path,
                expected=self.dataset,
                found=dataset,
                hint="use one store per dataset",
            )

    @property
    def dataset(self) -> str | None:
        """Name of the dataset, once labels were imported."""
        name = self.backend.group_attributes("").get("dataset")
        return None if name is None else str(name)

    # Labels

    def splits(self) -> list[str]:
        """Names of the splits with labels."""
        return self.backend.units("labels")

    @property
    def taxonomy(self) -> Taxonomy:
        """Classes of the dataset.

        Raises:
            MissingKey: no labels were imported.
        """
        fields = self.backend.group_attributes("labels").get("taxonomy")
        if fields is None:
            raise MissingKey(
                "the store has no labels", where=self.path, hint="antcache annotations import"
            )
        return Taxonomy.from_dict(fields)

    def write_labels(
        self,
        split: str,
        segments: Segments,
        taxonomy: Taxonomy,
        *,
        source: str,
        overwrite: bool = False,
    ) -> None:
        """Publish the labels of a split; all splits of a store share one taxonomy.

        Raises:
            FingerprintMismatch: the store has another dataset or taxonomy.
            AlreadyExists: the split has labels and `overwrite` is false.
        """
        check_name(split, "split")
        self._claim(taxonomy.dataset)
        known = self.backend.group_attributes("labels").get("taxonomy")
        if known is not None and Taxonomy.from_dict(known).fingerprint != taxonomy.fingerprint:
            raise FingerprintMismatch(
                "the store has another taxonomy",
                where=self.path,
                expected=f"{len(known['actions'])} actions, {self.taxonomy.fingerprint}",
                found=f"{len(taxonomy.actions)} actions, {taxonomy.fingerprint}",
                hint="use one store per taxonomy",
            )
        attributes = {
            "dataset": taxonomy.dataset,
            "taxonomy": taxonomy.fingerprint,
            "source": source,
        }
        if known is None or overwrite:  # the same classes may have gained many-shot lists
            self.backend.set_group_attributes("labels", {"taxonomy": taxonomy.to_dict()})
        key = f"labels/{split}"
        self.backend.publish(key, segments.arrays(), attributes, overwrite=overwrite)

    def labels(self, split: str) -> Segments:
        """Labelled segments of a split.

        Raises:
            MissingKey: the store has no such split.
        """
        self._require(split, self.splits(), "split", "antcache annotations import")
        return Segments.of(**self._read(f"labels/{split}")[0])

    # Features

    def streams(self) -> list[str]:
        """Names of the feature streams."""
        return self.backend.groups("features")

    def stream(self, name: str) -> Stream:
        """Settings of a stream.

        Raises:
            MissingKey: the store has no such stream.
        """
        self._require(name, self.streams(), "stream", "antcache extract")
        fields = self.backend.group_attributes(f"features/{name}")
        names = ("dim", "dtype", "fps", "source", "config", "compressed")
        return Stream(name=name, **{k: fields[k] for k in names})

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
    ) -> Stream:
        """Create a stream; one that exists with the same settings is returned as it is.

        Whether it is compressed is no setting in this sense: it changes no value.

        Raises:
            FingerprintMismatch: the stream exists with other settings; the difference is shown.
        """
        new = Stream(
            name=name,
            dim=dim,
            dtype=dtype,
            fps=float(fps),
            source=source,
            config=json.loads(json.dumps(dict(config))),  # as it will be read back
            compressed=compressed,
        )
        if name in self.streams():
            old = self.stream(name)
            if old.fingerprint != new.fingerprint:
                raise FingerprintMismatch(
                    f"stream {name!r} was made with other settings",
                    where=self.path,
                    found=difference(old.settings, new.settings),
                    hint="use another stream name, or a new store",
                )
            return old
        fields = ("dim", "dtype", "fps", "source", "config", "compressed", "fingerprint")
        # The group above first: a hierarchy has no gaps for plain readers.
        self.backend.set_group_attributes("features", {})
        attributes = {k: getattr(new, k) for k in fields}
        self.backend.set_group_attributes(f"features/{name}", attributes)
        return new

    def videos(self, stream: str) -> list[str]:
        """Names of the videos that are complete in a stream."""
        return self.backend.units(f"features/{stream}")

    def has_features(self, stream: str, video: str) -> bool:
        """Whether a video is complete in a stream."""
        return self.backend.has(f"features/{stream}/{video}")

    def write_features(
        self,
        stream: str,
        video: str,
        rows: NDArray[Any],
        *,
        start_s: float = 0.0,
        times: NDArray[np.float64] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the rows (R, D) of a video; row r was seen at `start_s + r / fps` or `times[r]`.

        Raises:
            AlreadyExists: the video is in the stream; nothing is changed.
            BadConfig: the shape, or the order of `times`, is wrong.
        """
        check_name(video, "video")
        settings = self.stream(stream)
        if rows.ndim != 2 or rows.shape[1] != settings.dim:
            raise BadConfig(
                "features of another shape",
                where=f"features/{stream}/{video}",
                expected=f"(rows, {settings.dim})",
                found=rows.shape,
            )
        arrays: dict[str, NDArray[Any]] = {"rows": rows.astype(settings.dtype, copy=False)}
        if times is not None:
            if len(times) != len(rows) or (np.diff(times) <= 0).any():
                raise BadConfig(
                    "times must ascend, one per row", where=f"features/{stream}/{video}"
                )
            arrays["times"] = np.asarray(times, dtype=np.float64)
        own = {
            "num_rows": len(rows),
            "fps": settings.fps,
            "start_s": float(start_s),
            "fingerprint": settings.fingerprint,
        }
        key = f"features/{stream}/{video}"
        all_attributes = {**(attributes or {}), **own}
        self.backend.publish(key, arrays, all_attributes, compressed=settings.compressed)

    def claim_features(self, stream: str, video: str) -> AbstractContextManager[bool]:
        """Say that this process works on a video; false if another one does.

        The claim ends with the context, or with the process however it ends. It saves double work;
        `write_features` is safe without it.
        """
        return self.backend.claim(f"features/{stream}/{video}")

    def features(self, stream: str, video: str) -> Features:
        """Rows of a video, opened lazily.

        Raises:
            MissingKey: the video is not in the stream.
        """
        arrays, attributes = self.backend.open(f"features/{stream}/{video}")
        times = arrays.get("times")
        return Features(
            rows=arrays["rows"],
            fps=float(attributes["fps"]),
            start_s=float(attributes["start_s"]),
            times=None if times is None else np.array(times[...]),
        )

    # Soft targets

    def target_names(self) -> list[str]:
        """Names of the soft targets."""
        return self.backend.units("targets")

    def write_targets(self, name: str, targets: SoftTargets, *, overwrite: bool = False) -> None:
        """Publish a teacher's soft targets.

        Raises:
            AlreadyExists: there are soft targets of this name and `overwrite` is false.
            FingerprintMismatch: they are for another taxonomy than the store's labels.
        """
        check_name(name, "set of soft targets")
        theirs = targets.attributes.get("taxonomy")
        if theirs != self.taxonomy.fingerprint:
            raise FingerprintMismatch(
                "soft targets for another taxonomy",
                where=f"{self.path}: targets/{name}",
                expected=self.taxonomy.fingerprint,
                found=theirs,
            )
        self.backend.set_group_attributes("targets", {})
        key = f"targets/{name}"
        self.backend.publish(key, targets.arrays(), targets.attributes, overwrite=overwrite)

    def targets(self, name: str) -> SoftTargets:
        """Soft targets of a teacher.

        Raises:
            MissingKey: the store has none of this name.
        """
        self._require(name, self.target_names(), "set of soft targets", "antcache teacher train")
        arrays, attributes = self._read(f"targets/{name}")
        return SoftTargets(**arrays, attributes=attributes)

    # All of it

    def remove(self, key: str) -> None:
        """Remove one unit, e.g. `features/rgb/P01_01`."""
        self.backend.remove(key)

    @property
    def kind(self) -> str:
        """Name of the backend: zarr or hdf5."""
        return next(name for name, b in BACKENDS.items() if isinstance(self.backend, b))

    def info(self) -> dict[str, Any]:
        """What the store holds, JSON-ready; see `antcache.store.info`."""
        from antcache.store.info import describe

        return describe(self)

    def _read(self, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, attributes = self.backend.open(key)
        return {name: np.array(array[...]) for name, array in arrays.items()}, attributes

    def _require(self, name: str, there: list[str], kind: str, command: str) -> None:
        if name not in there:
            raise MissingKey(
                f"the store has no {kind} {name!r}",
                where=self.path,
                found=", ".join(there) or "none",
                hint=f"{command} writes it",
            )
