"""Is a single flipped bit found, wherever it is, named rightly, repaired, and never read?

    python benchmarks/bit_rot.py [--record] [--flips 1000] [--commands 60]

A small store with everything in it (labels, soft targets in both forms, a plain and a compressed
stream, one of int8 tokens, listed times), of each kind. One bit is flipped, `verify` reads the
store, the bit is flipped back, `verify` reads it again: 1,000 times. Half of the places are uniform
over all bytes of all files; for the other half a file is drawn first, so that small files are hit
as often as large ones. What `verify` has to say is known without asking it: a file of a Zarr store
by its path, a byte of an HDF5 file by where the arrays' own bytes are found in it.

Before it is flipped back, everything in the store is read as users read it: labels, soft targets,
settings of streams, classes, rows and times from memory maps, without them, and gathered as
windows. Each reading either gives what it gave before, to the bit, or refuses with an error of
ours; anything else is counted as silent, or as an error of another kind. (The files of the groups
`features` and `targets` hold no attributes, and nothing reads them.) In a few more places the
commands `evaluate`, `store doctor` and `student train` are run: they end as before, or not with
exit code 0.

Then, in 20 rounds, a few random videos and one group file are damaged (a bit, a missing file, a
short one, a longer one), `repair` runs, and the dropped videos are written again. The store must
then be the one that it was, byte for byte; and nothing else may have been dropped.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import forked
import h5py
import hostile_kit
import numpy as np
from record import Figure, finish

from antcache.annotations import Segments, Taxonomy
from antcache.errors import AntcacheError
from antcache.store import SoftTargets, Store
from antcache.store.format import checksums
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.store.reading.gather import Gatherer

ACTIONS = 12
STREAMS: dict[str, dict[str, Any]] = {
    "rgb": {"dim": 32, "dtype": "float16"},
    "flow": {"dim": 32, "dtype": "float32", "compressed": True},
    "tokens": {"dim": 8, "dtype": "int8", "grid": (1, 2, 2), "future": (0.5,)},
}
VIDEOS = ("v1", "v2", "v3", "v4")


def rows_of(stream: str, video: str) -> np.ndarray:
    """The rows (R, 32) of a video, or (R, 8, 8) of tokens, the same every time."""
    rng = np.random.default_rng([list(STREAMS).index(stream), VIDEOS.index(video)])
    row = (8, 8) if stream == "tokens" else (32,)
    rows = rng.normal(size=(int(rng.integers(80, 160)), *row))
    return rows.astype("float32" if stream == "flow" else "float16")


def write(store: Store, stream: str, video: str) -> None:
    """Write a video; where rows are not compressed, all but the first list their times."""
    rows = rows_of(stream, video)
    listed = stream != "flow" and video != "v1"
    times = np.arange(len(rows)) * 0.3 if listed else None
    store.write_features(stream, video, rows, times=times, attributes={"source": f"{video}.mp4"})


def build(path: Path, kind: str) -> Store:
    """A store with something of everything."""
    store = Store.create(path, backend=kind)
    taxonomy = Taxonomy(
        dataset="toy",
        verbs=("take", "put"),
        nouns=tuple(f"noun {i}" for i in range(ACTIONS // 2)),
        actions=tuple(f"action {i}" for i in range(ACTIONS)),
        action_verbs=tuple(i % 2 for i in range(ACTIONS)),
        action_nouns=tuple(i // 2 for i in range(ACTIONS)),
    )
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("validation", 20)):
        action = rng.integers(0, ACTIONS, count)
        segments = Segments.of(
            uid=[f"{split}/{i}" for i in range(count)],
            video=[VIDEOS[i % len(VIDEOS)] for i in range(count)],
            start_s=np.arange(count) * 1.5,
            stop_s=np.arange(count) * 1.5 + 1,
            verb=action % 2,
            noun=action // 2,
            action=action,
        )
        store.write_labels(split, segments, taxonomy, source="bit rot")
    dense = SoftTargets(
        uid=store.labels("train").uid,
        valid=np.ones(60, bool),
        logits=rng.normal(size=(60, ACTIONS)).astype(np.float32),
        attributes={"taxonomy": taxonomy.fingerprint, "kind": "random", "folds": 0},
    )
    store.write_targets("dense", dense)
    store.write_targets("sparse", dense.top_k(4))
    for stream, own in STREAMS.items():
        config = {"backbone": "none", "size": [224, 224], "mean": [0.5, 0.25, None]}
        store.create_stream(stream, fps=4, source="bit rot", config=config, **own)
        for video in VIDEOS:
            write(store, stream, video)
    return store


def files_of(store: Store) -> list[Path]:
    """All files of a store."""
    return sorted(path for path in Path(store.path).rglob("*") if path.is_file())


def snapshot(store: Store) -> dict[Path, bytes]:
    """What is in each file."""
    return {path: path.read_bytes() for path in files_of(store)}


def expected(store: Store, path: Path, byte: int) -> tuple[str, str]:
    """Key and name that damage at a byte of an intact store must be given."""
    key = path.relative_to(store.path)
    group = key.parent.as_posix().removeprefix(".")
    if key.suffix == ".h5":
        return key.with_suffix("").as_posix(), array_at(path, byte)
    if store.kind == "hdf5" or group in groups_of(store):
        return group, "metadata"
    depth = 3 if group.startswith("features/") else 2
    array = "metadata" if len(key.parts) == depth + 1 else key.parts[depth]
    return "/".join(key.parts[:depth]), array


def groups_of(store: Store) -> list[str]:
    """Keys of the groups of the store."""
    return ["", "labels", "targets", "features", *(f"features/{name}" for name in STREAMS)]


def array_at(path: Path, byte: int) -> str:
    """The array whose values a byte of an HDF5 file belongs to, else `metadata`."""
    whole = path.read_bytes()
    with h5py.File(path) as file:
        for name, dataset in file.items():
            for values in _raw(dataset):
                start = whole.find(values)
                assert start > 0, f"{name} of {path} is not where it should be"
                if start <= byte < start + len(values):
                    return str(name)
    return "metadata"


def _raw(dataset: h5py.Dataset) -> Iterator[bytes]:
    """The values of a dataset as its file holds them."""
    if dataset.chunks is None:
        yield dataset[...].tobytes()
        return
    for chunk in dataset.iter_chunks():
        yield dataset.id.read_direct_chunk(tuple(part.start for part in chunk))[1]


def flip(path: Path, byte: int, bit: int) -> None:
    """Flip one bit of a file, in place."""
    with path.open("r+b") as file:
        file.seek(byte)
        old = file.read(1)[0]
        file.seek(byte)
        file.write(bytes((old ^ 1 << bit,)))


def places(store: Store, count: int, rng: random.Random) -> Iterator[tuple[Path, int, int]]:
    """Random places: file, byte and bit; see above."""
    files = files_of(store)
    sizes = [path.stat().st_size for path in files]
    for number in range(count):
        path = rng.choices(files, sizes if number % 2 else None)[0]
        yield path, rng.randrange(path.stat().st_size), rng.randrange(8)


def readings(path: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Every way in which users read a store: its name, and a function whose digest is compared."""

    def digest_of(*arrays: np.ndarray | None) -> str:
        return str(checksums({str(i): a for i, a in enumerate(arrays) if a is not None}))

    def opened(memory_map: bool = True) -> Store:
        return Store.open(path, memory_map=memory_map)

    def rows(stream: str, video: str, memory_map: bool) -> str:
        features = opened(memory_map).features(stream, video)
        picked = features.read(np.array([[5, 0], [17, 40]]))
        return f"{features.fps} {features.start_s} {digest_of(picked, features.times)}"

    def windows(stream: str, memory_map: bool) -> str:
        store = opened(memory_map)
        features = [store.features(stream, video) for video in VIDEOS]
        which = np.repeat(np.arange(len(VIDEOS)), 20)
        where = np.arange(80)[:, None] % 60 + np.arange(3)
        out = np.empty((80, 3, *features[0].rows.shape[1:]), features[0].rows.dtype)
        Gatherer(features).into(out, which, where)
        if features[0].scale is None:
            return digest_of(out)
        scale = np.empty(out.shape[:-1], np.float16)
        Gatherer([each.scales() for each in features]).into(scale, which, where)
        return digest_of(out, scale)

    yield "dataset", lambda: f"{opened().dataset} {opened().splits()} {opened().streams()}"
    yield "classes", lambda: opened().taxonomy.fingerprint
    for split in ("train", "validation"):
        yield split, lambda split=split: digest_of(*opened().labels(split).arrays().values())
    for name in ("dense", "sparse"):
        yield name, lambda name=name: digest_of(*opened().targets(name).arrays().values())
    for stream in STREAMS:
        yield stream, lambda stream=stream: repr(opened().stream(stream))
        for mapped in (True, False):
            yield f"{stream}, windows, {mapped}", partial(windows, stream, mapped)
            for video in VIDEOS:
                yield f"{stream}/{video}, {mapped}", partial(rows, stream, video, mapped)


def read_all(path: Path) -> dict[str, str]:
    """What each reading gives: a digest, or that it was refused; see above."""
    found = {}
    for name, read in readings(path):
        try:
            found[name] = read()
        except AntcacheError as error:
            found[name] = "refused" if len(str(error).splitlines()) == 1 else f"lines: {error}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def flips(store: Store, count: int, rng: random.Random) -> dict[str, int]:
    """Flip, verify, flip back, verify; how often which went wrong."""
    found = {"found": 0, "named wrongly": 0, "not clean afterwards": 0, "not in values": 0}
    found |= {"read silently": 0, "other errors": 0, "refused nowhere": 0}
    before = read_all(Path(store.path))
    for path, byte, bit in places(store, count, rng):
        wanted = expected(store, path, byte)
        flip(path, byte, bit)
        damaged = {(finding.key, finding.what) for finding in verify(store).damaged}
        read = read_all(Path(store.path))
        flip(path, byte, bit)
        other = {n: text for n, text in read.items() if text not in ("refused", before[n])}
        errors = [text for text in other.values() if ": " in text and "blake2b" not in text]
        found["read silently"] += len(other) > len(errors)
        found["other errors"] += bool(errors)
        found["refused nowhere"] += "refused" not in read.values()
        for name, text in other.items():
            print(f"{path}, byte {byte}, bit {bit}: {name} gives {text}")
        found["found"] += bool(damaged)
        found["not in values"] += wanted[1] == "metadata" or path.suffix == ".json"
        if damaged != {wanted}:
            found["named wrongly"] += 1
            print(f"{path}, byte {byte}, bit {bit}: {damaged}, not {wanted}")
        found["not clean afterwards"] += not verify(store).intact
    return found


def commands(kind: str, count: int, rng: random.Random) -> dict[str, int]:
    """Flip, run a command, flip back; how often it ended as if nothing were wrong, with other
    figures than before."""
    lines = [
        *("evaluate s kit/run --targets dense --json", "store doctor s --targets dense --json"),
        "student train s --run out --stream rgb --targets sparse --epochs 1 --width 8 --layers 1 "
        "--heads 2 --device cpu --precision float32",
    ]
    found = {"commands that noticed nothing": 0, "commands that broke": 0}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        store = Store.open(hostile_kit.place(folder, kind))

        def outcome(line: str) -> tuple[int, str, bool]:
            done = forked.run(line.split(), folder=folder)
            result = folder / "out/result.json"
            said = done.stdout + (result.read_text() if result.exists() else "")
            shutil.rmtree(folder / "out", ignore_errors=True)
            broke = done.traceback or done.hung or (done.code == 2 and len(done.complaints) != 1)
            return done.code, re.sub(r"\d+\.\d+ s|\"seconds\": [^,\n]+", "", said), broke

        before = {line: outcome(line)[:2] for line in lines}
        assert {code for code, _ in before.values()} <= {0, 1}, before
        for number, (path, byte, bit) in enumerate(places(store, count, rng)):
            line = lines[number % len(lines)]
            flip(path, byte, bit)
            code, said, broke = outcome(line)
            flip(path, byte, bit)
            # Of what it does not read, a command need not know.
            silent = code == before[line][0] == 0 and said != before[line][1]
            found["commands that noticed nothing"] += silent
            found["commands that broke"] += broke
            if silent or broke:
                print(f"{path}, byte {byte}, bit {bit}: {line}: exit {code}")
    return found


def damage(path: Path, rng: random.Random) -> None:
    """Damage a file in one of the ways that disks and people have."""
    way = rng.choice(("bit", "gone", "short", "long"))
    if way == "bit":
        flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))
    elif way == "gone":
        # A file that is the whole unit would leave nothing that could be named.
        path.write_bytes(b"") if path.suffix == ".h5" else path.unlink()
    elif way == "short":
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    else:
        path.write_bytes(path.read_bytes() + bytes(rng.randrange(1, 100)))


def rounds(store: Store, count: int, rng: random.Random) -> dict[str, int]:
    """Damage a few videos and a group file, repair, write again; how often which went wrong."""
    found = {"videos damaged": 0, "others dropped": 0, "not dropped": 0, "not as before": 0}
    before = snapshot(store)
    everything = [f"features/{stream}/{video}" for stream in STREAMS for video in VIDEOS]
    for _ in range(count):
        videos = set(rng.sample(everything, rng.randint(1, 4)))
        for key in videos:
            folder = store.backend.location(key)
            inside = [path for path in before if path == folder or folder in path.parents]
            damage(rng.choice(inside), rng)
        group = rng.choice(groups_of(store)[1:])  # of the root, only a flipped bit is certain
        damage(Path(store.path) / group / store.backend.group_file, rng)
        report = repair(store)
        dropped = {action.key for action in report.actions if action.done == "dropped"}
        found["videos damaged"] += len(videos)
        found["others dropped"] += len(dropped - videos)
        found["not dropped"] += len(videos - dropped)
        for key in dropped & videos:
            write(store, *key.split("/")[1:])
        if snapshot(store) != before:
            found["not as before"] += 1
            break  # what follows would count it again
    return found


def speed(folder: Path, kind: str, megabytes: int) -> float:
    """GB/s of `verify` with the files in the page cache."""
    store = Store.create(folder / f"speed.{kind}", backend=kind)
    store.create_stream("rgb", dim=1024, dtype="float16", fps=4, source="x", config={})
    rows = np.random.default_rng(0).integers(0, 2**15, (10_000, 1024), dtype=np.uint16)
    for number in range(max(1, megabytes * 10**6 // rows.nbytes)):
        store.write_features("rgb", f"v{number}", rows.view(np.float16))
    return max(verify(store).gigabytes_per_second for _ in range(3))


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--flips", type=int, default=1000, help="of each kind of store")
    parser.add_argument("--commands", type=int, default=60, help="runs on each kind of store")
    parser.add_argument("--rounds", type=int, default=20, help="of damage and repair")
    parser.add_argument("--megabytes", type=int, default=400, help="to measure the speed with")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures: list[Figure] = []
    count = arguments.flips
    forked.preload()
    for kind in ("zarr", "hdf5"):
        with tempfile.TemporaryDirectory() as folder:
            store = build(Path(folder) / f"store.{kind}", kind)
            found = flips(store, count, random.Random(arguments.seed))
            mended = rounds(store, arguments.rounds, random.Random(arguments.seed))
            ran = commands(kind, arguments.commands, random.Random(arguments.seed))
            rate = speed(Path(folder), kind, arguments.megabytes)
        print(f"{kind}: {found}\n{kind}: {mended}\n{kind}: {ran}")
        print(f"{kind}: verify reads {rate:.2f} GB/s")
        bounds: dict[str, tuple[float, str, float | None, float | None, int]] = {
            "flipped bits found": (found["found"], "flips", count, None, count),
            "named wrongly": (found["named wrongly"], "flips", None, 0, count),
            "not clean afterwards": (found["not clean afterwards"], "flips", None, 0, count),
            "of them not in values": (found["not in values"], "flips", None, None, count),
            "read silently": (found["read silently"], "flips", None, 0, count),
            "other errors": (found["other errors"], "flips", None, 0, count),
            "of them in what nothing reads": (
                *(found["refused nowhere"], "flips", None, None, count),
            ),
            **{name: (n, "runs", None, 0, arguments.commands) for name, n in ran.items()},
            "damaged videos left": (
                *(mended["not dropped"], "videos", None, 0, mended["videos damaged"]),
            ),
            "intact units dropped": (mended["others dropped"], "units", None, 0, arguments.rounds),
            "stores not as before": (mended["not as before"], "stores", None, 0, arguments.rounds),
            "verify": (rate, "GB/s", None, None, 3),
        }
        for name, (value, unit, at_least, at_most, n) in bounds.items():
            figures.append(
                Figure(
                    figure=f"{kind}: {name}",
                    value=value,
                    unit=unit,
                    at_least=at_least,
                    at_most=at_most,
                    n=n,
                )
            )
    finish("bit_rot", figures, record=arguments.record)


if __name__ == "__main__":
    main()
