"""The benchmark of hostile stores in short: a part of the cases, a part of the commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SHORT = (
    *("zarr: staging is a link", "hdf5: replaced,..,victim,placed in staging"),
    *("zarr: features/rgb is a link", "hdf5: labels's file is a pipe"),
    *("hdf5: labels/validation is a link", "hdf5: streams' files exchanged"),
    *("zarr: labels with an action of 2^40", "zarr: a chunk is a pipe", "zarr: 10^18 rows"),
    *("zarr: a compressed chunk that claims 2 GiB", "hdf5: rows in another file"),
    *("hdf5: virtual rows", "hdf5: a chunk that unpacks to 256 MiB"),
)
COMMANDS = (
    *("store verify s", "evaluate s kit/run", "export lmdb s --stream"),
    *("annotations import table kit/table s", "store repair s"),
)


@pytest.fixture(scope="module")
def hostile(repo: Path) -> Iterator[ModuleType]:
    folder = str(repo / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("hostile")
    sys.path.remove(folder)


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


@pytest.mark.slow
def test_an_honest_store_serves_all_of_the_commands(hostile: ModuleType) -> None:
    """Else a command that fails for a reason of its own would look at nothing."""
    stores = hostile.hostile_stores
    make = hostile.hostile_stores.partial(stores._make, kind="zarr", spoil=lambda s, v: None)
    tally = hostile.run([hostile.Case(name="honest", make=make)], stores.SECRETS)
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

    tally = hostile.run([hostile.Case(name="x", make=make)], stores.SECRETS)
    said = "\n".join(tally.outside)
    assert "outside.zarr is not what it was" in said
    assert "victim/empty/new.zarr/labels is not what it was" in said
    assert "output tells a secret" in said
    assert "out/data.mdb tells a secret" in said
    assert [*tally.tracebacks, *tally.hangs, *tally.memory] == []
    endings = {
        "tracebacks": {"code": 1, "stderr": "Traceback (most recent call last)"},
        "hangs": {"code": -9, "hung": True},
        "memory": {"code": 0, "peak_bytes": 3 << 30},
    }
    fine = {"code": 0, "stdout": "", "stderr": "", "seconds": 0.1, "peak_bytes": 1, "hung": False}
    for name, ending in endings.items():
        outcome = hostile.forked.Outcome(**{**fine, **ending})
        monkeypatch.setattr(hostile.forked, "run", lambda *a, o=outcome, **options: o)
        tally = hostile.run([hostile.Case(name="x", make=make)])
        assert len(getattr(tally, name)) == len(tally.faults) == 4
    two_lines = hostile.forked.Outcome(**{**fine, "code": 2, "stderr": "Error: a\nb\n"})
    monkeypatch.setattr(hostile.forked, "run", lambda *args, **options: two_lines)
    assert len(hostile.run([hostile.Case(name="x", make=make)]).tracebacks) == 4
