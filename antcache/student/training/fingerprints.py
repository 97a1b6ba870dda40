"""Fingerprints of what a run learns from: hashes by which it is known again, and words for them.

Promise: two runs whose fingerprints differ learned from other classes, features, windows, labels or
soft targets. Whoever finds that says so in words: a hash helps nobody. No feature is read: stores
keep checksums of the rows of each video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from antcache.annotations import Taxonomy
from antcache.store import SoftTargets, Stream
from antcache.store.format import checksums, fingerprint
from antcache.windows.split import SplitWindows

CLASSES, STREAMS, TARGETS, LATER = "taxonomy", "stream fingerprint", "soft targets", "later actions"
SHARES = "weights of soft targets"
WINDOWS, CONTENTS = " windows", " contents"
"""What the names of windows' fingerprints end with, after the name of a split: which windows there
are, and what is in them."""

_WORDS = {
    CLASSES: "other classes",
    STREAMS: "features of other settings",
    TARGETS: "other soft targets",
    LATER: "other later actions",
    SHARES: "other weights of the ensemble",
}
_SPLITS = {"train": "training"}


def of_store(taxonomy: Taxonomy, streams: Iterable[Stream]) -> dict[str, str]:
    """Of classes and features."""
    return {
        CLASSES: taxonomy.fingerprint,
        STREAMS: ",".join(stream.fingerprint for stream in streams),
    }


def of_windows(splits: Mapping[str, SplitWindows], *, frames: bool) -> dict[str, str]:
    """Of the windows of each split, their labels, with those of `frames` if these are learned from,
    and their rows."""
    known_by = {f"{name}{WINDOWS}": found.fingerprint for name, found in splits.items()}
    for name, found in splits.items():
        known_by[f"{name}{CONTENTS}"] = found.contents(frames=frames)
    return known_by


def of_targets(soft: Iterable[SoftTargets]) -> dict[str, str]:
    """Of what each teacher says: which stretches of video that is of shows in the windows."""
    said = ({k: v for k, v in each.arrays().items() if k != "moment"} for each in soft)
    return {TARGETS: ",".join(fingerprint(checksums(arrays)) for arrays in said)}


def of_shares(shares: tuple[Sequence[float], Sequence[float]] | None) -> dict[str, str]:
    """Of the weights and temperatures that an ensemble lends to its members, if one does."""
    if shares is None:
        return {}
    return {SHARES: fingerprint({"shares": [list(each) for each in shares]})}


def of_later(later: Tensor) -> dict[str, str]:
    """Of the labels (N, L) of the actions after those that the windows are of."""
    return {LATER: fingerprint(checksums({"later": later.numpy()}))}


def is_fingerprint(name: str) -> bool:
    """Whether an entry of a run's identity is a fingerprint; a setting otherwise."""
    return name in _WORDS or name.endswith((WINDOWS, CONTENTS))


def in_words(names: Iterable[str]) -> str:
    """What a store holds whose fingerprints of these names are others than those of a run."""
    names = sorted(names)
    said = [_WORDS[name] for name in names if name in _WORDS]
    others = {name.removesuffix(WINDOWS) for name in names if name.endswith(WINDOWS)}
    within = {name.removesuffix(CONTENTS) for name in names if name.endswith(CONTENTS)} - others
    if others:
        said.append(f"other {_of(others)} windows (labels, protocol or rows of features)")
    if within:
        said.append(f"other features, videos or labels of frames in {_of(within)} windows")
    return " and ".join(said)


def _of(splits: Iterable[str]) -> str:
    return " and ".join(_SPLITS.get(split, split) for split in sorted(splits))
