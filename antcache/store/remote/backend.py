"""Zarr v3 at a URL: the same objects as on a local disk, published without a rename.

Promise: a unit is there when its `zarr.json` is, and that is written last, after every other object
was written and read back. What a killed writer left has no `zarr.json`, is seen by nobody, and is
written over by the next run. Copied to a disk, object by object, it is a local store; and back.

How a unit is written is in `writer.py`, how two writers keep apart in `claim.py`, how several share
work in `lease.py`, how many videos are listed at once in `index.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from antcache.errors import AlreadyExists, DamagedStore
from antcache.store.backend import Attributes, Backend, Unit
from antcache.store.format import STAGING, Arrays, is_key, join
from antcache.store.reading.proof import Count
from antcache.store.remote.claim import ALONE, CLAIM, claimed, in_staging
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.index import Listing, StreamIndex, complete, differences, listing_of
from antcache.store.remote.lease import WORK, Leases
from antcache.store.remote.source import opened
from antcache.store.remote.writer import NEW, NewUnit, UnitWriter, clear
from antcache.store.zarr_unit import GROUP, ZARR_JSON, damaged_parts


class RemoteZarrBackend(Backend):
    """A Zarr store at a URL that fsspec understands.

    Args:
        root: the URL.
        storage_options: for fsspec's filesystem, over its configuration and environment.
    """

    root: str
    form = "zarr"
    group_file = ZARR_JSON
    group_frame = GROUP
    can_wait = False
    retry_when = "the URL, the credentials and the network allow it"

    def __init__(self, root: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(root)
        self.files = RemoteFiles(root, storage_options)
        self._leases = Leases(self.files)

    def group_text(self, key: str) -> bytes | None:
        """See `Backend`."""
        try:
            return self.files.read(join(key, ZARR_JSON))
        except (FileNotFoundError, DamagedStore):
            return None

    def set_group_text(self, key: str, text: bytes | None) -> None:
        """See `Backend`."""
        name = join(key, ZARR_JSON)
        with self._writing(key):
            if text is None:
                self.files.delete(name)
            else:
                self.files.write_many({name: text})

    def _swap_group_text(self, key: str, text: bytes, *, was: bytes | None) -> bool:
        name = join(key, ZARR_JSON)
        with self._writing(key), suppress(FileExistsError):
            if was is not None:
                return self.files.replace(name, text, was=was)
            self.files.create(name, text)
            return True
        return False

    @contextmanager
    def exclusively(self, key: str) -> Iterator[None]:
        """See `Backend`; whoever does it is not waited for."""
        with self._writing(key), claimed(self.files, key, ALONE):
            yield

    def _folders(self, key: str) -> list[str]:
        return self.files.folders(key)

    def _has_group_file(self, key: str) -> bool:
        return self.files.is_file(join(key, ZARR_JSON))

    def units(self, key: str) -> list[str]:
        """See `Backend`: one listing of all objects in the group."""
        return complete(key, self.files.sizes(key))

    def known_units(self, key: str) -> list[str]:
        """See `Backend`."""
        indexed = StreamIndex(self.files, key).read()
        return self.units(key) if indexed is None else sorted(indexed)

    def value_bytes(self, key: str, array: str) -> dict[str, int]:
        """See `Backend`: by the index of the group, or one listing of all its objects."""
        indexed = StreamIndex(self.files, key).read()
        found = {}
        for name, arrays in (self._listed(key) if indexed is None else indexed).items():
            chunks, total = arrays.get(array, (0, 0))
            found[name] = self._value_bytes(join(key, name), array) if chunks > 1 else total
        return found

    def _listed(self, key: str) -> Listing:
        return listing_of(key, self.files.sizes(key))

    @property
    def keeps_indexes(self) -> bool:
        """See `Backend`."""
        return self.files.swaps()

    def has_index(self, key: str) -> bool:
        """See `Backend`."""
        return StreamIndex(self.files, key).read() is not None

    def write_index(self, key: str) -> int:
        """See `Backend`."""
        with self._writing(key):
            return StreamIndex(self.files, key).write(lambda: self._listed(key))

    def wrong_index(self, key: str) -> str:
        """See `Backend`."""
        index = StreamIndex(self.files, key)
        text = index.text()
        indexed = None if text is None else index.believed(text)
        if indexed is None:
            return ""
        wrong = differences(indexed, self._listed(key))
        # One that was taken away meanwhile was right when it was read.
        return wrong if index.text() == text else ""

    def drop_index(self, key: str) -> bool:
        """See `Backend`."""
        with self._writing(key):
            return StreamIndex(self.files, key).drop()

    def has(self, key: str) -> bool:
        """See `Backend`."""
        return is_key(key) and self.files.is_file(join(key, ZARR_JSON))

    def publish(
        self,
        key: str,
        arrays: Arrays,
        attributes: Attributes,
        *,
        overwrite: bool = False,
        compressed: bool = False,
    ) -> None:
        """See `Backend`. Without a rename, this is what holds:

        A new unit is there as a whole or not at all, whenever its writer is killed, and is never
        made of what two writers sent.

        One that is overwritten is first written and checked under a staging name: until then a
        network that fails or a writer that is killed leaves the old one as it was. Then its
        `zarr.json` is deleted, the objects are copied into place on the server and checked, and
        the new `zarr.json` is written. Who opens the unit meanwhile finds the old one, none, or the
        new one; who had opened the old one may read rows of the new one. A writer killed between
        the two leaves none, and has to be run again.

        Raises:
            AlreadyExists: as in `Backend`, or another process is writing the unit.
        """
        with self._writing(key), claimed(self.files, key) as claim:
            there = self.has(key)
            if there and not overwrite:
                raise AlreadyExists("already in the store", where=self.where(key))
            expected = self.unit_attributes(key, arrays, attributes)
            unit = NewUnit(arrays=arrays, attributes=expected, compressed=compressed)
            UnitWriter(self.files, key, claim).publish(unit, replace=there)

    def publish_group(
        self, key: str, attributes: Attributes, units: Mapping[str, tuple[Arrays, Attributes]]
    ) -> None:
        """See `Backend`. What replaces a unit is written and checked under a staging name first:
        until then a network that fails or a writer that is killed leaves the old ones as they were.
        Then all that are replaced go out of sight, and the new ones come one by one.
        """
        group = {**self.group_attributes(key), **attributes}
        with self._writing(key), ExitStack() as stack:
            switched, added = [], []
            for name, (arrays, own) in units.items():
                own_key = f"{key}/{name}"
                claim = stack.enter_context(claimed(self.files, own_key))
                writer = UnitWriter(self.files, own_key, claim)
                expected = self.unit_attributes(own_key, arrays, own, group)
                unit = NewUnit(arrays=arrays, attributes=expected)
                if self.has(own_key):
                    switched.append((writer, stack.enter_context(writer.staged(unit))))
                else:
                    added.append((writer, unit))
            for writer, _ in switched:
                writer.hide()
            self.set_group_attributes(key, attributes)
            for writer, sent in switched:
                writer.place(sent)
            for writer, unit in added:
                writer.publish(unit, replace=False)

    def _remove(self, key: str) -> None:
        with claimed(self.files, key):
            StreamIndex(self.files, key.rpartition("/")[0]).drop()
            self.files.delete(join(key, ZARR_JSON))
            clear(self.files, key)

    def remove_leftovers(self) -> None:
        """See `Backend`; what a writer that may live has claimed is left alone."""
        for key in sorted(self._leftovers()):
            with suppress(AlreadyExists), self._writing(key), claimed(self.files, key):
                if not self.has(key):
                    clear(self.files, key)
                clear(self.files, in_staging(key, NEW))
        for name in self.files.sizes(STAGING):
            if name.endswith(ALONE):
                key = _key_of(name, ALONE)
                with suppress(AlreadyExists), self.exclusively(key):
                    pass  # whoever takes it over gives it up
            elif name.endswith(WORK) and is_key(key := _key_of(name, WORK)):
                if self.has(key):
                    self.files.delete(in_staging(key, WORK))  # nothing is left to work on
                else:
                    with self.claim(key):
                        pass  # as above

    def _leftovers(self) -> set[str]:
        """Keys of units that are claimed, or about to be replaced, or lack their `zarr.json`; an
        index that is not what is listed here is taken away."""
        names = {name.partition("/")[0] for name in self.files.sizes(STAGING)}
        found = {
            _key_of(name, ending)
            for name in names
            for ending in (CLAIM, NEW)
            if name.endswith(ending)
        }
        streams = [join("features", name) for name in self.files.folders("features")]
        for group in ("labels", "targets", *streams):
            indexed = StreamIndex(self.files, group).read()
            objects = self.files.sizes(group)
            if indexed is not None and differences(indexed, listing_of(group, objects)):
                self.drop_index(group)  # other tools know nothing of it
            here = {name.partition("/")[0] for name in objects if "/" in name}
            found |= {join(group, name) for name in here.difference(complete(group, objects))}
        return set(filter(is_key, found))  # anything else is somebody else's

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """See `Backend`; always true where the server does not write on condition, so that work
        may be done twice there."""
        with ExitStack() as stack:
            ours = True
            with self._writing(key):
                if self.files.on_condition():
                    ours = stack.enter_context(self._leases.held(key))
            yield ours

    def _damaged_parts(self, key: str, count: Count) -> list[str]:
        def read() -> bytes:
            text = self.files.read(join(key, ZARR_JSON))
            count(len(text))
            return text

        return damaged_parts(read, lambda names: self.files.digests(key, names, count))

    def _open(self, key: str) -> Unit:
        return opened(self.files, key, self.files.read(join(key, ZARR_JSON)))


def _key_of(name: str, ending: str) -> str:
    """The key whose name in staging this is; see `in_staging`."""
    return name.removesuffix(ending).replace(",", "/")
