"""Zarr v3 at a URL: the same objects as on a local disk, published without a rename.

Promise: a unit is there when its `zarr.json` is, and that is written last, after every other object
was written and read back. What a killed writer left has no `zarr.json`, is seen by nobody, and is
written over by the next run. Copied to a disk, object by object, it is a local store; and back.

How a unit is written is in `writer.py`, how two writers keep apart in `claim.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from antcache.errors import (
    AlreadyExists,
    AntcacheError,
    DamagedStore,
    MissingKey,
    Unreachable,
    WriteFailed,
)
from antcache.store import zarr_unit
from antcache.store.backend import (
    KEY,
    MARK_BYTES,
    Attributes,
    Backend,
    Count,
    LazyArray,
    Unit,
    differing,
)
from antcache.store.faults import damaged
from antcache.store.format import (
    GROUPS,
    MARK,
    STAGING,
    TEXT_BYTES,
    Arrays,
    digest,
    is_key,
    may_lie_in,
)
from antcache.store.location import Location
from antcache.store.reading.pieces import PiecedArray
from antcache.store.remote.claim import ALONE, CLAIM, claimed, in_staging
from antcache.store.remote.files import BATCH_BYTES, RemoteFiles, batches, inside
from antcache.store.remote.source import MemorySource, RemoteSource
from antcache.store.remote.writer import NEW, UnitWriter, clear, not_as_written
from antcache.store.seal import attributes_of, intact, mended, sealed
from antcache.store.zarr_unit import GROUP, ZARR_JSON, encode, layouts, unit_of

T = TypeVar("T")

TRIES = 10
"""How often the attributes of a group are tried to be set while others do."""


class RemoteZarrBackend(Backend):
    """A Zarr store at a URL that fsspec understands.

    Args:
        root: the URL.
        memory_map: has no effect; nothing here can be mapped.
        storage_options: for fsspec's filesystem, over its configuration and environment.
    """

    root: str
    group_file = ZARR_JSON
    waits = False

    def __init__(
        self,
        root: Location,
        *,
        memory_map: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(root, memory_map=memory_map)
        self.files = RemoteFiles(str(root), storage_options)

    @classmethod
    def recognises(cls, root: Location) -> bool:
        """See `Backend`."""
        return cls(root).is_store()

    def is_store(self) -> bool:
        """Whether there is, or was before it was damaged, a store at the URL."""
        text = self.group_text("") or b""
        if MARK in attributes_of(text):
            return True
        if intact(text):  # the file of something inside a store
            return False
        # A damaged mark is known by what it was, or by what lies beside it.
        beside = (self.group_text(key) or b"" for key in GROUPS)
        return any(b'"seal"' in each for each in beside) or (
            len(text) <= MARK_BYTES and MARK in attributes_of(mended(text) or b"")
        )

    def create(self, attributes: Attributes) -> None:
        """See `Backend`; a bucket is not ours to make."""
        with self._writing(""):
            try:
                self.files.create(ZARR_JSON, self.document("", attributes))
            except FileExistsError as error:
                problem = "another process has just made a store here"
                raise AlreadyExists(problem, where=self.root) from error

    def document(self, key: str, attributes: Attributes) -> bytes:
        """See `Backend`."""
        return sealed({**attributes, KEY: key}, GROUP)

    def group_text(self, key: str) -> bytes | None:
        """See `Backend`."""
        try:
            return self.files.read(inside(key, ZARR_JSON))
        except (FileNotFoundError, DamagedStore):
            return None

    def set_group_text(self, key: str, text: bytes | None) -> None:
        """See `Backend`."""
        name = inside(key, ZARR_JSON)
        with self._writing(key):
            if text is None:
                self.files.delete(name)
            else:
                self.files.write_many({name: text})

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """See `Backend`. No change of another process is lost where objects can be replaced on
        condition, as on S3."""
        above, _, _ = key.rpartition("/")
        if above and self.group_text(above) is None:  # no gaps in a hierarchy, for plain readers
            self.set_group_attributes(above, {})
        name = inside(key, ZARR_JSON)
        for _ in range(TRIES):
            text = self.group_text(key)
            old = self._attributes(key, text)
            new = {**old, **attributes}
            if text is not None and new == old:
                return
            with self._writing(key), suppress(FileExistsError):
                if text is None:
                    self.files.create(name, self.document(key, new))
                    return
                if self.files.replace(name, self.document(key, new), was=text):
                    return
        raise self._failed(key, "other processes keep changing it")

    def add_group_attributes(self, key: str, attributes: Attributes) -> Attributes:
        """See `Backend`. Of two that do so at once the first one's stay where objects can be
        created on condition (S3, Google and Azure); elsewhere those of one do, and it may be that
        only the next call tells the other.
        """
        above, _, _ = key.rpartition("/")
        if above and self.group_text(above) is None:
            self.set_group_attributes(above, {})
        name = inside(key, ZARR_JSON)
        for _ in range(TRIES):
            text = self.group_text(key)
            old = self._attributes(key, text)
            new = {**old, **{k: v for k, v in attributes.items() if old.get(k) is None}}
            if text is not None and new == old:
                return old
            with self._writing(key), suppress(FileExistsError):  # what is there then is looked at
                if text is None:
                    self.files.create(name, self.document(key, new))
                else:
                    self.files.replace(name, self.document(key, new), was=text)
        raise self._failed(key, "other processes keep changing it")

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """See `Backend`; whoever does it is not waited for."""
        with self._writing(key), claimed(self.files, key, ALONE):
            yield

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        return [
            name
            for name in self.files.folders(key)
            if may_lie_in(key, name)
            if self.files.is_file(inside(key, name, ZARR_JSON)) or self.units(inside(key, name))
        ]

    def units(self, key: str) -> list[str]:
        """See `Backend`: one listing of all objects in the group."""
        names = (name.split("/") for name in self.files.sizes(key))
        found = (name[0] for name in names if len(name) == 2 and name[1] == ZARR_JSON)
        return sorted(name for name in found if may_lie_in(key, name))

    def has(self, key: str) -> bool:
        """See `Backend`."""
        return is_key(key) and self.files.is_file(inside(key, ZARR_JSON))

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
            expected = self.described(key, arrays, attributes)
            files = self._encoded(key, arrays, expected, compressed=compressed)
            UnitWriter(self.files, key, claim).publish(files, replace=there)

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
                unit = f"{key}/{name}"
                writer = UnitWriter(
                    self.files, unit, stack.enter_context(claimed(self.files, unit))
                )
                files = self._encoded(unit, arrays, self.described(unit, arrays, own, group))
                if self.has(unit):
                    stack.enter_context(writer.staged(files))
                    switched.append((writer, files))
                else:
                    added.append((writer, files))
            for writer, _ in switched:
                writer.hide()
            self.set_group_attributes(key, attributes)
            for writer, files in switched:
                writer.place(files)
            for writer, files in added:
                writer.publish(files, replace=False)

    def _encoded(
        self, key: str, arrays: Arrays, expected: Attributes, *, compressed: bool = False
    ) -> dict[str, bytes]:
        """The files of a unit, which hold what they should."""
        files = encode(arrays, expected, compressed=compressed)
        if differing(_decoded(files, self.where(key)), expected):
            raise not_as_written(self.where(key))
        return files

    def remove(self, key: str) -> None:
        """See `Backend`."""
        if not self.has(key):
            raise MissingKey("not in the store", where=self.where(key))
        with self._writing(key), claimed(self.files, key):
            self.files.delete(inside(key, ZARR_JSON))
            clear(self.files, key)

    def sweep(self) -> None:
        """See `Backend`; what a writer that may live has claimed is left alone."""
        for key in sorted(self._leftovers()):
            with suppress(AlreadyExists), self._writing(key), claimed(self.files, key):
                if not self.has(key):
                    clear(self.files, key)
                clear(self.files, in_staging(key, NEW))
        for name in self.files.sizes(STAGING):
            if name.endswith(ALONE):
                key = name.removesuffix(ALONE).replace(",", "/")
                with suppress(AlreadyExists), self.alone(key):
                    pass  # whoever takes it over gives it up

    def _leftovers(self) -> set[str]:
        """Keys of units that are claimed, or about to be replaced, or lack their `zarr.json`."""
        names = {name.partition("/")[0] for name in self.files.sizes(STAGING)}
        found = {
            name.removesuffix(ending).replace(",", "/")
            for name in names
            for ending in (CLAIM, NEW)
            if name.endswith(ending)
        }
        streams = [inside("features", name) for name in self.files.folders("features")]
        for group in ("labels", "targets", *streams):
            units = set(self.units(group))
            here = {name.partition("/")[0] for name in self.files.sizes(group) if "/" in name}
            found |= {inside(group, name) for name in here - units}
        return set(filter(is_key, found))  # anything else is somebody else's

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Always true: a claim that outlives a killed process for minutes would cost more than the
        work it saves. `publish` lets one writer win."""
        return nullcontext(True)

    def _damage(self, key: str, count: Count) -> list[str]:
        sizes = self.files.sizes(key)
        ahead = self._reading_ahead(key, sizes, count)

        def read(name: str) -> bytes:
            require_short(self.where(key), name, sizes=sizes)
            return ahead(name)

        def digest_of(name: str) -> str:
            if sizes.get(name, 0) > BATCH_BYTES:
                return self.files.digest(inside(key, name), sizes[name], count)
            return digest(ahead(name))

        return zarr_unit.damage(read, digest_of)

    def _reading_ahead(
        self, key: str, sizes: Mapping[str, int], count: Count
    ) -> Callable[[str], bytes]:
        """Reads objects of a unit that are asked for by name, with those of the same batch."""
        batch_of = {name: batch for batch in batches(sizes) for name in batch}
        held: dict[str, bytes | None] = {}

        def read(name: str) -> bytes:
            if name not in held:
                held.clear()
                batch = batch_of.get(name, [name])
                found = self.files.read_many(inside(key, each) for each in batch)
                held.update(zip(batch, found, strict=True))
            value = held[name]
            if value is None:
                raise FileNotFoundError(name)
            count(len(value))
            return value

        return read

    def _open(self, key: str) -> Unit:
        sizes, where = self.files.sizes(key), f"{self.root}/{key}"
        require_short(where, ZARR_JSON, sizes=sizes)
        attributes, files = unit_of(self.files.read(inside(key, ZARR_JSON)), where)
        described = [name for name in files if name.endswith(ZARR_JSON) and name in sizes]
        require_short(where, *described, sizes=sizes)
        texts = self.files.read_many(inside(key, name) for name in described)
        ahead = {
            name: text for name, text in zip(described, texts, strict=True) if text is not None
        }
        found = layouts(files, looked_up(ahead), looked_up(sizes), key, where)
        source = RemoteSource(self.files)
        return {name: PiecedArray(layout, source) for name, layout in found.items()}, attributes

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Turn what the other side says into our error."""
        try:
            yield
        except Unreachable as error:
            raise self._failed(key, error.reason) from error
        except AntcacheError:
            raise
        except OSError as error:
            raise self._failed(key, str(error.strerror or error)) from error

    def _failed(self, key: str, reason: str) -> WriteFailed:
        return WriteFailed(
            f"can't be written ({reason})",
            where=self.where(key),
            hint="what was published before is intact; run the command again when the URL, the "
            "credentials and the network allow it",
        )


def require_short(where: str, *names: str, sizes: Mapping[str, int]) -> None:
    """Raise `DamagedStore` if objects, which are read whole, are too long for what they are."""
    found = sum(sizes.get(name, 0) for name in names)
    if found > TEXT_BYTES:
        raise damaged(where, f"{', '.join(names)}: {found} bytes are too many")


def looked_up(found: Mapping[str, T]) -> Callable[[str], T]:
    """What stands under a name, as a function that says what is missing as files do."""

    def look(name: str) -> T:
        if name not in found:
            raise FileNotFoundError(name)
        return found[name]

    return look


def _decoded(files: Mapping[str, bytes], where: str) -> dict[str, LazyArray]:
    """The arrays of a unit out of its files."""
    _, hashes = unit_of(files[ZARR_JSON], where)
    lengths = {name: len(value) for name, value in files.items()}
    found = layouts(hashes, files.__getitem__, lengths.__getitem__, "", where)
    source = MemorySource(files)
    return {name: PiecedArray(layout, source) for name, layout in found.items()}
