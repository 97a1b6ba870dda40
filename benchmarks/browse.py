"""How long does the page over a large store take to appear, and how much memory does it need?

    python benchmarks/browse.py [--record] [--videos N] [--segments N] [--repeats N]

A generated store of EPIC-KITCHENS-100's size (700 videos, 90,000 segments, 3,806 actions) with a
stream of features, soft targets of every segment (the 50 best) and a run that predicts every ninth
video. `antcache browse` is started as a process of its own, each time anew, and asked as a browser
asks it: first for the page and the list of videos, then for all that it fetches afterwards. Disk
pages may be cached, the process knows nothing yet. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from record import Figure, finish

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.store import SoftTargets, Store

VIDEOS, SEGMENTS = 700, 90_000
VERBS, NOUNS, ACTIONS, KEPT = 97, 300, 3806, 50
HELD_OUT = 9
"""Of so many videos one is of the validation split."""
LONGEST_S, MOST_MB = 1.0, 300.0
FIRST = ("", "browse.css", "browse.js", "data/list.json")
"""What is there before anybody sees a video."""
LATER = {
    "classes": ("data/classes.json",),
    "figures of a teacher": ("data/figures-0.json",),
    "figures of a run": ("data/figures-1.json",),
    "a video": ("data/video-0.json", "data/guesses-0-0.json", "data/guesses-1-0.json"),
    "the doctor's notes": ("data/notes.json",),
}


def taxonomy() -> Taxonomy:
    """As many classes as the data set has."""
    rng = np.random.default_rng(0)
    pairs = rng.choice(VERBS * NOUNS, ACTIONS, replace=False)
    return Taxonomy(
        dataset="epic-kitchens-100",
        verbs=tuple(f"verb-{i}" for i in range(VERBS)),
        nouns=tuple(f"noun:{i}" for i in range(NOUNS)),
        actions=tuple(f"verb-{p // NOUNS} noun:{p % NOUNS}" for p in pairs),
        action_verbs=tuple(int(p) // NOUNS for p in pairs),
        action_nouns=tuple(int(p) % NOUNS for p in pairs),
    )


def segments(classes: Taxonomy, videos: list[str], count: int, seed: int) -> Segments:
    """So many segments of some videos, one after the other."""
    rng = np.random.default_rng(seed)
    video = np.sort(rng.integers(0, len(videos), count))
    start = np.empty(count)
    for each in range(len(videos)):
        here = video == each
        start[here] = np.cumsum(rng.exponential(3.0, here.sum())) + 1.0
    action = np.minimum(rng.zipf(1.3, count) - 1, ACTIONS - 1)
    names = np.array(videos)[video]
    return Segments.of(
        uid=[f"{name}_{number}" for number, name in enumerate(names)],
        video=names,
        start_s=start,
        stop_s=start + rng.exponential(2.0, count) + 0.1,
        verb=classes.verb_of[action],
        noun=classes.noun_of[action],
        action=action,
    )


def write(folder: Path, videos: int, count: int) -> None:
    """The store, and the file of predictions beside it."""
    names = [f"P{n // 20:02d}_{n % 20:03d}" for n in range(videos)]
    held_out = names[::HELD_OUT]
    parts = {"train": sorted(set(names) - set(held_out)), "validation": held_out}
    classes, store = taxonomy(), Store.create(folder / "large.zarr")
    os.fsync, kept = lambda handle: None, os.fsync  # whether it outlives a power cut is not asked
    try:
        every = []
        for seed, (split, own) in enumerate(parts.items()):
            share = count * len(own) // videos
            every.append(segments(classes, own, share, seed))
            store.write_labels(split, every[-1], classes, source="generated")
        settings = {"dim": 2, "dtype": "float16", "source": "generated", "config": {}}
        store.create_stream("rgb", fps=1.0, **settings)
        for name in names:
            store.write_features("rgb", name, np.zeros((1000, 2), np.float16))
        rng, uid = np.random.default_rng(9), np.concatenate([part.uid for part in every])
        steps = rng.integers(1, ACTIONS // KEPT, (len(uid), KEPT))
        logit = -np.sort(rng.exponential(1.0, (len(uid), KEPT)), axis=1)
        targets = SoftTargets(
            uid=uid,
            valid=np.ones(len(uid), np.bool_),
            index=(np.cumsum(steps, axis=1) - 1).astype(np.int32),
            logit=logit.astype(np.float32),
            tail=np.full(len(uid), -1.0, np.float32),
            attributes={"taxonomy": classes.fingerprint, "form": f"top-{KEPT}"},
        )
        store.write_targets("teacher", targets)
        shape = (len(every[1]), ACTIONS)
        scores = rng.standard_normal(shape, dtype=np.float32)
        Predictions(
            uid=every[1].uid, scores=scores, split="validation", taxonomy=classes.fingerprint
        ).save(folder / "run.safetensors")
    finally:
        os.fsync = kept


def peak_mb(process: int) -> float:
    """Largest resident memory of a process so far."""
    status = Path(f"/proc/{process}/status").read_text("ascii")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) / 1024


def measure(folder: Path) -> Iterator[tuple[str, str, float]]:
    """One process: figure, unit and value of each step."""
    command = [sys.executable, "-m", "antcache", "browse", "large.zarr", "--run", "run.safetensors"]
    command += ["--port", "0", "--json"]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": folder, "env": environment}
    with subprocess.Popen(command, **pipes) as server:
        try:
            assert server.stdout is not None
            said = "".join(server.stdout.readline() for _ in range(4))
            address = json.loads(said)["address"]
            yield "start of the command", "s", time.perf_counter() - began
            yield "first page", "s", asked(address, FIRST)
            yield "first page, peak memory", "MB", peak_mb(server.pid)
            for name, paths in LATER.items():
                yield name, "s", asked(address, paths)
            yield "everything, peak memory", "MB", peak_mb(server.pid)
        finally:
            server.terminate()


def asked(address: str, paths: tuple[str, ...]) -> float:
    """Seconds until all is here, one after the other; a document must not say why it is none."""
    began, found = time.perf_counter(), []
    for path in paths:
        with urllib.request.urlopen(address + path, timeout=300) as answer:
            found.append(answer.read())
    seconds = time.perf_counter() - began
    for path, content in zip(paths, found, strict=True):
        if path.endswith(".json") and "why" in json.loads(content):
            raise SystemExit(f"{path}: {content[:200]!r}")
    return seconds


def figures(found: list[tuple[str, str, float]]) -> Iterator[Figure]:
    """The median of what each process took, and the largest memory."""
    for name in dict.fromkeys(name for name, _, _ in found):
        values = np.array([value for each, _, value in found if each == name])
        unit = next(unit for each, unit, _ in found if each == name)
        in_memory = unit == "MB"
        yield Figure(
            figure=name,
            value=round(float(values.max() if in_memory else np.median(values)), 3),
            unit=unit,
            at_most=MOST_MB if in_memory else LONGEST_S if name == "first page" else None,
            spread=None if in_memory else round(float(np.ptp(values)), 3),
            n=len(values),
        )


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="of the store")
    parser.add_argument("--segments", type=int, default=SEGMENTS, help="of all videos together")
    parser.add_argument("--repeats", type=int, default=3, help="processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, arguments.videos, arguments.segments)
        measured = [each for _ in range(arguments.repeats) for each in measure(folder)]
    found = list(figures(measured))
    for each in found:
        bound = f"  at most {each.at_most:g}" if each.at_most else ""
        print(f"{each.figure:30}{each.value:10,.3f} {each.unit}{bound}")
    finish("browse", found, record=arguments.record)


if __name__ == "__main__":
    main()
