"""How a store lies in a local folder, for whoever reads it: its groups, its units, their arrays.

Promise: everything is found and opened by `Inside`, so that nothing is read which does not lie in
the store. What stands where a unit would, but is none, is listed like one, and refused when it is
opened; other files are not looked at.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from antcache.store.backend import Backend, Unit
from antcache.store.faults import lost, refused
from antcache.store.format import GROUPS, STAGING, LazyArray, is_key, join, may_lie_in
from antcache.store.reading.inside import FOLDER, LINK, OTHER, Inside
from antcache.store.reading.mapped import MappedArray
from antcache.store.reading.pieces import ArrayLayout, LocalSource, PiecedArray
from antcache.store.reading.proof import Count
from antcache.text import is_name


class FolderTree(Backend):
    """A store in a local folder.

    Attributes:
        suffix: what the name of a unit's file or folder ends in.
        unit_kinds: what stands where a unit is, or would be.
    """

    root: Path
    suffix: str
    unit_kinds: tuple[str, ...]

    def __init__(self, root: Path, *, memory_map: bool = True) -> None:
        super().__init__(root)
        self._memory_map = memory_map

    @abstractmethod
    def _open_at(self, path: Path) -> Unit:
        """Open the unit at `path`."""

    @abstractmethod
    def _damaged_parts_at(self, path: Path, count: Count) -> list[str]:
        """See `Backend.damaged_parts`."""

    def _is_unit(self, key: str, kind: str) -> bool:
        """Whether what stands at `key`, one of `unit_kinds`, is a unit or what is left of one."""
        return True

    def _arrays(self, found: dict[str, ArrayLayout]) -> dict[str, LazyArray]:
        """Arrays that are read where they lie."""
        return {
            name: MappedArray(layout, self.inside)
            if self._memory_map and layout.mappable
            else PiecedArray(layout, LocalSource(self.inside))
            for name, layout in found.items()
        }

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
            and self._is_unit(join(key, unit), kind)
        )

    def _folders(self, key: str) -> list[str]:
        return sorted(name for name, kind in self.inside.entries(key).items() if kind == FOLDER)

    def _has_group_file(self, key: str) -> bool:
        return self.inside.kind(join(key, self.group_file)) is not None

    def group_text(self, key: str) -> bytes | None:
        """See `Backend`."""
        try:
            return self.inside.read(join(key, self.group_file))
        except OSError as error:
            if lost(error):
                return None
            raise refused(self.root / key / self.group_file, error) from error

    def foreign_entries(self) -> dict[str, str]:
        """See `Backend`."""
        streams = self.inside.entries("features")
        names = (STAGING, *GROUPS, *(f"features/{name}" for name in streams if is_name(name)))
        kinds = {name: self.inside.kind(name) for name in names}
        return {name: kind for name, kind in kinds.items() if kind in (LINK, OTHER)}

    def _damaged_parts(self, key: str, count: Count) -> list[str]:
        return self._damaged_parts_at(self.location(key), count)

    def _open(self, key: str) -> Unit:
        return self._open_at(self.location(key))
