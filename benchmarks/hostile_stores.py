"""Stores from somebody who means harm, and every command that reads or writes a store.

Promise: each case is a small honest store with one thing in it that leads out of it, never ends,
takes all memory, or makes no sense under right hashes. `hostile.py` runs them.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hostile_seals as seals
import hostile_tokens
import numpy as np
from cases import InputCase
from hostile_kit import ACTIONS, DIM, ROWS, SECRET, SECRET_SCALE, SECRET_VALUE, kit, place

from antcache.store import Store
from antcache.store.format import digest
from antcache.store.seal import sealed

SMALL = "--epochs 1 --layers 1 --heads 2 --width 8 --device cpu"
COMMANDS = tuple(
    line.split()
    for line in f"""
store info s --json
store verify s
store doctor s
store doctor s --targets dense
evaluate s kit/run
evaluate s --targets sparse
compare s kit/run targets/dense --bootstrap 10
report s kit/run targets/dense --bootstrap 10 -o report.html
fuse s kit/run targets/dense -o fused.safetensors
teacher score s dense --bootstrap 10
export lmdb s --stream rgb --output out_rgb
export lmdb s --stream flow --output out_flow
student predict s kit/run --split validation -o out.safetensors
student stream s kit/run --latency 0.1
student train s --run out_run --stream rgb {SMALL}
student train s --run out_both --stream flow,rgb --targets dense --windows stream {SMALL}
store convert s out.h5
store convert s out.zarr --dtype float32 --compressed
store convert s out_pooled.zarr --tokens 1x1x1 --dtype int8
teacher train s --name t1 --kind count --folds 2 --output out_teacher
teacher predict s kit/teacher --name t2
teacher ensemble s dense other --name t3 --output out_mix
store convert kit/good s
annotations import table kit/table s --name kitchen --overwrite
import predictions s kit/predictions.npz --name t4
import lmdb s extra=kit/lmdb
extract kit/videos s --backbone kit/backbone --stream new --device cpu
store repair s --dry-run
store repair s
store verify s
""".strip().splitlines()
)
SECRETS = (
    SECRET.encode(),
    *(np.full(4, SECRET_VALUE, kind).tobytes() for kind in ("f2", "f4", "f8")),
    np.full(4, SECRET_SCALE, "f2").tobytes(),
    *(np.full(4, 127 * SECRET_SCALE, kind).tobytes() for kind in ("f4", "f8")),
)
"""Bytes that are in the neighbour's files and nowhere else."""

VIDEO, FLOW, LABELS, TARGETS = (
    *("features/rgb/t0", "features/flow/t0", "labels/validation", "targets/sparse"),
)
Spoil = Callable[[Store, Path], Any]
"""Makes an honest store hostile; is told where the neighbour is."""


def cases() -> list[InputCase]:
    """All of them."""
    kit()  # here, and not in the time of the first case
    return [
        InputCase(name=f"{kind}: {name}", make=partial(_make, kind=kind, spoil=spoil))
        for kind, name, spoil in spoils()
    ]


def spoils() -> list[tuple[str, str, Spoil]]:
    """Kind of store, what is wrong with it, and what makes it so."""
    of_both = [*anywhere(), *hostile_tokens.anywhere()]
    return [
        *((kind, name, spoil) for name, spoil in of_both for kind in ("zarr", "hdf5")),
        *(("zarr", name, spoil) for name, spoil in [*in_zarr(), *hostile_tokens.in_zarr()]),
        *(("hdf5", name, spoil) for name, spoil in [*in_hdf5(), *hostile_tokens.in_hdf5()]),
    ]


def _make(folder: Path, kind: str, spoil: Spoil) -> list[list[str]]:
    path = place(folder, kind)
    spoil(Store.open(path), folder / "victim")
    return [list(command) for command in COMMANDS]


def link(path: Path, target: Path) -> None:
    """A symbolic link in the place of whatever is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    """A pipe that nobody writes into, in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


# Both kinds


def anywhere() -> Iterator[tuple[str, Spoil]]:
    """What can be done to either."""

    def root(store: Store) -> Path:
        return Path(store.path)

    def staged(store: Store, name: str) -> Path:
        path = root(store) / ".staging" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def group_file(store: Store, key: str) -> Path:
        return root(store) / key / store.backend.group_file

    def same(store: Store, victim: Path, key: str) -> Path:
        return victim / store.kind / key

    yield "staging is a link", lambda s, v: link(root(s) / ".staging", v)
    yield "a link in staging", lambda s, v: link(staged(s, "x"), v)
    yield "a lock is a link", lambda s, v: link(staged(s, "x.lock"), v / "new")
    claim = digest(b"claim features/new/t0") + ".lock"
    yield "the lock of a claim is a link", lambda s, v: link(staged(s, claim), v / "new")
    yield (
        "the lock of a group is a link",
        lambda s, v: [
            link(staged(s, digest(b"group ", key.encode()) + ".lock"), v / "new")
            for key in ("", "labels", "targets", "features", "features/new", "features/extra")
        ],
    )
    for name in ("replaced,..,victim,placed", "replaced,features,rgb,..,..,..,victim,placed"):
        yield (
            f"{name} in staging",
            lambda s, v, name=name: staged(s, f"x/{name}").mkdir(parents=True),
        )
    yield (
        "a link that stepped aside",
        lambda s, v: [
            s.remove(VIDEO),
            link(staged(s, "x/replaced,features,rgb,t0"), same(s, v, VIDEO + s.backend.suffix)),
        ],
    )
    for key in ("labels", "targets", "features", "features/rgb"):
        yield f"{key} is a link", lambda s, v, key=key: link(root(s) / key, same(s, v, key))
        yield (
            f"{key}'s file is a link",
            lambda s, v, key=key: link(group_file(s, key), same(s, v, key) / s.backend.group_file),
        )
        yield f"{key}'s file is a pipe", lambda s, v, key=key: pipe(group_file(s, key))
    yield "the root's file is a pipe", lambda s, v: pipe(group_file(s, ""))
    for key in (VIDEO, LABELS, TARGETS):
        yield (
            f"{key} is a link",
            lambda s, v, key=key: link(s.backend.location(key), same(s, v, key + s.backend.suffix)),
        )
    yield "a video is a link to nothing", lambda s, v: link(s.backend.location(VIDEO), v / "none")
    yield (
        "a video is a link to itself",
        lambda s, v: link(s.backend.location(VIDEO), s.backend.location(VIDEO)),
    )
    yield "streams exchanged", lambda s, v: _exchange(s, "features/rgb", "features/flow")
    yield "streams' files exchanged", _exchange_files
    yield "videos exchanged", lambda s, v: _exchange(s, "features/rgb/t0", "features/rgb/t1")
    yield "a neighbour's labels", lambda s, v: _bring(s, v, LABELS)
    yield (
        "a nested root",
        lambda s, v: group_file(s, "").write_bytes(
            b'{"attributes":' * 200_000 + b"1" + b"}" * 200_000
        ),
    )
    yield "a long root", lambda s, v: _long(group_file(s, ""))
    yield "a stream whose file is long", lambda s, v: _long(group_file(s, "features/rgb"))
    for name, changes in STREAMS.items():
        yield (
            f"a stream with {name}",
            lambda s, v, changes=changes: seals.group(
                s, "features/rgb", lambda fields: fields.update(changes)
            ),
        )
    for name, fields in CLASSES.items():
        yield (
            f"classes with {name}",
            lambda s, v, fields=fields: seals.group(
                s, "labels", lambda a: a.update(taxonomy={**a["taxonomy"], **fields})
            ),
        )
    for name, column in COLUMNS.items():
        yield f"labels with {name}", lambda s, v, column=column: _labels(s, column)
    for name, arrays in SOFT.items():
        yield f"targets with {name}", lambda s, v, arrays=arrays: seals.unit(s, TARGETS, arrays)
    yield (
        "times that are no numbers",
        lambda s, v: seals.unit(s, FLOW, {"times": np.full(ROWS, np.nan)}),
    )
    yield (
        "rows of another width",
        lambda s, v: seals.unit(s, VIDEO, {"rows": np.zeros((ROWS, 2 * DIM), np.float16)}),
    )
    yield "rows that are texts", lambda s, v: seals.unit(s, VIDEO, {"rows": np.array(["x"] * ROWS)})
    yield "a video that starts soon", lambda s, v: seals.unit(s, VIDEO, start_s="soon")
    yield "a video of another length", lambda s, v: seals.unit(s, VIDEO, num_rows=10**18)


STREAMS: dict[str, dict[str, Any]] = {
    "another width": {"dim": 10**15},
    "no width": {"dim": None},
    "a rate of nothing": {"fps": 5e-324},
    "text for a rate": {"fps": "4"},
    "another type": {"dtype": "object"},
    "control characters": {"source": "\x1b]0;owned\x07\x1b[2J[red]x[/nope]"},
}
CLASSES: dict[str, dict[str, Any]] = {
    "control characters": {"verbs": ["\x1b[2J[/red]", "put", "wash"]},
    "ids that are texts": {"action_verbs": ["0"] * ACTIONS},
    "ids that are not there": {"action_verbs": [10**9] * ACTIONS},
    "no names": {"actions": None},
    "a name of 8 MB": {"nouns": ["x" * (8 << 20), "leek", "pan"]},
}


def _column(name: str, value: Any) -> Callable[[Any], dict[str, Any]]:
    def change(columns: Any) -> dict[str, Any]:
        array = columns[name].copy()
        array = array.astype(np.str_ if isinstance(value, str) else np.asarray(value).dtype)
        if isinstance(value, str):
            array = array.astype(f"<U{max(len(value), 20)}")
        array[3] = value
        return {name: array}

    return change


COLUMNS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "an action that there is not": _column("action", ACTIONS),
    "an action of 2^40": _column("action", 1 << 40),
    "a negative verb": _column("verb", -1),
    "a time that is no number": _column("start_s", float("nan")),
    "a time of 1e300 s": _column("stop_s", 1e300),
    "one uid twice": lambda c: {"uid": np.array([c["uid"][0]] * len(c["uid"]))},
    "a video that leads out": _column("video", "../../../victim/zarr/features/rgb/t0"),
    "a video with control characters": _column("video", "\x1b[2J[red]x[/nope]\n"),
    "a long uid": _column("uid", "x" * 2_000_000),
    "a column less": lambda c: {"noun": None},
    "columns of unequal length": lambda c: {"noun": c["noun"][:5]},
    "a column of two dimensions": lambda c: {"noun": c["noun"][:, None]},
    "numbers for names": lambda c: {"video": np.arange(len(c["video"]))},
    "a column more": lambda c: {"more": c["noun"]},
}
SOFT: dict[str, dict[str, Any]] = {
    "a class that there is not": {"index": np.full((48, 4), ACTIONS, np.int32)},
    "a negative class": {"index": np.full((48, 4), -1, np.int32)},
    "fewer segments": {"tail": np.zeros(3, np.float32)},
    "no tail": {"tail": None},
    "uids that are numbers": {"uid": np.arange(48)},
    "a validity of numbers": {"valid": np.full(48, 2.5, np.float32)},
}


def _labels(store: Store, column: Callable[[Any], dict[str, Any]]) -> None:
    lazy, _ = store.backend.open(LABELS)
    seals.unit(store, LABELS, column({n: np.array(array[...]) for n, array in lazy.items()}))


def _exchange(store: Store, one: str, other: str) -> None:
    a, b = (
        store.backend.location(key) if key.count("/") > 1 else Path(store.path) / key
        for key in (one, other)
    )
    aside = a.with_name("aside")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


def _exchange_files(store: Store, victim: Path) -> None:
    """The files of two streams, neither of which says whose it is."""
    keys = ("features/rgb", "features/flow")
    for key in keys:
        seals.group(store, key, lambda fields: fields.update(key=None))
    paths = [Path(store.path) / key / store.backend.group_file for key in keys]
    texts = [path.read_bytes() for path in paths]
    for path, text in zip(paths, reversed(texts), strict=True):
        path.write_bytes(text)


def _bring(store: Store, victim: Path, key: str) -> None:
    """A unit of another store, of other classes; copied, so that it is no longer a secret."""
    source = Store.open(victim / store.kind)
    arrays, attributes = source.backend.read(key)
    arrays["uid"] = np.array([f"other {i}" for i in range(len(arrays["uid"]))])
    attributes = {**attributes, "taxonomy": "0" * 32, "source": "another"}
    store.backend.publish(key, arrays, attributes, overwrite=True)


def _long(path: Path) -> None:
    """A sealed text of 300 MB, all of it nothing."""
    text = sealed({"antcache": {"format": 1}, "x": "y"})
    with path.open("wb") as file:
        file.write(text[:-1])
        file.truncate(300 << 20)


# Zarr


def in_zarr() -> Iterator[tuple[str, Spoil]]:
    """What can be done to a Zarr unit."""

    def chunk(store: Store, key: str = VIDEO, name: str = "rows") -> Path:
        return store.backend.location(key) / name / ("c/0/0" if name == "rows" else "c/0")

    yield "a chunk is a link", lambda s, v: link(chunk(s), v / "rows.bin")
    yield (
        "a folder of chunks is a link",
        lambda s, v: link(chunk(s).parent.parent, v / "zarr" / VIDEO / "rows/c"),
    )
    yield "an array is a link", lambda s, v: link(chunk(s).parents[2], v / "zarr" / VIDEO / "rows")
    yield "a chunk is a pipe", lambda s, v: pipe(chunk(s))
    yield "a chunk of labels is a pipe", lambda s, v: pipe(chunk(s, LABELS, "action"))
    yield (
        "a zarr.json of a video is a pipe",
        lambda s, v: pipe(s.backend.location(VIDEO) / "zarr.json"),
    )

    def described(key: str, name: str, **changes: Any) -> Spoil:
        return lambda s, v: seals.zarr_unit(
            s, key, lambda files, _: seals.described(files, name, **changes)
        )

    def grid(*shape: int) -> dict[str, Any]:
        return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}

    yield "10^18 rows", described(VIDEO, "rows", shape=[10**18, DIM])
    yield (
        "10^18 rows in one chunk",
        described(VIDEO, "rows", shape=[10**18, DIM], chunk_grid=grid(10**18, DIM)),
    )
    yield (
        "10^18 compressed rows",
        described(FLOW, "rows", shape=[10**18, DIM], chunk_grid=grid(10**18, DIM)),
    )
    yield "10^12 segments", described(LABELS, "uid", shape=[10**12], chunk_grid=grid(10**12))
    yield "rows of 10^15 values", described(VIDEO, "rows", shape=[ROWS, 10**15])
    yield "a negative shape", described(VIDEO, "rows", shape=[-1, DIM])
    yield "a chunk of no rows", described(VIDEO, "rows", chunk_grid=grid(0, DIM))
    yield "a shape that is text", described(VIDEO, "rows", shape="everything")
    yield "a shape of 10^6 dimensions", described(VIDEO, "rows", shape=[1] * 10**6)
    yield "a type of objects", described(VIDEO, "rows", data_type="object")
    for name in ("gzip", "sharding_indexed", "transpose", "zfpy"):
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": name}]
        yield f"the codec {name}", described(VIDEO, "rows", codecs=codecs)
    for bad in ("../../../../victim/diary.txt", "/etc/passwd", "rows/../../x", "rows/c/0/\0"):
        yield (
            f"a file called {bad!r}",
            lambda s, v, bad=bad: seals.zarr_unit(
                s, VIDEO, lambda files, a: a.update(files={bad: digest(b"x"), **_hashes(files)})
            ),
        )
    yield "no files", lambda s, v: seals.zarr_unit(s, VIDEO, lambda f, a: a.update(files={}))
    yield (
        "files that are a number",
        lambda s, v: seals.zarr_unit(s, VIDEO, lambda f, a: a.update(files=7)),
    )

    def bomb(files: seals.Files, attributes: dict[str, Any]) -> None:
        """One compressed chunk that says it is 2 GiB."""
        raw = bytearray(files["rows/c/0/0"])
        struct.pack_into("<I", raw, 4, (1 << 31) - 16)
        files["rows/c/0/0"] = bytes(raw)

    yield "a compressed chunk that claims 2 GiB", lambda s, v: seals.zarr_unit(s, FLOW, bomb)
    yield "zeros that unpack to 8 GiB", lambda s, v: seals.zarr_unit(s, FLOW, _zeros)

    def garbage(files: seals.Files, attributes: dict[str, Any]) -> None:
        raw = files["rows/c/0/0"]
        files["rows/c/0/0"] = raw[:16] + bytes(255 - b for b in raw[16:])

    yield "a compressed chunk of garbage", lambda s, v: seals.zarr_unit(s, FLOW, garbage)
    for name, text in {
        "2^32 texts": struct.pack("<I", (1 << 32) - 1),
        "a text of 4 GiB": struct.pack("<II", 16, (1 << 32) - 1) + bytes(60),
        "bytes that are no text": struct.pack("<I", 16) + (struct.pack("<I", 1) + b"\xff") * 16,
    }.items():
        yield (
            name,
            lambda s, v, text=text: seals.zarr_unit(
                s, LABELS, lambda files, a: files.update({"uid/c/0": text})
            ),
        )


def _hashes(files: seals.Files) -> dict[str, str]:
    return {name: digest(value) for name, value in files.items()}


def _zeros(files: seals.Files, attributes: dict[str, Any]) -> None:
    """2,000 chunks of 4 MiB, each of them 500 bytes."""
    from numcodecs import Blosc

    rows = (4 << 20) // (4 * DIM)
    raw = bytes(Blosc("zstd", shuffle=2).encode(np.zeros((rows, DIM), np.float32)))
    grid = {"name": "regular", "configuration": {"chunk_shape": [rows, DIM]}}
    seals.described(files, "rows", shape=[2000 * rows, DIM], chunk_grid=grid)
    files.update({f"rows/c/{number}/0": raw for number in range(2000)})
    attributes["num_rows"] = 2000 * rows


# HDF5


def in_hdf5() -> Iterator[tuple[str, Spoil]]:
    """What can be done to an HDF5 unit."""

    def built(build: Callable[[h5py.File, Path], Any], key: str = VIDEO, **options: Any) -> Spoil:
        def spoil(store: Store, victim: Path) -> None:
            seals.hdf5_unit(store, key, lambda file: build(file, victim), **options)

        return spoil

    def instead(make: Callable[[h5py.File, Path], Any], name: str = "rows") -> Any:
        def build(file: h5py.File, victim: Path) -> None:
            del file[name]
            make(file, victim)

        return build

    yield "a video is a pipe", lambda s, v: pipe(s.backend.location(VIDEO))
    yield "labels are a pipe", lambda s, v: pipe(s.backend.location(LABELS))

    def outside(file: h5py.File, victim: Path) -> None:
        places = [(str(victim / "rows.bin"), 0, ROWS * DIM * 2)]
        file.create_dataset("rows", (ROWS, DIM), "f2", external=places)

    yield "rows in another file", built(instead(outside))

    def put_together(file: h5py.File, victim: Path) -> None:
        layout = h5py.VirtualLayout((ROWS, DIM), "f2")
        layout[:] = h5py.VirtualSource(victim / f"hdf5/{VIDEO}.h5", "rows", (ROWS, DIM))
        file.create_virtual_dataset("rows", layout)

    yield "virtual rows", built(instead(put_together))

    def away(file: h5py.File, victim: Path) -> None:
        file["rows"] = h5py.ExternalLink(victim / f"hdf5/{VIDEO}.h5", "/rows")

    yield "rows are an external link", built(instead(away))

    def soft(file: h5py.File, victim: Path) -> None:
        file["rows"] = h5py.SoftLink("/rows")

    yield "rows are a link to themselves", built(instead(soft))

    def soft_to_external(file: h5py.File, victim: Path) -> None:
        file["times"] = h5py.ExternalLink(victim / f"hdf5/{FLOW}.h5", "/times")
        file["rows"] = h5py.SoftLink("/times")

    yield "rows are a link to an external link", built(instead(soft_to_external))
    yield "rows are a group", built(instead(lambda f, v: f.create_group("rows")))
    yield (
        "a type beside the rows",
        built(lambda f, v: f.__setitem__("more", np.dtype("f4")), ranges=None),
    )
    yield (
        "rows of 10^17 bytes that are not there",
        built(instead(lambda f, v: f.create_dataset("rows", (10**14, DIM), "f2"))),
    )
    yield (
        "chunked rows that are not there",
        built(
            instead(lambda f, v: f.create_dataset("rows", (10**12, DIM), "f2", chunks=(10, DIM)))
        ),
    )

    def bomb(file: h5py.File, victim: Path) -> None:
        rows = 10**6
        shape, chunks = (100 * rows, DIM), (rows, DIM)
        own = file.create_dataset("rows", shape, "f4", chunks=chunks, compression=9, shuffle=True)
        zeros = np.zeros(chunks, np.float32)
        own[:rows] = zeros
        _, raw = own.id.read_direct_chunk((0, 0))
        for number in range(1, 100):
            own.id.write_direct_chunk((number * rows, 0), raw)

    yield "zeros that unpack to 3 GiB", built(instead(bomb), FLOW)

    def liar(file: h5py.File, victim: Path) -> None:
        import zlib

        own = file.create_dataset("rows", (ROWS, DIM), "f4", chunks=(ROWS, DIM), compression=4)
        raw = zlib.compress(bytes(256 << 20), 1)
        own.id.write_direct_chunk((0, 0), raw)

    yield "a chunk that unpacks to 256 MiB", built(instead(liar), FLOW)
    yield (
        "rows with the filter lzf",
        built(
            instead(
                lambda f, v: f.create_dataset("rows", data=np.ones((9, DIM)), compression="lzf")
            )
        ),
    )
    yield (
        "rows of compound values",
        built(
            instead(lambda f, v: f.create_dataset("rows", (ROWS,), np.dtype([("a", "f2", DIM)])))
        ),
    )
    yield (
        "rows of references",
        built(instead(lambda f, v: f.create_dataset("rows", (ROWS,), h5py.ref_dtype))),
    )
    yield (
        "rows of arrays of any length",
        built(instead(lambda f, v: f.create_dataset("rows", (ROWS,), h5py.vlen_dtype("f2")))),
    )
    yield (
        "rows without a shape",
        built(instead(lambda f, v: f.create_dataset("rows", data=h5py.Empty("f2")))),
    )
    yield (
        "uids of any length",
        built(instead(lambda f, v: f.create_dataset("uid", data=["x"] * 16), "uid"), LABELS),
    )
    yield (
        "a text of 1 GiB",
        built(instead(lambda f, v: f.create_dataset("uid", (16,), f"S{1 << 30}"), "uid"), LABELS),
    )
    yield (
        "an attribute that is an array",
        built(lambda f, v: f.attrs.create("num_rows", np.arange(5000))),
    )
    yield (
        "a video that starts at infinity",
        built(lambda f, v: f.attrs.__setitem__("start_s", float("inf"))),
    )
    yield "an attribute of 60 MB", built(lambda f, v: f.attrs.__setitem__("x", "y" * (60 << 20)))
    yield (
        "10,000 attributes",
        built(lambda f, v: [f.attrs.__setitem__(f"a{n}", n) for n in range(10_000)]),
    )
    yield (
        "1,000 arrays",
        built(lambda f, v: [f.create_dataset(f"a{n}", data=[n]) for n in range(1000)]),
    )
    yield "a block that covers all of the file", lambda s, v: _covered(s)
    yield (
        "a block with ranges past the end",
        built(lambda f, v: None, ranges={"rows": [(0, 1 << 60)]}),
    )
    yield "a sealed file of garbage", lambda s, v: _garbage(s)


def _covered(store: Store) -> None:
    """A block that calls every byte a value of the rows: none of the rest is checked then."""
    path = store.backend.location(VIDEO)
    size = path.stat().st_size
    seals.hdf5_unit(store, VIDEO, lambda file: None, ranges={"rows": [(0, size // 2)]})


def _garbage(store: Store) -> None:
    """Metadata of HDF5 that make no sense, under a right seal."""
    from antcache.store.local.hdf5_seal import SIGNATURE

    rng = np.random.default_rng(0)
    content = SIGNATURE + rng.integers(0, 256, 5000, dtype=np.uint8).tobytes()
    path = store.backend.location(VIDEO)
    path.write_bytes(bytes(seals.BLOCK_BYTES) + content)
    seals.seal_file(path, {"rows": ((100, 1000),)})
