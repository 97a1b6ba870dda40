"""The store: labels, features and soft targets of one dataset in one place.

Promise: what is listed is complete and checked; what is not published does not exist. Nothing is
overwritten unasked. Reading needs neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, MissingKey
from antcache.store.backend import damaged, differing
from antcache.store.features import Features, Stream
from antcache.store.format import CHECKSUMS, check_name, checksums, difference
from antcache.store.meaning import (
    Senseless,
    check_targets,
    features_of,
    segments_of,
    stream_of,
    targets_of,
    taxonomy_of,
)
from antcache.store.opening import OpenStore
from antcache.store.soft_targets import SoftTargets


class Store(OpenStore):
    """A store on disk or at a URL; use `Store.open`, `Store.create` or `Store.open_or_create`.

    It can be pickled, and used in forked processes.
    """

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
        taxonomy = self._taxonomy()
        if taxonomy is None:
            raise MissingKey(
                "the store has no labels", where=self.path, hint="antcache annotations import"
            )
        return taxonomy

    def _taxonomy(self) -> Taxonomy | None:
        """Classes of the dataset, None without labels."""
        where = self.backend.where("labels")
        fields = self.backend.group_attributes("labels").get("taxonomy")
        if fields is None:
            if self.splits():
                raise Senseless("labels without classes", where=where)
            return None
        taxonomy = taxonomy_of(fields, where)
        if self.dataset not in (None, taxonomy.dataset):
            raise Senseless(
                "classes of another dataset than the store's",
                where=where,
                expected=self.dataset,
                found=taxonomy.dataset,
            )
        return taxonomy

    def write_labels(
        self,
        split: str,
        segments: Segments,
        taxonomy: Taxonomy,
        *,
        source: str,
        overwrite: bool = False,
    ) -> None:
        """Publish the labels of one split; see `write_splits`."""
        self.write_splits({split: segments}, taxonomy, source=source, overwrite=overwrite)

    def write_splits(
        self,
        splits: Mapping[str, Segments],
        taxonomy: Taxonomy,
        *,
        source: str,
        overwrite: bool = False,
    ) -> list[str]:
        """Publish the labels of several splits together; all of a store share one taxonomy.

        A split that has these labels already is left as it is, so that the same call goes on where
        another one was interrupted. With `overwrite` all change at once, on a local disk; see
        `Backend.publish_group`.

        Returns:
            Names of the splits that were written.

        Raises:
            BadAnnotations: they do not fit the taxonomy; see `Segments.check`.
            FingerprintMismatch: the store has another dataset or taxonomy.
            AlreadyExists: a split has other labels, or the classes other lists of many-shot and
                tail classes, and `overwrite` is false.
        """
        for split, segments in splits.items():
            check_name(split, "split")
            segments.check(taxonomy, f"{split}, segment {{}}".format)
        with self.backend.alone("labels"):
            self._claim(taxonomy.dataset)
            new = dict(splits)
            if not overwrite:
                there = self.splits()
                new = {name: own for name, own in splits.items() if name not in there}
            kept = {name: own for name, own in splits.items() if name not in new}
            self._check_labels(kept, taxonomy, overwrite)
            if new:
                about = {
                    "dataset": taxonomy.dataset,
                    "taxonomy": taxonomy.fingerprint,
                    "source": source,
                }
                self.backend.publish_group(
                    "labels",
                    {"taxonomy": taxonomy.to_dict()},
                    {name: (segments.arrays(), about) for name, segments in new.items()},
                )
            if len(new) < len(splits):  # by a call that was killed, and may have left something
                self.backend.sweep()
        return list(new)

    def _check_labels(
        self, kept: Mapping[str, Segments], taxonomy: Taxonomy, overwrite: bool
    ) -> None:
        """Refuse other classes than the store's, and other labels than those that are `kept`."""
        known = self._taxonomy()
        if known is not None and known.fingerprint != taxonomy.fingerprint:
            raise FingerprintMismatch(
                "the store has another taxonomy",
                where=self.path,
                expected=f"{len(known.actions)} actions, {known.fingerprint}",
                found=f"{len(taxonomy.actions)} actions, {taxonomy.fingerprint}",
                hint="use one store per taxonomy",
            )
        other = [
            name
            for name, segments in kept.items()
            if self.backend.open(f"labels/{name}")[1][CHECKSUMS] != checksums(segments.arrays())
        ]
        if other:
            raise AlreadyExists(
                f"the store has other labels of {', '.join(other)}",
                where=self.path,
                hint="--overwrite replaces them",
            )
        if known is not None and known.to_dict() != taxonomy.to_dict() and not overwrite:
            raise AlreadyExists(
                "the store has other lists of many-shot or tail classes",
                where=self.path,
                hint="--overwrite replaces them, and the labels",
            )

    def labels(self, split: str) -> Segments:
        """Labelled segments of a split.

        Raises:
            MissingKey: the store has no such split.
            DamagedStore: they are not as they were written, or do not fit the store's classes.
        """
        self._require(split, self.splits(), "split", "antcache annotations import")
        key = f"labels/{split}"
        arrays, attributes = self.backend.read(key)
        return segments_of(arrays, attributes, self.taxonomy, self.backend.where(key))

    # Features

    def streams(self) -> list[str]:
        """Names of the feature streams."""
        return self.backend.groups("features")

    def stream(self, name: str) -> Stream:
        """Settings of a stream.

        Raises:
            MissingKey: the store has no such stream.
            DamagedStore: they are not as they were written, or make no sense.
        """
        self._require(name, self.streams(), "stream", "antcache extract")
        key = f"features/{name}"
        return stream_of(name, self.backend.group_attributes(key), self.backend.where(key))

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
        fields = ("dim", "dtype", "fps", "source", "config", "compressed", "fingerprint")
        # Several processes may create it at the same moment: one does, the others compare.
        self.backend.add_group_attributes(f"features/{name}", {k: getattr(new, k) for k in fields})
        old = self.stream(name)
        if old.fingerprint != new.fingerprint:
            raise FingerprintMismatch(
                f"stream {name!r} was made with other settings",
                where=self.path,
                found=difference(old.settings, new.settings),
                hint="use another stream name, or a new store",
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
        return features_of(
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
            BadConfig: they are for another number of classes.
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
        key = f"targets/{name}"
        try:  # what could not be read is not written
            check_targets(targets.arrays(), targets.attributes, self.taxonomy, key)
        except Senseless as error:
            raise BadConfig(error.said) from error
        self.backend.set_group_attributes("targets", {})
        self.backend.publish(key, targets.arrays(), targets.attributes, overwrite=overwrite)

    def targets(self, name: str) -> SoftTargets:
        """Soft targets of a teacher.

        Raises:
            MissingKey: the store has none of this name.
            DamagedStore: they are not as they were written, or do not fit the store's classes.
        """
        self._require(name, self.target_names(), "set of soft targets", "antcache teacher train")
        key = f"targets/{name}"
        arrays, attributes = self.backend.read(key)
        return targets_of(arrays, attributes, self._taxonomy(), self.backend.where(key))

    # All of it

    def check(self, key: str) -> None:
        """Read of a unit what says whether it fits the store; a few megabytes are held at once.

        Of features these are times and attributes; rows are compared when they are read.

        Raises:
            MissingKey: it is not there.
            DamagedStore: it is not as it was written, or does not fit.
        """
        kind, _, name = key.partition("/")
        if kind == "features":
            self.features(*name.split("/"))
        elif kind == "labels":
            self.labels(name)
        else:
            arrays, attributes = self.backend.open(key)
            where = self.backend.where(key)
            check_targets(arrays, attributes, self._taxonomy(), where)
            if wrong := differing(arrays, attributes):
                raise damaged(where, f"{', '.join(wrong)} not as written")

    def remove(self, key: str) -> None:
        """Remove one unit, e.g. `features/rgb/P01_01`."""
        self.backend.remove(key)

    def info(self) -> dict[str, Any]:
        """What the store holds, JSON-ready; see `antcache.store.info`."""
        from antcache.store.info import describe

        return describe(self)

    def _require(self, name: str, there: list[str], kind: str, command: str) -> None:
        if name not in there:
            raise MissingKey(
                f"the store has no {kind} {name!r}",
                where=self.path,
                found=", ".join(there) or "none",
                hint=f"{command} writes it",
            )
