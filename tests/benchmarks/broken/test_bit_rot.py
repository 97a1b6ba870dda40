"""The benchmark of flipped bits in short: what is read is what was written, or is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def rot(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("bit_rot")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_no_flipped_bit_is_read(rot: ModuleType, tmp_path: Path, kind: str) -> None:
    found = rot.flips(rot.build(tmp_path / kind, kind), 8, random.Random(3))
    wrong = ("named wrongly", "not clean afterwards", "read silently", "other errors")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert found["found"] == 8
    assert found["refused nowhere"] < 3  # the files of two groups, which hold nothing


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_no_command_takes_a_flipped_bit_for_a_value(
    rot: ModuleType, forked: ModuleType, kind: str
) -> None:
    assert set(rot.commands(kind, 3, random.Random(5)).values()) == {0}


def test_a_reading_that_differs_is_told_from_one_that_is_refused(
    rot: ModuleType, tmp_path: Path
) -> None:
    store = rot.build(tmp_path / "store", "zarr")
    before = rot.read_all(tmp_path / "store")
    assert len(before) == 39
    assert not {"refused"} & set(before.values())
    chunk = tmp_path / "store/features/rgb/v1/rows/c/0/0"
    rot.flip(chunk, 100, 3)
    after = rot.read_all(tmp_path / "store")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        *("rgb/v1, True", "rgb/v1, False", "rgb, windows, True", "rgb, windows, False"),
    }
    assert {after[name] for name in changed} == {"refused"}
    assert store.videos("rgb") == list(rot.VIDEOS)


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_here, recorded) -> None:
    small = ("--flips", "2", "--commands", "1", "--rounds", "1", "--megabytes", "20")
    assert set(run_here("bit_rot", *small)) == recorded("bit_rot")
