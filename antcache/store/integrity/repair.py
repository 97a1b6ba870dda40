"""Take what is damaged out of a store, so that running the same commands again restores it.

Promise: only what `verify` names, and names again when its turn comes, is touched; every intact
byte stays where it is. A unit leaves the store as a whole, out of sight first. The attributes of a
group are written again only where they are certain: one bit was flipped and the seal says which, or
the intact units carry them and agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from antcache import __version__
from antcache.annotations import Taxonomy
from antcache.errors import AntcacheError
from antcache.progress import Progress, silent
from antcache.store.backend import METADATA, PLACE, Attributes, Backend
from antcache.store.features import Stream
from antcache.store.format import CONVERTED_FROM, FORMAT, MARK, STAGING, TOKEN_FORMAT
from antcache.store.integrity.verify import (
    INDEX,
    MEANING,
    DamagedPart,
    VerifyReport,
    check_unit,
    verify,
)
from antcache.store.seal import mended
from antcache.store.store import Store

logger = logging.getLogger(__name__)

MENDED_BYTES = 16 << 10
"""Longest group file in which a flipped bit is searched for: a second. Only the classes of a large
dataset take more, and every split carries them."""

GAP_RULE = ("step_s", "max_age_s")
ONE_BIT = "one flipped bit was flipped back; the seal matches again"


@dataclass(frozen=True)
class RepairAction:
    """What was done, or would be, about one key.

    Attributes:
        key: the unit or group; `""` is the root.
        done: `dropped`, `restored`, or `left` where nothing certain can be done.
        what: what was damaged, or how it was restored.
        next: what brings it back, or what is left to do.
    """

    key: str
    done: str
    what: str
    next: str = ""


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What `repair` has found and done.

    Attributes:
        verified: the store as it was before.
        actions: one for each damaged unit or group, and for what had to go with it.
        dry_run: nothing was done.
    """

    verified: VerifyReport
    actions: tuple[RepairAction, ...]
    dry_run: bool

    @property
    def intact(self) -> bool:
        """Whether nothing that is in the store now is damaged."""
        if self.dry_run:
            return self.verified.intact
        return all(action.done != "left" for action in self.actions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "path": self.verified.path,
            "dry_run": self.dry_run,
            "intact": self.intact,
            "actions": [asdict(action) for action in self.actions],
            "verified": self.verified.to_dict(),
        }


def repair(
    store: Store | Backend,
    *,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> RepairReport:
    """Verify a store, drop its damaged units, restore its damaged groups, sweep up after killed
    writers.

    Args:
        store: the store, or its backend (`find_backend` gives one where the root is damaged).
        dry_run: only say what would be done.
        workers: files that are read at once; by default one per core, 8 at most.
        progress: as in `verify`.

    Raises:
        NotAStore: it has a format that this version does not read.
        WriteFailed: the disk refused; what was done so far is done, and running it again goes on.
        AntcacheError: something can't be read now, and may be intact.
    """
    backend = store.backend if isinstance(store, Store) else store
    verified = verify(backend, workers=workers, progress=progress)
    run = _Repair(backend, verified, dry_run)
    would = "would be " if dry_run else ""
    wrong, units = len(verified.damaged), verified.units
    logger.info("repair %s: %d damaged things in %d units", backend.root, wrong, units)
    actions = []
    for action in run.actions():
        actions.append(action)
        logger.info("%s: %s%s (%s)", action.key or "(root)", would, action.done, action.what)
    if not dry_run:
        backend.remove_leftovers()
    return RepairReport(verified=verified, actions=tuple(actions), dry_run=dry_run)


class _Repair:
    """One run: `actions` does what it yields, unless `dry_run`."""

    def __init__(self, backend: Backend, verified: VerifyReport, dry_run: bool) -> None:
        self.backend = backend
        self.dry_run = dry_run
        own = (METADATA, MEANING)
        self.indexes = [f.key for f in verified.groups_damaged if f.what == INDEX]
        self.foreign = {
            f.key: f.what for f in verified.groups_damaged if f.what not in (*own, INDEX)
        }
        self.groups = {f.key: f.what for f in verified.groups_damaged if f.what in own}
        self.units: dict[str, list[str]] = {}
        self.left: dict[str, DamagedPart] = {}
        for finding in verified.units_damaged:
            if finding.what in (PLACE, MEANING):  # intact: nothing that was stored is thrown away
                self.left[finding.key] = finding
            else:
                self.units.setdefault(finding.key, []).append(finding.what)

    def actions(self) -> Iterator[RepairAction]:
        """Groups first: they say which command writes their units."""
        for key, what in self.foreign.items():
            yield self._foreign(key, what)
        for key in self.groups:
            yield from self._group(key)
        yield from self._exchanged()
        for key in self.indexes:
            if not self.dry_run:
                self.backend.drop_index(key)
            yield RepairAction(key, "dropped", INDEX, "antcache store index writes it again")
        for key in self.units:
            yield self._drop(key)
        for key, finding in self.left.items():
            yield RepairAction(key, "left", finding.what, self._next(finding))

    def _foreign(self, key: str, what: str) -> RepairAction:
        """Take away what leads out of the store; nothing that it leads to is touched."""
        if key != STAGING:  # somebody may have put a large stream elsewhere
            hint = "put the folder itself in its place, or remove it"
            return RepairAction(key, "left", what, hint)
        if not self.dry_run:
            self.backend.remove_foreign(key)
        return RepairAction(key, "dropped", what)

    def _next(self, finding: DamagedPart) -> str:
        if finding.what == PLACE:
            return "it says that it belongs elsewhere; move it there, or remove it"
        return f"remove it, or write it again ({self._command(finding.key)})"

    # Units

    def _drop(self, key: str, why: str = "") -> RepairAction:
        """Take a unit out of the store: a damaged one, if nobody has seen to it meanwhile, or
        another for the reason `why`."""
        command = self._command(key)
        what = why or ", ".join(self.units[key])
        if self.dry_run:
            return RepairAction(key, "dropped", what, command)
        with self.backend.claim(key) as ours:
            if not ours:
                return RepairAction(key, "left", what, "another process works on it; run again")
            if not why and not check_unit(self.backend, key):
                return RepairAction(key, "restored", "another process did it meanwhile")
            self.backend.remove(key)
        return RepairAction(key, "dropped", what, command)

    def _command(self, key: str) -> str:
        """The command that writes the unit `key`."""
        kind, _, rest = key.partition("/")
        if kind == "labels":
            return "antcache annotations import --overwrite"
        if kind == "targets":
            return "antcache teacher train or predict, or antcache import predictions"
        try:
            stream = self.backend.group_attributes(f"features/{rest.partition('/')[0]}")
        except AntcacheError:
            stream = {}
        config = stream.get("config")
        if isinstance(config, dict) and CONVERTED_FROM in config:
            return "antcache store convert"
        if isinstance(config, dict) and "decoding" in config:
            return "antcache extract"
        source = stream.get("source")
        return f"the command that wrote the stream ({source or 'antcache extract or import'})"

    # Groups

    def _group(self, key: str) -> Iterator[RepairAction]:
        """Restore the attributes of a group where they are certain."""
        senseless = self.groups[key] == MEANING  # as it was written, so that nothing is thrown away
        text = None if senseless else self.backend.group_text(key)
        if text is not None and len(text) <= MENDED_BYTES and (right := mended(text)):
            yield self._restore(key, right, ONE_BIT)
            return
        intact = self._intact_units(key)
        attributes, why = self._attributes(key, intact)
        if attributes is not None:
            yield self._restore(key, self.backend.sealed_group(key, attributes), why)
        elif key == "labels" and not senseless:
            # Labels without their classes mean nothing, and are imported again in a second.
            for split in intact:
                yield self._drop(split, "its classes are lost")
            yield self._restore(
                key, self.backend.sealed_group(key, {}), "emptied: no split knows it"
            )
        elif key.startswith("features/") and not intact and not senseless:
            # Writing the stream again creates it, once the folder is empty.
            for video in [unit for unit in self.units if unit.startswith(f"{key}/")]:
                yield self._drop(video)
                del self.units[video]
            if not self.dry_run:
                self.backend.set_group_text(key, None)
            yield RepairAction(
                key,
                "dropped",
                "metadata; no intact video knows it",
                "antcache extract or import creates the stream again",
            )
        else:
            yield RepairAction(key, "left", why, "put it back from a backup")

    def _exchanged(self) -> Iterator[RepairAction]:
        """Restore groups whose file is an intact one of somebody else: their units all say so, and
        carry what was there."""
        groups = {
            key.rpartition("/")[0] for key, found in self.left.items() if found.what == MEANING
        }
        for group in sorted(groups - {"targets"}):
            keys = [f"{group}/{name}" for name in self.backend.units(group)]
            if not all(key in self.left and self.left[key].what == MEANING for key in keys):
                continue
            units = {key: self.backend.open(key)[1] for key in keys}
            attributes, why = self._attributes(group, units)
            if attributes is not None and attributes != self.backend.group_attributes(group):
                for key in keys:
                    del self.left[key]
                yield self._restore(group, self.backend.sealed_group(group, attributes), why)

    def _restore(self, key: str, text: bytes, how: str) -> RepairAction:
        if not self.dry_run:
            self.backend.set_group_text(key, text)
        return RepairAction(key, "restored", how)

    def _intact_units(self, key: str) -> dict[str, Attributes]:
        """Attributes of the intact units that know a group, by key; for the root, all labels."""
        group = key or "labels"
        if group in ("features", "targets"):  # there is nothing to know
            return {}
        keys = [f"{group}/{name}" for name in self.backend.units(group)]
        bad = {*self.units, *self.left}
        return {k: self.backend.open(k)[1] for k in keys if k not in bad}

    def _attributes(self, key: str, intact: dict[str, Attributes]) -> tuple[Attributes | None, str]:
        """Attributes that the group `key` must have had, or None; and why."""
        if key in ("features", "targets"):
            return {}, "it has no attributes"
        if key == "":
            return self._root(intact)
        told = [self.backend.group_at_publishing(unit) or {} for unit in intact]
        if not told:
            return None, "no intact unit knows it"
        group = told[0]
        if any(each != group for each in told):
            # Only the rule for gaps may change while a stream is written.
            told = [{k: v for k, v in each.items() if k not in GAP_RULE} for each in told]
            group = told[0]
        if any(each != group for each in told):
            return None, "its units do not agree on it"
        if not all(_fits(key, group, unit) for unit in intact.values()):
            return None, "what its units carry does not fit their fingerprint"
        return group, f"{len(told)} intact units carry it and agree{_about_gaps(key, group)}"

    def _root(self, intact: dict[str, Attributes]) -> tuple[Attributes | None, str]:
        """Attributes of the root, whose format follows from its streams."""
        number = TOKEN_FORMAT if self._has_tokens() else FORMAT
        mark = {"format": number, "version": __version__}
        if self.groups.get("") == MEANING:
            how = f"format {number}, which its streams of tokens make it"
            return {**self.backend.group_attributes(""), MARK: mark}, how
        names = {unit.get("dataset") for unit in intact.values()}
        if "labels" not in self.groups:
            taxonomy = self.backend.group_attributes("labels").get("taxonomy")
            names |= {taxonomy["dataset"]} if taxonomy else set()
        if len(names) > 1:
            return None, "its labels do not agree on the dataset"
        name = names.pop() if names else None
        how = f"dataset {name}" if name else "the dataset's name is lost; importing labels gives it"
        return {MARK: mark, "dataset": name}, how

    def _has_tokens(self) -> bool:
        """Whether a stream, or an intact video of one, says that its rows are tokens."""
        for name in self.backend.groups("features"):
            key = f"features/{name}"
            if key not in self.groups:
                told = [self.backend.group_attributes(key)]
            else:
                units = self._intact_units(key)
                told = [self.backend.group_at_publishing(unit) or {} for unit in units]
            if any(each.get("grid") is not None for each in told):
                return True
        return False


def _about_gaps(key: str, group: Attributes) -> str:
    """What to add where the rule for gaps may have been set after the videos were written."""
    imported = key.startswith("features/") and "decoding" not in group.get("config", {})
    return "; if it was imported, import it again to set its rule for gaps" if imported else ""


def _fits(key: str, group: Attributes, unit: Attributes) -> bool:
    """Whether a group's attributes have the fingerprint that a unit was written under."""
    try:
        if key == "labels":
            taxonomy = Taxonomy.from_dict(group["taxonomy"])
            return bool(taxonomy.fingerprint == unit["taxonomy"])
        fields = {k: v for k, v in group.items() if k != "fingerprint"}
        stream = Stream(name=key.rpartition("/")[2], **fields)
        return bool(stream.fingerprint == group["fingerprint"] == unit["fingerprint"])
    except (KeyError, TypeError, AntcacheError):
        return False
