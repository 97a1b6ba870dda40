"""`benchmarks/reads.py` in small: every way to read windows, and packing.

What `reads_others.py` reads by is looked for in the Python that ANTCACHE_OTHERS names, or in this.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reads_forms
from reads_others import Others, others

PYTHON = os.environ.get("ANTCACHE_OTHERS", sys.executable)
USUAL = r"zarr \d\.\d+"
"""What every Python with antcache has."""


def of_others(figure: str) -> bool:
    """Whether it is one that another Python has measured."""
    return re.search(r"(zarr|Lance) \d", figure) is not None


@pytest.mark.slow
@pytest.mark.usefixtures("forked_parts")
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    small = ("--repeats", "2", "--videos", "2", "--rows", "200", "--batches", "4")
    found = set(run_benchmark("reads", *small, "--others", sys.executable))
    assert {name for name in found if not of_others(name)} == {
        name for name in recorded("reads") if not of_others(name)
    }
    assert any(of_others(name) for name in found)


@pytest.fixture(scope="module", params=["vectors", "tokens"])
def asked(request: pytest.FixtureRequest) -> reads_forms.Asked:
    random = np.random.default_rng(0)
    names, which = ("P01", "P02"), random.integers(0, 2, 9)
    if request.param == "tokens":
        return reads_forms.Asked(
            videos={n: random.integers(-127, 128, (5, 12, 8), dtype=np.int8) for n in names},
            scales={n: random.random((5, 12)).astype(np.float16) for n in names},
            which=which,
            rows=random.integers(0, 5, (9, 1)),
            spacing=1,
            batch=4,
            small=7,
            grid=(3, 2, 2),
        )
    return reads_forms.Asked(
        videos={n: random.standard_normal((40, 8)).astype(np.float16) for n in names},
        which=which,
        rows=random.integers(0, 30, 9)[:, None] + 5 * np.arange(2),
        spacing=5,
        batch=4,
        small=7,
    )


@pytest.fixture(scope="module")
def process(asked: reads_forms.Asked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    folder = tmp_path_factory.mktemp("reads")
    reads_forms.of_antcache(folder, asked)
    reads_forms.of_map(folder, asked)
    reads_forms.small_chunks(folder, asked)
    reads_forms.leave_for_others(folder, asked)
    with others(PYTHON, folder) as process:
        yield process


@pytest.mark.parametrize("wanted", [USUAL, r".*, fused", r".*, zarrs", r"Lance \d+"])
def test_another_python_reads_the_same(
    wanted: str, process: Others, asked: reads_forms.Asked
) -> None:
    names = [name for name in process.there if re.fullmatch(f"{wanted}(, 7-row chunks)?", name)]
    if not names and wanted != USUAL:
        pytest.skip(f"not in {PYTHON}: {process.absent}")
    assert names
    for name in names:
        for positions in (np.array([8, 0, 3]), np.array([1, 1, 5, 2])):
            np.testing.assert_array_equal(
                process.values(name, positions), asked.values(positions), err_msg=name
            )
        assert process.seconds(name, [np.array([1]), np.array([2, 4])]) > 0


def test_what_another_python_lacks_is_said(process: Others) -> None:
    """Whatever it is, and nothing is both there and lacking."""
    ways = {re.split(r" \d", name)[0] for name in (*process.there, *process.absent)}
    assert ways == {"zarr", "Lance"}
    assert not set(process.there) & set(process.absent)
    assert all("Error: " in why for why in process.absent.values())


def test_every_way_of_this_python_reads_the_same(asked: reads_forms.Asked, tmp_path: Path) -> None:
    """Scales too, where a way reads those; what is off by one value is found."""
    forms = reads_forms.of_antcache(tmp_path, asked) | reads_forms.of_map(tmp_path, asked)
    forms |= reads_forms.of_lmdb(tmp_path, asked, str(asked.any.dtype), 1)
    reads_forms.small_chunks(tmp_path, asked)
    forms |= reads_forms.of_apis(tmp_path, asked, 1, 1)
    reads_forms.check(forms, asked)
    assert len(forms) >= 7
    assert all(form.seconds([np.array([0]), np.array([1, 2])]) > 0 for form in forms.values())
    with_scales = {name for name, form in forms.items() if form.scales is not None}
    maps = {"antcache map", "antcache map, hdf5", "raw memory map"}
    assert with_scales == (maps if asked.scales else set())
    other = asked.videos | {"P01": asked.videos["P01"] + 1}
    for name, form in forms.items():
        if form.values is not None:
            with pytest.raises(AssertionError, match=name):
                reads_forms.check({name: form}, replace(asked, videos=other))
    for name in with_scales:
        other = {video: scales + 1 for video, scales in asked.scales.items()}
        with pytest.raises(AssertionError, match=name):
            reads_forms.check({name: forms[name]}, replace(asked, scales=other))


def test_the_process_ends_with_the_race(asked: reads_forms.Asked, tmp_path: Path) -> None:
    for prepare in (
        reads_forms.of_antcache,
        reads_forms.of_map,
        reads_forms.small_chunks,
        reads_forms.leave_for_others,
    ):
        prepare(tmp_path, asked)
    with pytest.raises(ZeroDivisionError), others(PYTHON, tmp_path) as process:
        1 / 0  # noqa: B018
    assert process.process.returncode == 0
