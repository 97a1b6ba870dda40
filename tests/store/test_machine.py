"""Two handles of one store against a plain dictionary: whatever is done, in whichever order."""

from __future__ import annotations

import pickle
import random
import re
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from antcache.annotations import Segments, Taxonomy
from antcache.errors import AlreadyExists, DamagedStore, MissingKey
from antcache.store import SoftTargets, Store
from antcache.store.integrity.convert import ConvertConfig, convert
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take", "put"),
    nouns=("pan",),
    actions=("take pan", "put pan"),
    action_verbs=(0, 1),
    action_nouns=(0, 0),
)
STREAMS: dict[str, dict[str, Any]] = {
    "rgb": {"dim": 3, "dtype": "float16", "compressed": False},
    "flow": {"dim": 2, "dtype": "float32", "compressed": True},
}
NAMES = ("a", "b", "c")
Arrays = dict[str, np.ndarray[Any, Any]]

handles = st.integers(0, 1)
names = st.sampled_from(NAMES)
seeds = st.integers(0, 999)


class StoreMachine(RuleBasedStateMachine):
    kind = "zarr"
    place: Path | None = None

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.place))
        self.path = self.folder / "store"
        first = Store.create(self.path, backend=self.kind)
        self.handles = [first, Store.open(self.path, memory_map=False)]
        self.units: dict[str, Arrays] = {}
        self.streams: set[str] = set()
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # Writing

    def written(self, key: str, arrays: Arrays, overwrite: bool, write: Any) -> None:
        """Write a unit, which must be refused exactly where one is that is not overwritten.

        Labels that are there already are no reason to refuse: an import goes on where it was
        interrupted. Labels of a damaged split beside them are one: whether the two have segments in
        common can't be told.
        """
        beside = [k for k in self.damaged - {key} if k.startswith("labels")]
        unread = "|".join(beside) if key.startswith("labels") and beside else ""
        if key in self.units and not overwrite:
            # What is damaged is in the way, and is not taken for what it was.
            if key.startswith("labels") and key not in self.damaged and self.same(key, arrays):
                with pytest.raises(DamagedStore, match=unread) if unread else nullcontext():
                    write()
                return
            kind, _, name = key.partition("/")
            named = f"{key}|other {kind} of {name}"
            with pytest.raises((AlreadyExists, DamagedStore), match=named):
                write()
            return
        if unread:
            with pytest.raises(DamagedStore, match=unread):
                write()
            return
        write()
        self.units[key] = arrays
        self.damaged.discard(key)

    def same(self, key: str, arrays: Arrays) -> bool:
        """Whether the unit is made of these arrays."""
        return all(np.array_equal(arrays[name], old) for name, old in self.units[key].items())

    @rule(handle=handles, split=names, seed=seeds, overwrite=st.booleans())
    def write_labels(self, handle: int, split: str, seed: int, overwrite: bool) -> None:
        rng = np.random.default_rng(seed)
        action = rng.integers(0, 2, int(rng.integers(0, 6)))
        start = rng.uniform(0, 9, len(action))
        segments = Segments.of(
            uid=[f"{split}é{i}" for i in range(len(action))],
            video=[NAMES[i % 3] for i in range(len(action))],
            start_s=start,
            stop_s=start + 1,
            verb=action,
            noun=np.zeros_like(action),
            action=action,
        )
        store, key = self.handles[handle], f"labels/{split}"

        def write() -> None:
            store.write_labels(split, segments, TAXONOMY, source="x", overwrite=overwrite)

        if any(other.startswith("labels/") and other != key for other in self.damaged):
            # Whether a damaged split has some of these segments can't be told.
            with pytest.raises((AlreadyExists, DamagedStore), match="labels"):
                write()
            return
        self.written(key, segments.arrays(), overwrite, write)

    @rule(handle=handles, stream=st.sampled_from(sorted(STREAMS)))
    def create_stream(self, handle: int, stream: str) -> None:
        made = self.handles[handle].create_stream(
            stream, fps=4, source="x", config={"name": stream}, **STREAMS[stream]
        )
        assert made == self.handles[1 - handle].stream(stream)
        self.streams.add(stream)

    @precondition(lambda self: self.streams)
    @rule(handle=handles, data=st.data(), video=names, seed=seeds, timed=st.booleans())
    def write_features(
        self, handle: int, data: st.DataObject, video: str, seed: int, timed: bool
    ) -> None:
        stream = data.draw(st.sampled_from(sorted(self.streams)))
        rng = np.random.default_rng(seed)
        settings = STREAMS[stream]
        rows = rng.normal(size=(int(rng.integers(0, 40)), settings["dim"]))
        arrays: Arrays = {"rows": rows.astype(settings["dtype"])}
        if timed:
            arrays["times"] = np.cumsum(rng.uniform(0.1, 1, len(rows)))
        store = self.handles[handle]
        self.written(
            f"features/{stream}/{video}",
            arrays,
            False,
            lambda: store.write_features(
                stream, video, arrays["rows"], times=arrays.get("times"), start_s=seed / 4
            ),
        )

    @precondition(lambda self: any(key.startswith("labels") for key in self.units))
    @rule(handle=handles, name=names, seed=seeds, overwrite=st.booleans(), k=st.integers(0, 2))
    def write_targets(self, handle: int, name: str, seed: int, overwrite: bool, k: int) -> None:
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 6))
        targets = SoftTargets(
            uid=np.array([f"{i}" for i in range(count)], dtype=np.str_),
            valid=rng.random(count) < 0.8,
            logits=rng.normal(size=(count, 2)).astype(np.float32),
            attributes={"taxonomy": TAXONOMY.fingerprint},
        )
        targets = targets.top_k(k) if k else targets
        store = self.handles[handle]
        self.written(
            f"targets/{name}",
            targets.arrays(),
            overwrite,
            lambda: store.write_targets(name, targets, overwrite=overwrite),
        )

    @precondition(lambda self: self.units)
    @rule(handle=handles, data=st.data())
    def remove(self, handle: int, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.units)))
        self.handles[handle].remove(key)
        del self.units[key]
        self.damaged.discard(key)
        with pytest.raises(MissingKey, match=key):
            self.handles[1 - handle].remove(key)

    # Damage

    @precondition(lambda self: self.units)
    @rule(data=st.data(), seed=seeds)
    def flip(self, data: st.DataObject, seed: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.units)))
        if key in self.damaged:
            return  # a second flip may take the first one back
        unit, rng = self.handles[0].backend.location(key), random.Random(seed)
        files = [unit] if unit.is_file() else sorted(p for p in unit.rglob("*") if p.is_file())
        path = rng.choice([file for file in files if file.stat().st_size])
        whole = bytearray(path.read_bytes())
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(whole)
        self.damaged.add(key)

    @rule(handle=handles, dry_run=st.booleans())
    def mend(self, handle: int, dry_run: bool) -> None:
        report = repair(self.handles[handle], dry_run=dry_run)
        assert {action.key for action in report.actions} == self.damaged
        assert {action.done for action in report.actions} <= {"dropped"}
        if not dry_run:
            for key in self.damaged:
                del self.units[key]
            self.damaged.clear()

    # Reading

    @rule(handle=handles)
    def open_again(self, handle: int) -> None:
        again = Store.open(self.path, memory_map=handle == 0)
        self.handles[handle] = pickle.loads(pickle.dumps(again))

    @invariant()
    def both_read_what_was_written(self) -> None:
        """What is intact is what was written, what is damaged is listed and refused."""
        for store in getattr(self, "handles", []):
            found = {f"labels/{split}" for split in store.splits()}
            found |= {f"targets/{name}" for name in store.target_names()}
            found |= {f"features/{s}/{v}" for s in store.streams() for v in store.videos(s)}
            assert found == self.units.keys()
            assert set(store.streams()) == self.streams
            for key in self.units:
                self.read(store, key)

    def read(self, store: Store, key: str) -> None:
        if key in self.damaged:
            with pytest.raises(DamagedStore, match=re.escape(key)):
                read_unit(store, key)
            return
        found, wanted = read_unit(store, key), self.units[key]
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype.kind == array.dtype.kind

    @rule(handle=handles)
    def check(self, handle: int) -> None:
        report = verify(self.handles[handle])
        assert {finding.key for finding in report.damaged} == self.damaged
        assert report.units == len(self.units)

    @precondition(lambda self: not self.damaged)
    @rule(handle=handles, data=st.data())
    def copy(self, handle: int, data: st.DataObject) -> None:
        backend, zipped = data.draw(st.sampled_from(("zarr", "hdf5"))), data.draw(st.booleans())
        target = self.folder / "copy"
        convert(self.handles[handle], target, ConvertConfig(backend=backend, compressed=zipped))
        copied = Store.open(target)
        for key, wanted in self.units.items():
            for name, array in read_unit(copied, key).items():
                np.testing.assert_array_equal(array, wanted[name])
        shutil.rmtree(target)


def read_unit(store: Store, key: str) -> Arrays:
    """The arrays of a unit, as users read them."""
    kind, *rest = key.split("/")
    if kind == "labels":
        return store.labels(*rest).arrays()
    if kind == "targets":
        return store.targets(*rest).arrays()
    features = store.features(*rest)
    times = {} if features.times is None else {"times": features.times}
    return {"rows": features.read(), **times}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_a_store_is_what_was_written_into_it(kind: str, tmp_path: Path) -> None:
    machine = type("Machine", (StoreMachine,), {"kind": kind, "place": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
