"""Members that a sweep finds in its folder: whether they are finished, and of this plan and store.

Promise: nothing is trained, changed or averaged while a member is there that was trained with other
settings, or on what has another fingerprint now (`training.fingerprints`). No feature is read, and
a member whose account lacks an entry, as earlier versions kept it, is not asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antcache.annotations import Protocol
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import latest_checkpoint
from antcache.student.runs.folder import tidy
from antcache.student.runs.place import CHECKPOINTS, CONFIG, RESULT, read_config
from antcache.student.training import fingerprints
from antcache.student.training.training_data import lent_by, look_at_windows
from antcache.untrusted import read_json

Member = tuple[str, StudentConfig]
"""Folder, relative to the sweep's, and config."""

COMPARED = ("gap_s", "anchor", "num_frames", "rate")
"""Of a protocol; what else is in it shows in the windows alone."""


def unfinished(store: Store, folder: Path, members: Sequence[Member]) -> list[Member]:
    """The members that are still to be trained; those that have begun are of this plan and store.

    Raises:
        BadConfig: a run in a member's folder is of other settings.
        FingerprintMismatch: one was trained on something else than the store holds now.
        MissingKey, MissingFeature, DamagedStore, ...: the store lacks what one was trained on.
    """
    done = {name for name, config in members if _finished(folder / name, config)}
    begun = [(name, config) for name, config in members if name in done or _kept(folder / name)]
    if begun:
        _check_trained_on(store, folder, begun)
    for name in done:
        tidy(folder / name)
    return [(name, config) for name, config in members if name not in done]


def _finished(path: Path, config: StudentConfig) -> bool:
    """Whether the run is done; one of other settings is refused."""
    if not (path / CONFIG).exists():
        return False
    there, wanted = read_config(path).identity, config.identity
    differ = [key for key, value in wanted.items() if there[key] != value]
    if differ:
        raise BadConfig(
            "a run of other settings is here",
            where=path,
            expected=f"{differ[0]} = {wanted[differ[0]]}",
            found=there[differ[0]],
            hint="choose another folder for this sweep",
        )
    return (path / RESULT).exists()


def _kept(path: Path) -> bool:
    """Whether a run has anything to go on with; else it begins again, with what there is then."""
    return (path / CONFIG).exists() and latest_checkpoint(path / CHECKPOINTS) is not None


def _check_trained_on(store: Store, folder: Path, begun: Sequence[Member]) -> None:
    """Refuse members that were trained on something else than the store holds.

    What costs little is looked at first. All members share windows, and some share soft targets.

    Raises:
        FingerprintMismatch: names the member, and what differs.
    """
    accounts = {name: _account(folder / name) for name, _ in begun}
    (first, config), *_ = begun
    if not config.data.stream and isinstance(stream := accounts[first].get("stream"), str):
        config = config.replace(stream=tuple(stream.split(",")))  # more may have come since then
    streams = [store.stream(name) for name in config.data.stream or (store.only_stream(),)]
    protocol = config.window.over(store.protocol)
    cheap = fingerprints.of_store(store.taxonomy, streams)
    for name, account in accounts.items():
        _compare(folder / name, account, cheap, protocol)
    windows = look_at_windows(store, config)
    for name, account in accounts.items():
        _compare(folder / name, account, windows)
    taught: dict[tuple[str, ...], dict[str, str]] = {}
    for name, config in begun:
        targets = config.distillation.targets
        if not targets:
            continue
        if targets not in taught:
            taught[targets] = fingerprints.of_targets(map(store.targets, targets))
            taught[targets] |= fingerprints.of_shares(lent_by(store, config))
        _compare(folder / name, accounts[name], taught[targets])


def _account(path: Path) -> Mapping[str, Any]:
    return dict(read_json(path / CONFIG))  # `read_config` has found that it is one


def _compare(
    path: Path,
    account: Mapping[str, Any],
    now: Mapping[str, str],
    protocol: Protocol | None = None,
) -> None:
    """Compare what a member's account says with what the store holds, as far as it says it.

    Raises:
        FingerprintMismatch: they differ.
    """
    differ = [name for name, value in now.items() if account.get(name, value) != value]
    said = [fingerprints.in_words(differ)] if differ else []
    then = account.get("protocol")
    if protocol is not None and isinstance(then, Mapping):
        said += [
            f"another {name} ({value}, not {then[name]})"
            for name in COMPARED
            if then.get(name, value := getattr(protocol, name)) != value
        ]
    if said:
        raise FingerprintMismatch(
            f"the store holds {' and '.join(said)} than when this member was trained",
            where=path,
            hint="choose another folder for this sweep, or bring back what the store held",
        )
