"""How a store lies in a local folder, for whoever reads it: its groups, its units, their arrays.

Promise: everything is found and opened by `Inside`, so that nothing is read which does not lie in
the store. What stands where a unit would, but is none, is listed like one, and refused when it is
opened; other files are not looked at.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from pathlib import Path

from antcache.names import is_name
from antcache.store.backend import MARK_BYTES, Backend, Count, LazyArray, Unit
from antcache.store.faults import UNREADABLE, lost, refused
from antcache.store.format import GROUPS, MARK, STAGING, is_key, may_lie_in
from antcache.store.location import Location
from antcache.store.reading.inside import FOLDER, LINK, OTHER, Inside
from antcache.store.reading.mapped import MappedArray
from antcache.store.reading.pieces import Layout, LocalSource, PiecedArray
from antcache.store.seal import attributes_of, intact, mended


class FolderTree(Backend):
    """A store in a local folder.

    Attributes:
        suffix: what the name of a unit's file or folder ends in.
        unit_kinds: what stands where a unit is, or would be.
    """

    root: Path
    suffix: str
    unit_kinds: tuple[str, ...]

    @abstractmethod
    def _open_at(self, path: Path) -> Unit:
        """Open the unit at `path`."""

    @abstractmethod
    def _damage_at(self, path: Path, count: Count) -> list[str]:
        """See `Backend.damage`."""

    def _is_unit(self, key: str, kind: str) -> bool:
        """Whether what stands at `key`, one of `unit_kinds`, is a unit or what is left of one."""
        return True

    def _arrays(self, found: dict[str, Layout]) -> dict[str, LazyArray]:
        """Arrays that are read where they lie."""
        arrays: dict[str, LazyArray] = {}
        for name, layout in found.items():
            mapped = self.memory_map and layout.mappable
            arrays[name] = (
                MappedArray(layout, self.inside)
                if mapped
                else PiecedArray(layout, LocalSource(self.inside))
            )
        return arrays

    @property
    def inside(self) -> Inside:
        """What opens the files of the store."""
        return Inside(self.root)

    def location(self, key: str) -> Path:
        """Where the unit `key` lies once it is published."""
        return self.root / f"{key}{self.suffix}"

    def _name(self, path: Path) -> str:
        """Name of a file or folder relative to the root."""
        return path.relative_to(self.root).as_posix()

    def has(self, key: str) -> bool:
        """See `Backend`."""
        return is_key(key) and self.inside.kind(f"{key}{self.suffix}") in self.unit_kinds

    def units(self, key: str) -> list[str]:
        """See `Backend`."""
        found = self.inside.entries(key).items()
        names = ((name.removesuffix(self.suffix), name, kind) for name, kind in found)
        return sorted(
            unit
            for unit, name, kind in names
            if name.endswith(self.suffix)
            and may_lie_in(key, unit)
            and kind in self.unit_kinds
            and self._is_unit(f"{key}/{unit}".lstrip("/"), kind)
        )

    @classmethod
    def recognises(cls, root: Location) -> bool:
        """See `Backend`."""
        path = Path(root)
        if not path.is_dir():
            return False
        text = _text(Inside(path), cls.group_file) or b""
        if MARK in attributes_of(text):
            return True
        if intact(text):  # the file of something inside a store
            return False
        # A damaged mark is known by what it was, or by what lies beside it.
        beside = (_text(Inside(path), f"{key}/{cls.group_file}") or b"" for key in GROUPS)
        return any(b'"seal"' in each for each in beside) or (
            len(text) <= MARK_BYTES and MARK in attributes_of(mended(text) or b"")
        )

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        # A folder without attributes is damaged if it holds units, else none of ours.
        return [
            name
            for name, kind in sorted(self.inside.entries(key).items())
            if kind == FOLDER
            and may_lie_in(key, name)
            and self._is_group(f"{key}/{name}".lstrip("/"))
        ]

    def _is_group(self, key: str) -> bool:
        file = self.inside.kind(f"{key}/{self.group_file}")
        return file is not None or bool(self.units(key))

    def group_text(self, key: str) -> bytes | None:
        """See `Backend`."""
        return _text(self.inside, f"{key}/{self.group_file}".lstrip("/"))

    def strange(self) -> dict[str, str]:
        """See `Backend`."""
        streams = self.inside.entries("features")
        names = (
            STAGING,
            *GROUPS,
            *(f"features/{name}" for name in streams if is_name(name)),
        )
        kinds = {name: self.inside.kind(name) for name in names}
        return {name: kind for name, kind in kinds.items() if kind in (LINK, OTHER)}

    def _damage(self, key: str, count: Count) -> list[str]:
        return self._damage_at(self.location(key), count)

    def _open(self, key: str) -> Unit:
        return self._open_at(self.location(key))

    def _require_fetched(self, key: str) -> None:
        """Raise `ReadFailed` if a Git LFS pointer stands in the unit `key`, which is about to be
        replaced; what is damaged may be."""
        with suppress(*UNREADABLE):
            self._open(key)


def _text(inside: Inside, name: str) -> bytes | None:
    """What is in a small file, None if it is not there, or no file of a store."""
    try:
        return inside.read(name)
    except OSError as error:
        if lost(error):
            return None
        raise refused(inside.root / name, error) from error
