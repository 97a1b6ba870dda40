"""The labels of a store: its classes, and the segments of each split.

Promise: all splits of a store are of one dataset and share one taxonomy; none is ever half of an
old one and half of a new one.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, Taxonomy, protocol_for
from antcache.annotations.segments import SAME_S
from antcache.errors import (
    AlreadyExists,
    BadAnnotations,
    DamagedStore,
    FingerprintMismatch,
    MissingKey,
    ReadFailed,
)
from antcache.store.backend import Backend
from antcache.store.format import CHECKSUMS, check_name, checksums
from antcache.store.location import Location, removing
from antcache.store.meaning import (
    Senseless,
    check_targets,
    protocol_of,
    rate_of,
    segments_of,
    taxonomy_of,
)
from antcache.store.soft_targets import SoftTargets, anchor_of, elsewhere

log = logging.getLogger(__name__)

PROTOCOL, LIST_FPS = "protocol", "list_fps"
"""Attributes of the group of labels: settings that are usual with the store."""


def described(taxonomy: Taxonomy) -> str:
    """How many classes a taxonomy has, and which it is, for a message."""
    return f"{taxonomy.counts} ({taxonomy.fingerprint})"


class LabelStore:
    """What of `Store` concerns its dataset and labels."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def path(self) -> Location:
        """Root folder, or URL."""
        return self.backend.root

    @property
    def dataset(self) -> str | None:
        """Name of the dataset, once labels were imported."""
        name = self.backend.group_attributes("").get("dataset")
        return None if name is None else str(name)

    def _require_dataset(self, dataset: str) -> None:
        """Give the store its dataset, or refuse another one."""
        known = self.dataset
        if known is None:  # another process may be giving it one at the same moment
            known = self.backend.add_group_attributes("", {"dataset": dataset})["dataset"]
        if known != dataset:
            raise FingerprintMismatch(
                "the store belongs to another dataset",
                where=self.path,
                expected=known,
                found=dataset,
                hint="use one store per dataset; without labels and soft targets, importing with "
                "--overwrite gives it another",
            )

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

    @property
    def protocol(self) -> Protocol:
        """The windows that actions are anticipated from: stored with the labels, or the dataset's.

        Raises:
            DamagedStore: what is stored makes no sense.
        """
        stored = self._settings().get(PROTOCOL)
        if stored is None:
            return protocol_for(self.dataset or "")
        return protocol_of(stored, self.backend.where("labels"))

    @property
    def list_fps(self) -> float | None:
        """Frames per second of lists whose times are frames, as those of the labels were.

        Raises:
            DamagedStore: what is stored makes no sense.
        """
        stored = self._settings().get(LIST_FPS)
        return None if stored is None else rate_of(stored, self.backend.where("labels"))

    def _settings(self) -> dict[str, Any]:
        """What is stored of the dataset beside its classes."""
        attributes = self.backend.group_attributes("labels")
        return {name: attributes.get(name) for name in (PROTOCOL, LIST_FPS)}

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
        protocol: Protocol | None = None,
        list_fps: float | None = None,
        overwrite: bool = False,
    ) -> list[str]:
        """Publish the labels of several splits together; all of a store share one taxonomy.

        A split that has these labels already is left as it is, so that the same call goes on where
        another one was interrupted. With `overwrite` all change at once, on a local disk; see
        `Backend.publish_group`. The taxonomy may then be another one, where nothing that stays is
        of the old one: every split is given, and there are no soft targets. Where there are neither
        labels nor soft targets, another one is taken unasked, and with `overwrite` another dataset.

        Args:
            splits: segments by name.
            taxonomy: classes of the dataset.
            source: where they come from, for people.
            protocol: the windows to be usual with this store; None leaves what is stored.
            list_fps: frames per second of lists whose times are frames; None likewise.
            overwrite: replace what is there.

        Returns:
            Names of the splits that were written.

        Raises:
            BadAnnotations: they do not fit the taxonomy, see `Segments.check`; or two of them have
                segments in common.
            FingerprintMismatch: the store has another dataset, or another taxonomy, that may not be
                replaced.
            AlreadyExists: a split has other labels, the classes other lists of many-shot and tail
                classes, or the store other settings, and `overwrite` is false; or a split that
                stays has some of these segments; or soft targets are of segments whose uids are
                now those of others.
            DamagedStore: a split that stays, or soft targets, can't be read, so that this can't be
                told.
        """
        splits = {split: _composed(segments) for split, segments in splits.items()}
        for split, segments in splits.items():
            check_name(split, "split")
            segments.check(taxonomy, f"{split}, segment {{}}".format)
        with self.backend.exclusively("labels"):
            if overwrite:
                self._forget_other_dataset(taxonomy.dataset)
            self._require_dataset(taxonomy.dataset)
            there = [] if overwrite else self.splits()
            kept = {name: own for name, own in splits.items() if name in there}
            settings = self._new_settings(protocol, list_fps, overwrite)
            # Units say what their group was: with new settings, the same labels are written again.
            new = {n: own for n, own in splits.items() if settings or n not in kept}
            self._check_classes(taxonomy, splits, overwrite)
            self._check_labels(kept, taxonomy, overwrite)
            self._check_apart(splits)
            self._check_targets(new)
            if new:
                about = {
                    "dataset": taxonomy.dataset,
                    "taxonomy": taxonomy.fingerprint,
                    "source": source,
                }
                self.backend.publish_group(
                    "labels",
                    {"taxonomy": taxonomy.to_dict(), **settings},
                    {name: (segments.arrays(), about) for name, segments in new.items()},
                )
            if len(new) < len(splits):  # by a call that was killed, and may have left something
                self.backend.remove_leftovers()
        return list(new)

    def _forget_other_dataset(self, dataset: str) -> None:
        """Forget which dataset the store is of, if another than `dataset`, where only its name and
        classes are left of it. Killed on the way, the store has no classes, which is no damage."""
        if self.dataset in (None, dataset) or self.splits() or self.backend.units("targets"):
            return
        self.backend.set_group_attributes("labels", {"taxonomy": None})
        self.backend.set_group_attributes("", {"dataset": None})

    def _new_settings(
        self, protocol: Protocol | None, list_fps: float | None, overwrite: bool
    ) -> dict[str, Any]:
        """Settings that are not stored yet; other ones are replaced with `overwrite` only."""
        given: dict[str, Any] = {} if protocol is None else {PROTOCOL: asdict(protocol)}
        given |= {} if list_fps is None else {LIST_FPS: list_fps}
        stored = self._settings() if given else {}
        new = {k: v for k, v in given.items() if v != stored[k]}
        other = [name for name in new if stored[name] is not None]
        if other and not overwrite:
            raise AlreadyExists(
                f"the store has other settings ({', '.join(other)})",
                where=self.path,
                expected=", ".join(str(stored[name]) for name in other),
                found=", ".join(str(new[name]) for name in other),
                hint="--overwrite replaces them, and the labels",
            )
        return new

    def _check_classes(self, taxonomy: Taxonomy, given: Collection[str], overwrite: bool) -> None:
        """Refuse another taxonomy than the store's where something of the old one would stay."""
        known = self._taxonomy()
        if known is None or known.fingerprint == taxonomy.fingerprint:
            return
        there = self.splits()
        staying = [f"labels/{name}" for name in there if name not in given]
        staying += [f"targets/{name}" for name in self.backend.units("targets")]
        if (overwrite or not there) and not staying:
            return
        hint = "--overwrite replaces it and the labels, or use one store per taxonomy"
        if staying:
            hint = f"{removing(self.path, *staying)}; or use one store per taxonomy"
        raise FingerprintMismatch(
            "the store has another taxonomy"
            + (f", and {', '.join(staying)} of it" if staying else ""),
            where=self.path,
            expected=described(known),
            found=described(taxonomy),
            hint=hint,
        )

    def _check_labels(
        self, kept: Mapping[str, Segments], taxonomy: Taxonomy, overwrite: bool
    ) -> None:
        """Refuse other labels than those that are `kept`, and other lists of classes."""
        known = self._taxonomy()
        other = [
            name
            for name, segments in kept.items()
            if self.backend.read(f"labels/{name}")[1][CHECKSUMS] != checksums(segments.arrays())
        ]
        if other:
            raise AlreadyExists(
                f"the store has other labels of {', '.join(other)}",
                where=self.path,
                hint="--overwrite replaces them",
            )
        if overwrite or known is None or not self.splits():  # lists without labels say nothing
            return
        if known.to_dict() != taxonomy.to_dict():
            raise AlreadyExists(
                "the store has other lists of many-shot or tail classes",
                where=self.path,
                hint="--overwrite replaces them, and the labels",
            )

    def _check_apart(self, splits: Mapping[str, Segments]) -> None:
        """Refuse segments that another split of the store has, say of an import under another name.

        A segment in two splits would be seen twice by teachers, and be trained on and tested with.
        One that has another uid there is told: datasets do have rows twice.
        """
        for one, other in combinations(splits, 2):
            if shared := _shared(splits[one], splits[other]):
                raise BadAnnotations(
                    f"the splits {one!r} and {other!r} have {shared} segments in common",
                    hint="a segment may be in one split",
                )
            _tell_twins(one, splits[one], other, splits[other])
        for split in self.splits():
            if split in splits:
                continue
            there = self.labels(split)
            shared = sum(_shared(segments, there) for segments in splits.values())
            if shared:
                raise AlreadyExists(
                    f"the split {split!r} has {shared} of these segments already",
                    where=self.path,
                    hint="if it is of an earlier import: " + removing(self.path, f"labels/{split}"),
                )
            for name, segments in splits.items():
                _tell_twins(name, segments, split, there)

    def _check_targets(self, splits: Mapping[str, Segments]) -> None:
        """Refuse to give uids that soft targets speak of to other stretches of video: what a
        teacher said of one segment would be taught, and scored, as if it were said of another."""
        targets = self.backend.units("targets")
        moved, others = self._moved(splits) if targets else ([], {})
        stale = {}
        for name in targets if others else ():
            key = f"targets/{name}"
            try:
                count = self._spoken_of(key, np.array(moved, np.str_), others)
            except (DamagedStore, ReadFailed):
                if moved:
                    raise
                continue  # whether they speak of new uids can't be told
            if count:
                stale[key] = count
        if not stale:
            return
        said = ", ".join(f"{key} ({count})" for key, count in stale.items())
        raise AlreadyExists(
            f"soft targets are of segments with another video or start in these labels: {said}",
            where=self.path,
            hint=f"{removing(self.path, *stale)}, import again, then have "
            "their teachers say what they expect now (antcache teacher predict, or import "
            "predictions)",
        )

    def _check_of_labels(self, key: str, targets: SoftTargets) -> None:
        """Refuse soft targets that are not of the labels that the store has now.

        Raises:
            FingerprintMismatch: they are of another taxonomy, or say that uids are other stretches
                of video.
            DamagedStore: the labels can't be read, so that this can't be told.
        """
        theirs = targets.attributes.get("taxonomy")
        if theirs != self.taxonomy.fingerprint:
            raise FingerprintMismatch(
                "soft targets for another taxonomy",
                where=f"{self.path}: {key}",
                expected=self.taxonomy.fingerprint,
                found=theirs,
            )
        if targets.moment is None:
            return
        uid, moment = targets.uid[targets.valid], targets.moment[targets.valid]
        asked = anchor_of(targets.attributes)
        other = [elsewhere(uid, moment, self.labels(split), asked) for split in self.splits()]
        if len(moved := np.concatenate([np.empty(0, np.str_), *other])):
            raise FingerprintMismatch(
                "soft targets for other segments of these uids than the store now has",
                where=f"{self.path}: {key}",
                expected="the same videos and times",
                found=f"{len(moved)} of {len(uid)} others, the first one {moved[0]}",
                hint="labels were replaced in between: have the teacher say anew what it expects "
                "(antcache teacher predict), or train it anew",
            )

    def _spoken_of(self, key: str, moved: NDArray[np.str_], others: Mapping[str, Segments]) -> int:
        """How many segments, of those `moved` or in `others`, soft targets were made for when they
        were other stretches of video."""
        arrays, attributes = self.backend.open(key)
        with self.backend.reading(key):  # the logits may be large, and are not asked
            check_targets(arrays, attributes, None, self.backend.where(key), exact=False)
            valid = np.asarray(arrays["valid"][...])
            uid = np.asarray(arrays["uid"][...])[valid]
            if "moment" not in arrays:
                return int(np.isin(uid, moved).sum())
            moment, anchor = np.asarray(arrays["moment"][...])[valid], anchor_of(attributes)
        return sum(len(elsewhere(uid, moment, new, anchor)) for new in others.values())

    def _moved(self, splits: Mapping[str, Segments]) -> tuple[list[str], dict[str, Segments]]:
        """Uids that the store has of other videos or starts than `splits` do, and the segments in
        these, by split, that it does not have as they are."""
        old = []
        for split in self.splits():
            with suppress(DamagedStore):  # labels that come in place of damaged ones mend them
                old.append(self.labels(split))
        moved: list[str] = []
        others: dict[str, Segments] = {}
        for split, new in splits.items():
            there = np.zeros(len(new), bool)
            for each in old:
                rows = each.locate(new.uid)
                known = np.flatnonzero(rows >= 0)
                was, now = each[rows[known]], new[known]
                far = (was.video != now.video) | (np.abs(was.start_s - now.start_s) > SAME_S)
                moved += now.uid[far].tolist()
                same = (was.video == now.video) & (was.start_s == now.start_s)
                lacking = np.isnan(was.stop_s) & np.isnan(now.stop_s)
                there[known[same & (lacking | (was.stop_s == now.stop_s))]] = True
            if not there.all():
                others[split] = new[~there]
        return moved, others

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

    def _require(self, name: str, there: list[str], kind: str, command: str) -> None:
        if name not in there:
            raise MissingKey(
                f"the store has no {kind} {name!r}",
                where=self.path,
                found=", ".join(there) or "none",
                hint=f"{command} writes it",
            )


def _tell_twins(one: str, first: Segments, other: str, second: Segments) -> None:
    """Warn of segments of two splits that have all in common but their uids."""
    shared = np.isin(first.video, np.unique(second.video))
    if not shared.any():
        return
    there = set(_without_uids(second))
    if twins := sum(each in there for each in _without_uids(first[shared])):
        log.warning(
            "%d segments of %s are in %s too, at the same times of the same videos and of the same "
            "class, under other uids: what is learned from the one is tested with the other",
            twins,
            one,
            other,
        )


def _without_uids(segments: Segments) -> Iterator[tuple[str, float, float, int]]:
    stop_s = np.nan_to_num(segments.stop_s, nan=-1.0)  # lists may lack stops
    columns = (segments.video, segments.start_s, stop_s, segments.action)
    return zip(*(column.tolist() for column in columns), strict=True)


def _shared(one: Segments, other: Segments) -> int:
    """How many segments two splits have in common."""
    return int(np.isin(one.uid, other.uid).sum())


def _composed(segments: Segments) -> Segments:
    """Segments whose videos are called as features are: in Unicode's composed form."""
    if all(unicodedata.is_normalized("NFC", video) for video in segments.video):
        return segments
    video = [unicodedata.normalize("NFC", video) for video in segments.video]
    return replace(segments, video=np.array(video))
