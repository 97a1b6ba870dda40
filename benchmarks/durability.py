"""Is anything lost, or half written, when an extraction is killed?

    python benchmarks/durability.py [--kills 200] [--seed 0] [--record]

`antcache extract` on small videos, one of them broken, is killed with SIGKILL at random moments (a
third anywhere in the run, a third while a video is published, a third around its rename): into a
Zarr and an HDF5 store, by one process and by three that share the work. Of three, all are killed,
or one, which the others must make up for. After each kill every video that the store lists, or that
the log calls written, must be equal to an undisturbed run's to the bit, and so must every other
file outside staging; nothing else may be visible. Then the command runs again, and must finish and
leave exactly the files of an undisturbed run.

Workers are forked from a parent that has imported everything and loaded the backbone, so that kills
land in the work and not in the start of Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import av
import numpy as np
import torch
from record import Figure, finish
from transformers import ViTConfig, ViTModel
from transformers.utils.logging import disable_progress_bar

import antcache.cli.extract  # noqa: F401  (loaded before the fork)
from antcache import extract as library
from antcache.cli.main import main as antcache_main
from antcache.errors import AntcacheError
from antcache.extract import Ledger
from antcache.extract import run as extract_run
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.folder import STAGING, FolderBackend
from antcache.store.hdf5_backend import Hdf5Backend
from antcache.store.zarr_backend import ZarrBackend

CASES = [(kind, workers) for kind in ("zarr", "hdf5") for workers in (1, 3)]
VIDEOS = {"v1": 30, "v2": 60, "v3": 20, "v4": 45, "v5": 25}
"""Frames of each video."""
BROKEN = "v6"
BETWEEN, EXTRACTING, PUBLISHING, PUBLISHED = range(4)
PHASES = ("between videos", "decoding or embedding", "publishing", "after the rename")
AIMS = {"publish": 1, "_rename": 2}
LONGEST_S = 120
WRITTEN = re.compile(r"^.* (\d+) INFO antcache\.extract\.run: (\w+): \d+ rows from ", re.M)


@dataclass
class Count:
    """What a case came to."""

    kills: int = 0
    finished: int = 0
    verified: int = 0
    violations: list[str] = field(default_factory=list)
    landed: Counter[str] = field(default_factory=Counter)


class Bench:
    """Videos, a backbone, and what undisturbed runs leave, in `folder`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        # Shared with the workers, of each: phase, publishings and renames begun, and how many
        # seconds the longest took.
        self.shared = np.frombuffer(mmap.mmap(-1, 3 * 5 * 8)).reshape(3, 5)
        self.wait(self.fork(lambda: write_inputs(folder)), 0)
        torch.set_num_threads(1)
        self.backbone = library.load_backbone(folder / "vit", device="cpu")
        threads = len(list(Path("/proc/self/task").iterdir()))
        assert threads == 1, f"{threads} threads: forking would not be safe"
        self.references: dict[str, dict[str, str]] = {}
        self.seconds: dict[tuple[str, int], dict[str, float]] = {}

    def fork(self, work: Callable[[], Any], errors: Path | None = None) -> int:
        """A new process that does `work` and ends."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            if errors is not None:
                target = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(target, 1)
                os.dup2(target, 2)
            code = int(work() or 0)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, pid: int, *codes: int) -> None:
        """Wait for a process to end with one of these codes (negative: killed by that signal)."""
        end = time.monotonic() + LONGEST_S
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise Violation(f"a process did not end within {LONGEST_S} s")
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise Violation(f"exit code {code}, not one of {codes}")

    def start(self, store: Path, kind: str, workers: int) -> list[int]:
        """`antcache extract`, so many times at once."""
        self.shared[:] = 0
        return [
            self.fork(lambda slot=slot: self.extract(store, kind, slot), store.parent / "errors")
            for slot in range(workers)
        ]

    def extract(self, store: Path, kind: str, slot: int) -> None:
        """`antcache extract`, which says in shared memory how far it is."""
        # The one that the parent has loaded.
        library.load_backbone = lambda *args, **options: self.backbone
        self.mark(extract_run, "_extract_one", slot, EXTRACTING, BETWEEN)
        self.mark(FolderBackend, "publish", slot, PUBLISHING, EXTRACTING)
        self.mark(ZarrBackend, "_rename", slot, PUBLISHING, PUBLISHED)
        self.mark(Hdf5Backend, "_rename", slot, PUBLISHING, PUBLISHED)
        sys.argv = ["antcache", "extract", str(self.folder / "videos"), str(store)]
        sys.argv += ["--backbone", str(self.folder / "vit"), "--fps", "10", "--format", kind]
        antcache_main()

    def mark(self, owner: Any, name: str, slot: int, now: int, then: int) -> None:
        """Let a function say that the phase is `now` while it runs and `then` afterwards."""
        work = getattr(owner, name)
        mine = self.shared[slot]
        column = AIMS.get(name, 0)

        def marked(*args: Any, **options: Any) -> Any:
            mine[0] = now
            if column:
                mine[column] += 1
            began = time.monotonic()
            try:
                return work(*args, **options)
            finally:
                mine[0] = then
                if column:
                    mine[column + 2] = max(mine[column + 2], time.monotonic() - began)

        setattr(owner, name, marked)

    def await_moment(self, case: tuple[str, int], slot: int, pid: int) -> None:
        """Wait until a random moment of a worker's life."""
        aim = self.random.choice(["anywhere", *AIMS])
        if aim in AIMS:  # within the publishing, or the rename, of a random video
            number = self.random.randint(1, max(1, len(VIDEOS) // case[1]))
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while self.shared[slot, AIMS[aim]] < number and not os.waitid(os.P_PID, pid, ended):
                time.sleep(0.0001)
        time.sleep(self.random.uniform(0, self.seconds[case][aim]))

    def undisturbed(self, kind: str, workers: int) -> None:
        """Time a run that nobody kills, and keep or compare what it leaves."""
        times = []
        for _ in range(3):
            store = self.new_store(kind)
            began = time.monotonic()
            for pid in self.start(store, kind, workers):
                self.wait(pid, 1)  # 1: one video is broken
            times.append(time.monotonic() - began)
            self.references.setdefault(kind, tree(store))
            self.check_whole(store, kind)
            written = WRITTEN.findall(log_of(store))
            if sorted(name for _, name in written) != sorted(VIDEOS):
                raise Violation(f"undisturbed, yet written were {written}")
            if "another process wrote it" in log_of(store):
                raise Violation("undisturbed, yet a video was done twice")
            if workers > 1 and len({pid for pid, _ in written}) == 1:
                print("note: one process of three did all the work")
        longest = {name: float(self.shared[:, column + 2].max()) for name, column in AIMS.items()}
        self.seconds[kind, workers] = {"anywhere": sorted(times)[1], **longest}

    def new_store(self, kind: str) -> Path:
        """Where the next store goes; the last one is gone."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()
        return self.folder / "out" / f"s.{kind}"

    def kill_once(self, kind: str, workers: int, count: Count) -> None:
        """Kill a run at a random moment, check what is there, and run again."""
        store = self.new_store(kind)
        pids = self.start(store, kind, workers)
        one = self.random.randrange(workers)
        self.await_moment((kind, workers), one, pids[one])
        victims = [one] if self.random.random() < 0.5 else list(range(workers))
        for slot in victims:
            os.kill(pids[slot], signal.SIGKILL)  # not waited for yet, so it is still ours
        phases = [int(self.shared[slot, 0]) for slot in victims]
        killed = []
        for slot, pid in enumerate(pids):
            if slot in victims:
                _, status = os.waitpid(pid, 0)
                if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                    killed.append(slot)
            else:
                self.wait(pid, 1)
        if not killed:
            return  # all had come to their ends
        count.kills += 1
        for slot, phase in zip(victims, phases, strict=True):
            count.landed[PHASES[phase]] += slot in killed
        count.verified += self.check_visible(store, kind)
        for pid in self.start(store, kind, workers):
            self.wait(pid, 1)
        self.check_whole(store, kind)
        count.finished += 1

    def check_visible(self, path: Path, kind: str) -> int:
        """Whatever can be seen in the store is whole and right; how many videos those are."""
        log = log_of(path)
        said = {name for _, name in WRITTEN.findall(log)}
        listed: set[str] = set()
        reference = self.references[kind]
        if not is_empty(path):
            store = Store.open(path)
            listed = set(store.videos("rgb")) if "rgb" in store.streams() else set()
            for key in ("", "features", "features/rgb"):
                if store.backend.group_damaged(key):
                    raise Violation(f"group {key!r} is damaged")
            for name in listed:
                if damage := store.backend.damage(f"features/rgb/{name}"):
                    raise Violation(f"{name}: {damage} damaged")
                rows = store.features("rgb", name).read()
                if hashlib.sha256(rows).hexdigest() != reference[f"rows of {name}"]:
                    raise Violation(f"{name}: other rows")
        if not said <= listed <= set(VIDEOS):
            raise Violation(f"the log says {sorted(said)}, the store lists {sorted(listed)}")
        other = [f for f, digest in tree(path).items() if reference.get(f) != digest]
        if other:
            raise Violation(f"{other[0]} is not as in the reference")
        if any(f.video != BROKEN for f in Ledger(path).read()):
            raise Violation("the ledger blames a good video")
        return len(listed)

    def check_whole(self, path: Path, kind: str) -> None:
        """The store is what an undisturbed run leaves, and nothing lies about."""
        if self.check_visible(path, kind) != len(VIDEOS):
            raise Violation("videos are missing after a run that finished")
        if missing := self.references[kind].keys() - tree(path).keys():
            raise Violation(f"{sorted(missing)[0]} is missing after a run that finished")
        if [f.video for f in Ledger(path).read()] != [BROKEN]:
            raise Violation("the ledger does not list the broken video alone")
        expected = {path.name, f"{path.name}.log", f"{path.name}.failures.jsonl", "errors"}
        left = {p.name for p in path.parent.iterdir()} ^ expected
        if left or (path / STAGING).exists():
            raise Violation(f"left over: {sorted(left) or STAGING}")


class Violation(Exception):
    """A promise was broken."""


def log_of(store: Path) -> str:
    """What was logged beside a store."""
    log = store.with_name(f"{store.name}.log")
    return log.read_text() if log.exists() else ""


def tree(path: Path) -> dict[str, str]:
    """Hash of each file of a store outside staging, and of the rows of each video."""
    found = {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and STAGING not in file.parts
    }
    if not is_empty(path):
        store = Store.open(path)
        for name in store.videos("rgb"):
            rows = store.features("rgb", name).read()
            found[f"rows of {name}"] = hashlib.sha256(rows).hexdigest()
    return found


def write_inputs(folder: Path) -> None:
    """Small videos, and a small ViT with random weights."""
    videos = folder / "videos"
    videos.mkdir()
    noise = np.random.default_rng(0)
    for name, frames in VIDEOS.items():
        with av.open(str(videos / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=20)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(frames):
                picture = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 20)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    (videos / f"{BROKEN}.mp4").write_text("no film")
    torch.manual_seed(0)
    disable_progress_bar()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ViTModel(ViTConfig(**sizes, intermediate_size=64, image_size=32, patch_size=8))
    model.save_pretrained(folder / "vit")
    processor = {"image_processor_type": "ViTImageProcessor", "do_resize": True}
    processor |= {"size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True}
    processor |= {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))


def run_case(bench: Bench, kind: str, workers: int, kills: int) -> Count:
    """Kill so many runs of a kind."""
    bench.undisturbed(kind, workers)
    count = Count()
    began = time.monotonic()
    while count.kills < kills:
        try:
            bench.kill_once(kind, workers, count)
        except (Violation, AntcacheError, OSError) as error:
            errors = (bench.folder / "out" / "errors").read_text()[-2000:]
            count.violations.append(f"{kind}, {workers} workers: {error}\n{errors}")
            print("VIOLATION", count.violations[-1])
            if len(count.violations) >= 10:
                break
    each = (time.monotonic() - began) / max(1, count.kills)
    landed = ", ".join(f"{count.landed[phase]} {phase}" for phase in PHASES)
    print(
        f"{kind:6}{workers:8}{count.kills:8}{len(count.violations):12}{count.verified:10}"
        f"{count.finished:10}{bench.seconds[kind, workers]['anywhere']:8.2f}{each:8.2f}   {landed}",
        flush=True,
    )
    return count


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="per backend and number of workers")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--record", action="store_true", help="update the results file")
    args = parser.parse_args()
    figures: list[Figure] = []
    print(
        "kind   workers   kills  violations  verified  finished   run s  each s   landed",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seed)
        for kind, workers in CASES:
            count = run_case(bench, kind, workers, args.kills)
            case = f"{kind}, {workers} process{'es' if workers > 1 else ''}"
            broken = len(count.violations)
            within = count.landed["publishing"] + count.landed["after the rename"]
            for name, value, bounds in (
                ("kills", count.kills, {"at_least": args.kills}),
                ("violations", broken, {"at_most": 0}),
                ("videos listed after a kill, each verified", count.verified, {}),
                ("re-runs that finished", count.finished, {"at_least": args.kills}),
                ("processes killed while publishing", within, {}),
            ):
                full = f"{name}: {case}"
                figures.append(Figure(figure=full, value=value, unit="", n=count.kills, **bounds))
    finish("durability", figures, record=args.record)


if __name__ == "__main__":
    main()
