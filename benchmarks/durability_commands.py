"""Imports, teachers, students and sweeps killed; see `durability.py`.

Promise: kills land anywhere in a command, around a random sync or around a random rename, link or
exchange of it. After each kill what can be seen is valid; then the same command (a student's with
`--resume` once there is a run) must go on and leave what an undisturbed run leaves, to the bit, and
nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from durability_runner import KilledCommand, Violation
from safetensors import SafetensorError
from safetensors.numpy import load_file

import antcache.cli.annotations
import antcache.cli.student.sweep
import antcache.cli.student.train
import antcache.cli.teacher.train
import antcache.student.runs.train
import antcache.student.sweeps.run
import antcache.teacher.counting.teacher
import antcache.teacher.sequence  # noqa: F401
from antcache.annotations import read_annotations
from antcache.files import disk, is_leftover
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.format import STAGING
from antcache.store.integrity.verify import verify
from antcache.student.runs.checkpoint import STATE, latest_checkpoint
from antcache.student.runs.place import CONFIG, RESULT
from antcache.teacher.keeping import MADE

WORKING, SYNCING, NAMING = range(3)
Tree = dict[str, str]


class OneProcessCommand(KilledCommand):
    """A command of one process; `inputs` are those of `write_inputs`."""

    phases = ("at work", "syncing", "naming")

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs
        self.reference: Tree = {}

    def instrument(self, slot: int) -> None:
        """See `KilledCommand`."""
        mark = self.bench.mark
        mark(os, "fsync", slot, SYNCING, WORKING, 0)
        for owner, name in ((os, "rename"), (os, "replace"), (os, "link"), (disk, "_renameat2")):
            mark(owner, name, slot, NAMING, None, 1)

    def keep(self, out: Path) -> None:
        """See `KilledCommand`."""
        self.reference = tree(out)

    def check_whole(self, out: Path) -> None:
        """See `KilledCommand`."""
        self.check_state(out)
        found = tree(out)
        for name in sorted(found.keys() | self.reference.keys()):
            if found.get(name) != self.reference.get(name):
                raise Violation(f"{name} is not as an undisturbed run leaves it")
        left = [p for p in out.rglob("*") if is_leftover(p.name) or p.name in (STAGING, ".lock")]
        if left:
            raise Violation(f"left over: {left[0]}")


class Import(OneProcessCommand):
    """`annotations import` into a new store of a kind, or in place of other labels."""

    def __init__(self, inputs: Path, kind: str, *, overwrite: bool) -> None:
        super().__init__(inputs)
        self.kind, self.overwrite = kind, overwrite
        self.name = f"import{' --overwrite' * overwrite}: {kind}"
        self.before: Tree = {}

    def prepare(self, out: Path) -> None:
        """See `KilledCommand`."""
        if self.overwrite:
            shutil.copytree(self.inputs / f"old.{self.kind}", self._store(out))
            self.before = tree(out)

    def command(self, out: Path) -> list[str]:
        """See `KilledCommand`."""
        words = ["annotations", "import", "table", str(self.inputs / "new"), str(self._store(out))]
        return [*words, "--name", "toy", *["--overwrite"] * self.overwrite]

    def check_state(self, out: Path) -> int:
        """See `KilledCommand`: all old, all new, or a store without labels; how many splits."""
        path = self._store(out)
        if is_empty(path):
            return 0
        store, found = Store.open(path), tree(out)
        if not verify(store).intact:
            raise Violation("the store is damaged")
        if found not in (self.before, self.reference) and (self.overwrite or store.splits()):
            raise Violation(f"neither all old nor all new: {store.splits()}")
        return len(store.splits())

    def _store(self, out: Path) -> Path:
        return out / f"s.{self.kind}"


class Teach(OneProcessCommand):
    """`teacher train` of a kind: its folder, and its targets in the store."""

    def __init__(self, inputs: Path, kind: str) -> None:
        super().__init__(inputs)
        self.kind, self.name = kind, f"teacher train: {kind}"

    def prepare(self, out: Path) -> None:
        """See `KilledCommand`."""
        shutil.copytree(self.inputs / "old.hdf5", out / "s.h5")

    def command(self, out: Path) -> list[str]:
        """See `KilledCommand`."""
        words = ["teacher", "train", str(out / "s.h5"), "--name", "t", "--kind", self.kind]
        epochs = ["--epochs", "1"] if self.kind == "sequence" else []
        return [*words, "--folds", "2", *epochs]

    def check_state(self, out: Path) -> int:
        """See `KilledCommand`: what is there is whole, and says so if its targets are missing."""
        store, folder = Store.open(out / "s.h5"), out / "s.h5.teachers" / "t"
        there = "t" in store.target_names()
        if not verify(store).intact:
            raise Violation("the store is damaged")
        if not folder.exists():
            if there:
                raise Violation("targets without their teacher")
            return 0
        pending = json.loads((folder / MADE).read_text())["pending"]
        if not there and not pending:
            raise Violation("a teacher that does not say that its targets are missing")
        for name, digest in tree(out).items():
            unsaid = pending and name.endswith(MADE)
            if self.reference and not unsaid and digest != self.reference.get(name):
                raise Violation(f"{name} is not as in the reference")
        return 1 + there


class StudentTraining(OneProcessCommand):
    """`student train`, resumed with `--resume` once there is a run."""

    name = "student train"
    words = ("--epochs", "4", "--head", "light", "--layers", "1", "--heads", "2", "--width", "16")
    words += ("--batch-size", "16", "--ema", "0.9", "--held-out", "0.3", "--device", "cpu")
    words += ("--precision", "float32", "--dropout", "0.1")

    def prepare(self, out: Path) -> None:
        """See `KilledCommand`; the store is only read."""

    def command(self, out: Path) -> list[str]:
        """See `KilledCommand`."""
        words = ["student", "train", str(self.inputs / "old.hdf5"), "--run", str(out / "run")]
        return [*words, "--resume"] if (out / "run" / CONFIG).exists() else [*words, *self.words]

    def check_state(self, out: Path) -> int:
        """See `KilledCommand`: a run that is new or can be resumed; whether it has a checkpoint."""
        return check_run(out / "run")


class Sweeping(OneProcessCommand):
    """`student sweep` of two settings with two seeds each."""

    name = "student sweep"

    def prepare(self, out: Path) -> None:
        """See `KilledCommand`; the store is only read."""

    def command(self, out: Path) -> list[str]:
        """See `KilledCommand`."""
        words = ["student", "sweep", str(self.inputs / "old.hdf5"), str(self.inputs / "plan.yaml")]
        return [*words, "--runs", str(out / "runs")]

    def check_state(self, out: Path) -> int:
        """See `KilledCommand`: runs that are new or can be resumed; how many have a checkpoint."""
        return sum(check_run(run) for run in (out / "runs").glob("*/seed-*"))


def check_run(run: Path) -> int:
    """Raise `Violation` unless a run is new or can be resumed; whether it has a checkpoint."""
    names = {p.name for p in run.iterdir() if not is_leftover(p.name)} if run.exists() else set()
    if CONFIG not in names:
        if names - {"log.txt", ".lock"}:
            raise Violation(f"neither new nor resumable: {sorted(names)}")
        return 0
    json.loads((run / CONFIG).read_text())
    newest = latest_checkpoint(run / "checkpoint")
    if newest is None:
        return 0
    try:
        json.loads((newest / STATE).read_text())
        for path in (*newest.glob("*.safetensors"), *run.glob("*.safetensors")):
            load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise Violation(f"{newest}: {error}") from error
    return 1


def tree(out: Path) -> Tree:
    """Hash of what each file below `out` says, without what differs between any two runs."""
    return {str(path.relative_to(out)): digest for path, digest in _digests(out)}


def _digests(out: Path) -> Iterator[tuple[Path, str]]:
    for path in out.rglob("*"):
        apart = path.relative_to(out).parts
        idle = path.name in ("errors", "log.txt", ".lock") or path.suffix in (".log", ".lock")
        if (
            not path.is_file()
            or idle
            or "tensorboard" in apart
            or STAGING in apart
            or any(is_leftover(part) for part in apart)
        ):
            continue
        yield path, hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    """A file's bytes; tensors without their header, figures without the time they took."""
    if path.suffix == ".safetensors":  # the header names what it holds in any order
        tensors = load_file(path)
        return b"".join(tensors[name].tobytes() for name in sorted(tensors))
    if path.name in ("metrics.jsonl", RESULT, STATE, "table.json"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return b"\n".join(json.dumps(_timeless(json.loads(line))).encode() for line in lines)
    return path.read_bytes()


def _timeless(value: object) -> object:
    """Without how long something took, and how often it was resumed."""
    if isinstance(value, dict):
        without = ("seconds", "resumed_epoch")
        return {k: _timeless(v) for k, v in value.items() if k not in without}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def write_inputs(folder: Path) -> None:
    """Two tables of one taxonomy, stores with the first one's labels and features, and a plan."""
    rng = np.random.default_rng(0)
    verbs, nouns = ("take", "cut", "put"), ("pan", "leek", "salt")
    for name in ("old", "new"):
        (folder / name).mkdir(parents=True)
        for split, videos in (("train", 6), ("validation", 3)):
            rows = []
            for video in range(videos):
                for number in range(12):
                    # Every action occurs in both tables: they have one taxonomy.
                    action = number % 9 if not video else int(rng.integers(9))
                    verb, noun = verbs[action // 3], nouns[action % 3]
                    times = f"{3 * number}.0,{3 * number + 3}.0"
                    rows.append(f"{split}{video}-{number},{split}{video},{times},{verb},{noun}\n")
            text = f"uid,video,start,stop,verb,noun\n{''.join(rows)}"
            (folder / name / f"{split}.csv").write_text(text)
    dataset = read_annotations("table", folder / "old", name="toy")
    for kind in ("zarr", "hdf5"):
        store = Store.create(folder / f"old.{kind}", dataset="toy", backend=kind)
        store.write_splits(dataset.splits, dataset.taxonomy, source=dataset.source)
    store.create_stream("rgb", dim=8, dtype="float16", fps=4.0, source="noise", config={})
    for segments in dataset.splits.values():
        for video in segments.videos:
            rows = rng.standard_normal((36 * 4, 8)).astype(np.float16)
            store.write_features("rgb", video, rows)
    base = "{epochs: 2, head: mean, device: cpu, precision: float32, batch_size: 16}"
    plan = f"base: {base}\nseeds: [0, 1]\ngrid: {{lr: [0.001, 0.01]}}\n"
    (folder / "plan.yaml").write_text(plan)
