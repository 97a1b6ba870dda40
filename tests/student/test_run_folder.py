"""The folder of a run: new or resumable, whatever becomes of the disk and of who trains."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from antcache.errors import AlreadyExists, NotFound, WriteFailed
from antcache.evaluation import Predictions
from antcache.files import is_leftover
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import latest_checkpoint
from antcache.student.runs.place import CONFIG, LOG, check_place
from antcache.student.runs.train import train
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep

MakeStore = Callable[..., Store]
Killed = Callable[[Callable[[], Any], int], bool]
Failing = Callable[[int, int], AbstractContextManager[list[str]]]


@pytest.fixture
def config(small: StudentConfig) -> StudentConfig:
    return small.replace(epochs=2, head="mean", layers=None, heads=None, width=None)


def kept(run: Path) -> dict[str, bytes]:
    """What a run is: its weights, scores and figures, without the time that they took."""
    found = {}
    for path in run.rglob("*.safetensors"):
        tensors = load_file(path)  # the header names them in any order
        found[str(path.relative_to(run))] = b"".join(tensors[n].tobytes() for n in sorted(tensors))
    result = json.loads((run / "result.json").read_text())
    found["metrics"] = json.dumps(result["metrics"]).encode()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["lines"] = json.dumps([{**line, "seconds": 0} for line in lines]).encode()
    return found


def go_on(store: Store, run: Path, config: StudentConfig) -> None:
    """The same command again: with `--resume` once there is a run, without it before."""
    train(store, run, config, resume=(run / "config.json").exists())


def check_clean(run: Path) -> None:
    left = [p for p in run.rglob("*") if is_leftover(p.name) or p.name == ".lock"]
    assert left == []


@pytest.fixture
def expected(make_store: MakeStore, config: StudentConfig, tmp_path: Path) -> dict[str, bytes]:
    train(make_store(num_videos=2), tmp_path / "whole", config)
    return kept(tmp_path / "whole")


@pytest.fixture
def store(tmp_path: Path, expected: dict[str, bytes]) -> Store:
    return Store.open(tmp_path / "store")


@contextmanager
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Function that gives a disk of so many KiB, at the same place; it keeps what is on it."""
    folder = Path(tempfile.mkdtemp())
    mounted = False

    def size(kib: int) -> Path:
        nonlocal mounted
        how = f"remount,size={kib}k" if mounted else f"size={kib}k"
        mount = ["mount", "-t", "tmpfs", "-o", how, "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        mounted = True
        return folder

    try:
        yield size
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_at_any_point(
    store: Store, config: StudentConfig, expected: dict[str, bytes]
) -> None:
    """Of all sizes up to one that holds the run: then there is room again, and it goes on."""
    refused, states = "at first", set()
    for kib in range(4, 400, 4):
        if not refused:
            break
        with small_disk() as disk:
            run, refused = disk(kib) / "run", ""
            (disk(kib) / "filler").write_bytes(bytes(4096))
            try:
                train(store, run, config)
            except WriteFailed as error:
                refused = str(error)
            assert not refused or "can't be written (No space left on device)" in refused
            check_clean(run.parent)
            (disk(kib) / "filler").unlink()
            there = (run / "config.json").exists()
            states.add((there, latest_checkpoint(run / "checkpoint") is not None))
            assert there or not run.exists() or list(run.iterdir()) == []
            disk(4096)
            go_on(store, run, config)
            assert kept(run) == expected
            check_clean(run)
    assert not refused
    assert states == {(False, False), (True, False), (True, True)}


def test_every_call_may_fail(
    store: Store,
    config: StudentConfig,
    expected: dict[str, bytes],
    tmp_path: Path,
    failing: Failing,
) -> None:
    codes = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
    for number in range(0, 400, 3):
        run, refused = tmp_path / f"run-{number}", None
        code = codes[number % 4]
        with failing(number, code) as made:
            try:
                train(store, run, config)
            except WriteFailed as error:
                refused = error
        if refused is None:
            break
        assert os.strerror(code) in str(refused)
        go_on(store, run, config)
        assert kept(run) == expected
        check_clean(run)
    assert len(made) <= number
    assert number > 30


def test_killed_at_any_point(
    store: Store,
    config: StudentConfig,
    expected: dict[str, bytes],
    tmp_path: Path,
    killed: Killed,
) -> None:
    for number in range(400):
        run = tmp_path / f"run-{number}"
        if not killed(lambda run=run: train(store, run, config), number):
            break
        go_on(store, run, config)
        assert kept(run) == expected
        check_clean(run)
    assert number > 10


def test_a_sweep_killed_at_any_point(
    store: Store, config: StudentConfig, tmp_path: Path, killed: Killed
) -> None:
    plan = Sweep(settings={"a": config, "b": config.replace(lr=1e-3)}, seeds=(0,))
    sweep(store, tmp_path / "whole-sweep", plan)
    names = ("a/seed-0", "b/seed-0")
    wanted = {name: kept(tmp_path / "whole-sweep" / name) for name in names}
    table = (tmp_path / "whole-sweep" / "table.json").read_bytes()
    for number in range(0, 400, 5):
        folder = tmp_path / f"sweep-{number}"
        if not killed(lambda folder=folder: sweep(store, folder, plan), number):
            break
        sweep(store, folder, plan)
        assert {name: kept(folder / name) for name in names} == wanted
        assert (folder / "table.json").read_bytes() == table
        check_clean(folder)
    assert number > 20


def test_files_have_the_permissions_of_the_umask(
    store: Store, config: StudentConfig, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        train(store, tmp_path / "run", config.replace(held_out=0.5, ema=0.9))
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "run").rglob("*")}
    assert {"weights.safetensors", "optimizer.safetensors", "predictions.safetensors"} < set(modes)
    assert {"average.safetensors", "best.safetensors", "held_out.safetensors"} < set(modes)
    assert {n for n, m in modes.items() if m not in (0o644, 0o755)} == set()


def test_what_is_no_run_yet(tmp_path: Path) -> None:
    """A log, a lock and what a killed writer left are nobody's work."""
    run = tmp_path / "run"
    run.mkdir()
    for name in (LOG, ".lock", f".config.json.{'0' * 32}", f".config.json.{'0' * 32}.lock"):
        (run / name).write_text("")
    check_place(run, resume=False)
    (run / ".config.json.123").write_text("")
    with pytest.raises(AlreadyExists, match=r"already here \(choose another folder\)"):
        check_place(run, resume=False)
    with pytest.raises(NotFound, match="no run to resume"):  # so that is no way out
        check_place(run, resume=True)
    (run / CONFIG).write_text("{}")
    with pytest.raises(AlreadyExists, match=r"already here .*go on with this one: --resume"):
        check_place(run, resume=False)


def test_a_refused_disk_says_which_run(store: Store, config: StudentConfig) -> None:
    with small_disk() as disk:
        run = disk(64) / "run"
        subprocess.run(["mount", "-o", "remount,ro", str(run.parent)], check=True)
        with pytest.raises(WriteFailed, match=rf"{run}: can't be written \(Read-only file system"):
            train(store, run, config)


def test_predictions_appear_whole_or_not_at_all(
    store: Store, config: StudentConfig, tmp_path: Path
) -> None:
    result = train(store, None, config)
    path = tmp_path / "new" / "p.safetensors"
    result.predictions.save(path)
    with pytest.raises(AlreadyExists, match=r"p\.safetensors: something is already here"):
        result.predictions.save(path)
    np.testing.assert_array_equal(Predictions.load(path).scores, result.predictions.scores)
    assert [p.name for p in path.parent.iterdir()] == ["p.safetensors"]
