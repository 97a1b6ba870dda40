"""The benchmark of hostile stores in short: a part of the cases, a part of the commands."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from antcache.errors import AntcacheError
from antcache.store import Store
from antcache.store.integrity.verify import verify

SHORT = (
    *("zarr: staging is a link", "hdf5: replaced,..,victim,placed in staging"),
    *("zarr: features/rgb is a link", "hdf5: labels's file is a pipe"),
    *("hdf5: labels/validation is a link", "hdf5: rows in another file"),
    *("zarr: labels with an action of 2^40", "zarr: 10^18 rows"),
    *("zarr: a compressed chunk that claims 2 GiB", "hdf5: a chunk that unpacks to 256 MiB"),
)
COMMANDS = (
    *("store verify s", "evaluate s kit/run", "export lmdb s --stream"),
    *("annotations import table kit/table s", "store repair s"),
)
HARMLESS = {
    "a stream with control characters",
    "labels with a video with control characters",
    "labels with a video that leads out",
}
"""Odd, and no reason to refuse a store: text is text, and a video is there or not."""
OF_EITHER = (
    *("tokens with ", "a stream with ", "classes with "),
    *("labels with ", "targets with ", "a video of tokens with "),
)
"""How cases begin that are about the text of a group, or about arrays that are whole and mean
something else. Both kinds of store look at these in the same way: each is tried on every other of
them."""
UNTOUCHED = (
    *("labels/train", "targets/dense", "targets/other"),
    *(f"features/{s}/{v}" for s in ("flow", "rgb", "tokens") for v in ("t2", "t3", "v0", "v1")),
    *("features/flow/t1", "features/tokens/t1"),
)
"""What no case does anything to and is like something else: it is left out."""


@pytest.fixture(scope="module")
def hostile(benchmark: Callable[[str], ModuleType], forked: ModuleType) -> ModuleType:
    return benchmark("hostile")


@pytest.fixture(scope="module")
def cases(hostile: ModuleType) -> dict[str, Any]:
    return {case.name: case for case in hostile.hostile_stores.cases()}


def chosen(case: Any) -> Any:
    """The case with a part of its commands."""
    kind = type(case)

    def make(folder: Path) -> list[list[str]]:
        return [words for words in case.make(folder) if " ".join(words).startswith(COMMANDS)]

    return kind(name=case.name, make=make)


def test_there_are_enough_of_them(cases: dict[str, Any]) -> None:
    assert len(cases) >= 40
    assert set(SHORT) <= cases.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_nothing_comes_of_a_hostile_store(
    hostile: ModuleType, cases: dict[str, Any], name: str
) -> None:
    tally = hostile.run([chosen(cases[name])], hostile.hostile_stores.SECRETS)
    assert tally.faults == []
    assert tally.runs == 8
    assert tally.refused > 0 or "replaced" in name


def read_everything(path: Path) -> dict[str, Any]:
    """Whatever a store gives, by key; the error where it refuses."""
    found: dict[str, Any] = {}
    store, unmapped = Store.open(path), Store.open(path, memory_map=False)

    def read(key: str, how: Callable[[], Any]) -> None:
        try:
            found[key] = how()
        except AntcacheError as error:
            found[key] = error

    def names(key: str, how: Callable[[], list[str]]) -> list[str]:
        read(key, how)
        return found[key] if isinstance(found[key], list) else []

    def features(stream: str, video: str) -> list[np.ndarray[Any, Any]]:
        own, same = store.features(stream, video), unmapped.features(stream, video)
        rows = np.arange(min(own.num_rows, 200))
        np.testing.assert_array_equal(own.read(rows), same.read(rows))
        return [own.read(rows), np.array(own.times)]

    read("", lambda: store.dataset)
    read("classes", lambda: store.taxonomy)
    for split in names("splits", store.splits):
        read(f"labels/{split}", lambda split=split: list(store.labels(split).arrays().values()))
    for name in names("targets", store.target_names):
        read(f"targets/{name}", lambda name=name: list(store.targets(name).arrays().values()))
    for stream in names("streams", store.streams):
        read(f"features/{stream}", lambda stream=stream: store.stream(stream))
        for video in names(f"{stream}'s videos", lambda stream=stream: store.videos(stream)):
            read(f"features/{stream}/{video}", partial(features, stream, video))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_every_hostile_store_is_read_without_harm(
    hostile: ModuleType, tmp_path: Path, kind: str
) -> None:
    """In this process: errors of ours, no secret, and none takes long."""
    stores = hostile.hostile_stores
    kit = stores.kit()
    victim = tmp_path / "victim"
    shutil.copytree(kit / "victim", victim)
    before = hostile.state(victim)
    small = tmp_path / "small"
    shutil.copytree(kit / kind, small)
    Store.open(small).remove(*UNTOUCHED)
    honest = read_everything(small)
    assert not [e for e in honest.values() if isinstance(e, AntcacheError)]
    refused, tried, unnoticed = 0, set(), set()
    own = [(name, spoil) for of, name, spoil in stores.spoils() if of == kind]
    for number, (name, spoil) in enumerate(own):
        if name.startswith(OF_EITHER) and number % 2 == (kind == "zarr"):
            continue
        tried.add(name)
        path = tmp_path / f"s{number}"
        shutil.copytree(small, path)
        spoil(Store.open(path), victim)
        signal.alarm(20)  # whoever waits for a pipe would wait forever
        try:
            found = read_everything(path)
            verified = verify(Store.open(path))
        except AntcacheError:
            refused += 1
            continue
        finally:
            signal.alarm(0)
            shutil.rmtree(path)
        secret = [key for key, value in found.items() if tells(value, stores.SECRETS)]
        assert (name, secret) == (name, [])
        errors = [e for e in found.values() if isinstance(e, AntcacheError)]
        assert not [e for e in errors if len(str(e).splitlines()) > 1]
        if not errors and verified.intact and found.keys() == honest.keys():
            unnoticed.add(name)
        refused += bool(errors)
    assert hostile.state(victim) == before
    assert refused > 50
    assert len(tried) > 95
    odd = {name for name in unnoticed if "in staging" not in name and "lock" not in name}
    assert odd == HARMLESS & tried


def tells(value: Any, secrets: tuple[bytes, ...]) -> bool:
    parts = value if isinstance(value, list) else [value]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    texts = [part.tolist() for part in arrays], [p for p in parts if not isinstance(p, np.ndarray)]
    raw = [part.tobytes() for part in arrays] + [repr(texts).encode()]
    return any(secret in part for secret in secrets for part in raw)


@pytest.mark.slow
def test_an_honest_store_serves_all_of_the_commands(hostile: ModuleType) -> None:
    """Else a command that fails for a reason of its own would look at nothing."""
    stores = hostile.hostile_stores
    make = hostile.hostile_stores.partial(stores._make, kind="zarr", spoil=lambda s, v: None)
    tally = hostile.run([hostile.InputCase(name="honest", make=make)], stores.SECRETS)
    assert (tally.faults, tally.refused) == ([], 0)
    assert tally.runs == len(stores.COMMANDS)


def test_what_is_counted(hostile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = hostile.hostile_stores

    def make(folder: Path) -> list[list[str]]:
        stores.place(folder, "zarr")
        (folder / "bad.npz").write_bytes(b"x")
        lines = (
            "store convert s ../outside.zarr",
            "store convert s victim/empty/new.zarr",
            "store info victim/zarr --json",
            "export lmdb victim/zarr --stream rgb --output out",
        )
        return [line.split() for line in lines]

    tally = hostile.run([hostile.InputCase(name="x", make=make)], stores.SECRETS)
    said = "\n".join(tally.outside)
    assert "outside.zarr is not what it was" in said
    assert "victim/empty/new.zarr/labels is not what it was" in said
    assert "output tells a secret" in said
    assert "out/data.mdb tells a secret" in said
    assert [*tally.tracebacks, *tally.hangs, *tally.memory] == []

    def four(folder: Path) -> list[list[str]]:
        (folder / "victim").mkdir()
        return 4 * [["store", "info", "victim"]]

    case = hostile.InputCase(name="x", make=four)
    endings = {
        "tracebacks": {"code": 1, "stderr": "Traceback (most recent call last)"},
        "hangs": {"code": -9, "hung": True},
        "memory": {"code": 0, "peak_bytes": 3 << 30},
    }
    fine = {"code": 0, "stdout": "", "stderr": "", "seconds": 0.1, "peak_bytes": 1, "hung": False}
    for name, ending in endings.items():
        outcome = hostile.forked.Outcome(**{**fine, **ending})
        monkeypatch.setattr(hostile.forked, "run", lambda *a, o=outcome, **options: o)
        tally = hostile.run([case])
        assert len(getattr(tally, name)) == len(tally.faults) == 4
    two_lines = hostile.forked.Outcome(**{**fine, "code": 2, "stderr": "Error: a\nb\n"})
    monkeypatch.setattr(hostile.forked, "run", lambda *args, **options: two_lines)
    assert len(hostile.run([case]).tracebacks) == 4


def test_figures_are_those_on_record(
    hostile: ModuleType, run_here, recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile.log, "handlers", [])
    found = run_here("hostile", "--only", "staging is a link", "--commands", "1")
    stores = {name for name in recorded("hostile") if name.startswith("stores: ")}
    assert {name for name in found if name.startswith("stores: ")} == stores
    assert found["stores: inputs"] == found["stores: commands"] == 2
