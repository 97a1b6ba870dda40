"""LMDBs whose values are something else than rows of float32, and features that only look odd."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.interop.lmdb.features import scan
from antcache.store import Store

lmdb = pytest.importorskip("lmdb")

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((80, 16))
Encode = Callable[[NDArray[Any]], bytes]


def write(path: Path, rows: NDArray[Any], encode: Encode, database: bytes | None = None) -> Path:
    """An LMDB with rows of one video."""
    with lmdb.open(str(path), map_size=1 << 26, max_dbs=2) as env:
        db = env.open_db(database) if database else None
        with env.begin(write=True, db=db) as transaction:
            for number, row in enumerate(rows, 1):
                transaction.put(f"v_frame_{number:010d}.jpg".encode(), encode(row))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def raw(kind: str) -> Encode:
    return lambda row: row.astype(kind).tobytes()


def npy(row: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, row.astype("<f4"))
    return file.getvalue()


def npz(row: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, row.astype("<f4"))
    return file.getvalue()


def arrow(row: NDArray[Any]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    sink = pyarrow.BufferOutputStream()
    pyarrow.ipc.write_tensor(pyarrow.Tensor.from_numpy(row.astype("<f4")), sink)
    return bytes(sink.getvalue())


def msgpack(row: NDArray[Any]) -> bytes:
    """As msgpack_numpy.packb writes an array."""
    data = row.astype("<f4").tobytes()
    shape = b"\xc4\x05shape\x91" + bytes([len(row)])
    data = b"\xc4\x04data\xc4" + bytes([len(data)]) + data
    return b"\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f4\xc4\x04kind\xc4\x00" + shape + data


def torch_before_zips(row: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    tensor = torch.from_numpy(row.astype("<f4"))
    torch.save(tensor, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


OTHERS: dict[str, tuple[Encode, str]] = {
    "npy": (npy, r"an \.npy file"),
    "npz": (npz, r"a zip"),
    "pickled array": (lambda row: pickle.dumps(row.astype("<f4")), "a pickle"),
    "pickled list": (lambda row: pickle.dumps(row.tolist()), "a pickle"),
    "Arrow": (arrow, "a message of Arrow"),
    "msgpack": (msgpack, "an array of msgpack-numpy"),
    "torch before zips": (torch_before_zips, "a file of torch.save"),
    "float64 that was whole": (lambda row: raw("<f8")((row * 1000).round()), "float64"),
    "float16": (raw("<f2"), "float16"),
    "float64": (raw("<f8"), "float64"),
    "float64 that was float32": (lambda row: raw("<f8")(row.astype("<f4")), "float64"),
    "float64 that was float16": (lambda row: raw("<f8")(row.astype("<f2")), "float64"),
    "big-endian": (raw(">f4"), "big-endian float32"),
    "whole numbers": (lambda row: (row * 100).astype("<i4").tobytes(), "something else"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("scale", [1, 0.01])
def test_other_values_are_refused_by_what_they_are(tmp_path: Path, kind: str, scale: float) -> None:
    encode, found = OTHERS[kind]
    path = write(tmp_path / "rgb", ROWS * scale, encode)
    message = rf"v_frame_0000000001\.jpg is no row of float32.*found {found}.*'<f4'"
    with pytest.raises(BadConfig, match=message):
        scan(path)
    result = run("import", "lmdb", tmp_path / "s.zarr", f"rgb={path}")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "s.zarr").exists()


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


FEATURES = {
    "normal": ROWS,
    "rectified": np.maximum(ROWS, 0),
    "scores of objects": (RNG.random((80, 352)) < 0.03) * RNG.random((80, 352)),
    "a sharp softmax": softmax(RNG.standard_normal((80, 1000)) * 30),
    "whole numbers": RNG.integers(0, 256, (80, 16)),
    "float16 once": ROWS.astype("<f2"),
    "bfloat16 once": (ROWS.astype("<f4").view("<u4") & 0xFFFF0000).view("<f4"),
    "constant": np.full((80, 16), 0.3),
    "zeros": np.zeros((80, 16)),
    "even columns zero": ROWS * (np.arange(16) % 2),
    "even columns zero, float16 once": (ROWS * (np.arange(16) % 2)).astype("<f2"),
    "even columns zero, one hot": (ROWS > 1) * (np.arange(16) % 2),
    "even columns zero, whole numbers": RNG.integers(0, 256, (80, 16)) * (np.arange(16) % 2),
    "NaN first": np.where(np.arange(16) == 0, np.nan, ROWS),
    "of many scales": ROWS * 10.0 ** RNG.integers(-9, 9, 16),
    "not finite": np.where(ROWS > 0, np.nan, ROWS),
    "few": ROWS[:2, :4] * 1e30,
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_pass_whatever_they_are(tmp_path: Path, kind: str) -> None:
    rows = FEATURES[kind].astype("<f4")
    keys = scan(write(tmp_path / "rgb", rows, lambda row: row.tobytes()))
    assert (keys.num_rows, keys.dim) == rows.shape


def test_a_small_part_of_a_large_lmdb_is_looked_at(tmp_path: Path) -> None:
    """Pictures that are black at first have no features: rows further on tell."""
    rows = np.concatenate([np.zeros((1000, 16)), np.repeat(ROWS, 20, axis=0)])
    path = write(tmp_path / "rgb", rows, raw("<f8"))
    with pytest.raises(BadConfig, match="found float64"):
        scan(path)


@pytest.mark.parametrize("kind", ["<f2", ">f4"])
def test_some_rows_of_every_video_are_looked_at(tmp_path: Path, kind: str) -> None:
    """Rows of one length, the later ones of another type: far behind the first rows."""
    rows = {"V00": np.repeat(ROWS, 100, axis=0).astype("<f4"), "V01": ROWS.repeat(2, 1)}
    if kind == ">f4":
        rows["V01"] = ROWS
    rows["V01"] = rows["V01"].astype(kind)
    with (
        lmdb.open(str(tmp_path / "rgb"), map_size=1 << 26) as env,
        env.begin(write=True) as transaction,
    ):
        for video, values in rows.items():
            for number, row in enumerate(values, 1):
                transaction.put(f"{video}_frame_{number:010d}.jpg".encode(), row.tobytes())
    with pytest.raises(BadConfig, match=r"value of V01_frame_0000000001\.jpg is no row"):
        scan(tmp_path / "rgb")


def test_named_databases_are_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", ROWS, raw("<f4"), database=b"features")
    with pytest.raises(BadConfig, match=r"holds named databases.*found features.*main one"):
        scan(path)


@pytest.mark.parametrize(
    ("made_with", "options"),
    [
        (["--dtype", "float16"], "--dtype float16"),
        (["--fps-of-keys", "60"], "--fps-of-keys 60"),
        (["--dtype", "float16", "--fps-of-keys", "25"], "--dtype float16 --fps-of-keys 25"),
    ],
)
def test_a_rule_for_gaps_names_the_options_of_its_stream(
    tmp_path: Path, made_with: list[str], options: str
) -> None:
    """`--fill` is set later, when nobody remembers how the stream was imported."""
    path = write(tmp_path / "rgb", ROWS, raw("<f4"))
    command = ["import", "lmdb", tmp_path / "s.zarr", f"rgb={path}"]
    assert run(*command, *made_with).exit_code == 0
    result = run(*command, "--fill", "previous:0.3s")
    assert result.exit_code == 2
    assert f"({options} goes on with it; or use another stream name)" in result.stderr
    assert run(*command, "--fill", "previous:0.3s", *options.split()).exit_code == 0
    assert Store.open(tmp_path / "s.zarr").stream("rgb").max_age_s == 0.3
