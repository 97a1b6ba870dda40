"""`antcache store convert` of tokens: pooled, in int8 and back, and whence they came is said."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from shelves import KINDS, Shelf, in_turn

from antcache.cli.main import cli
from antcache.errors import BadConfig, DamagedStore, FingerprintMismatch
from antcache.store import Store
from antcache.store.format import CHECKSUMS, MARK
from antcache.store.integrity import convert_tokens as module
from antcache.store.integrity.convert import ConvertConfig, convert, plan_conversion
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.store.pooling import pool
from antcache.store.quantise import dequantise, quantise

GRID, FUTURE, DIM = (2, 4, 4), (0.25,), 6
K = 2 * 4 * 4 + 4 * 4
AT = {"anchors": [0.0], "gaps": [1.0, 0.5]}
TIMES = {"v1": np.array([0.5, 1.0, 1.5]), "v2": np.array([0.1])}


def rows_of(video: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(len(video) + ord(video[-1]))
    return rng.normal(size=(len(TIMES[video]), K, DIM)).astype(np.float16)


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path, shelf: Shelf) -> Store:
    kind = request.param
    return shelf.store(tmp_path / "source", ("all kinds", kind), lambda path: write(path, kind))


def write(path: Path, kind: str) -> None:
    """Vectors, and tokens of float16 and of int8."""
    store = Store.create(path, backend=kind)
    settings: dict[str, Any] = {"dim": DIM, "fps": 8.0, "source": "x", "config": {"a": 1}}
    store.create_stream("rgb", dtype="float16", **settings)
    store.write_features("rgb", "v1", rows_of("v1")[:, 0], attributes={"file": "v1.mp4"})
    for name, dtype in (("floats", "float16"), ("int8", "int8")):
        own = {"grid": GRID, "future": FUTURE, "at": AT}
        store.create_stream(name, dtype=dtype, **settings, **own)
        for video, times in TIMES.items():
            attributes = {"file": f"{video}.mp4"}
            store.write_features(name, video, rows_of(video), times=times, attributes=attributes)


def test_tokens_are_copied_as_they_are(source: Store, tmp_path: Path) -> None:
    for backend in ("zarr", "hdf5"):
        for compressed in (False, True):
            path = tmp_path / f"{backend}-{compressed}"
            report = convert(source, path, ConvertConfig(backend=backend, compressed=compressed))
            target = Store.open(path)
            assert report.rounding == {}
            assert target.backend.group_attributes("")[MARK]["format"] == 2
            assert verify(target).intact
            for name in source.streams():
                assert target.stream(name).fingerprint == source.stream(name).fingerprint
                for video in source.videos(name):
                    key = f"features/{name}/{video}"
                    assert target.backend.open(key)[1] == source.backend.open(key)[1]
                    one, other = source.features(name, video), target.features(name, video)
                    np.testing.assert_array_equal(one.read(), other.read())
                    assert (one.times is None) == (other.times is None)


def test_a_copy_without_tokens_is_of_format_1(source: Store, tmp_path: Path) -> None:
    convert(source, tmp_path / "copy", ConvertConfig(streams=("rgb",)))
    target = Store.open(tmp_path / "copy")
    assert target.backend.group_attributes("")[MARK]["format"] == 1


GRIDS, DTYPES = ((2, 2, 2), (1, 1, 1), (2, 4, 4)), (None, "float16", "float32", "int8")


@pytest.mark.parametrize(
    ("source", "case"), in_turn(product(DTYPES, (1, 100), GRIDS)), indirect=["source"]
)
def test_tokens_are_pooled_and_quantised(
    source: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str | None, int, tuple[int, int, int]],
) -> None:
    """By one row at a time, or all of a video at once."""
    dtype, block_rows, to = case
    monkeypatch.setattr(module, "BLOCK_BYTES", block_rows * 4 * K * DIM)
    report = convert(source, tmp_path / "copy", ConvertConfig(tokens=to, dtype=dtype))
    target = Store.open(tmp_path / "copy")
    assert verify(target).intact
    for name in ("floats", "int8"):
        old, new = source.stream(name), target.stream(name)
        assert (new.grid, new.future, new.at) == (to, FUTURE, AT)
        assert new.dtype == (dtype or old.dtype)
        if (new.grid, new.dtype) == (old.grid, old.dtype):
            assert new == old
            assert name not in report.rounding
            continue
        made_of = {"fingerprint": old.fingerprint, "dtype": old.dtype, "grid": list(GRID)}
        assert new.config == {"a": 1, "converted_from": made_of}
        assert new.pooled_from == (None if to == GRID else GRID)
        assert (name in report.rounding) == (new.dtype != "float32")
        for video, times in TIMES.items():
            before = source.features(name, video).read()
            wanted = pool(before, GRID, to).astype(np.float32)
            found = target.features(name, video)
            np.testing.assert_array_equal(found.times, times)
            if new.dtype == "int8":
                values, scale = quantise(wanted)
                np.testing.assert_array_equal(found.rows[:], values)
                np.testing.assert_array_equal(found.scale[:], scale)  # type: ignore[index]
                largest = np.abs(dequantise(values, scale) - wanted).max()
                assert report.rounding[name].largest_absolute >= largest
                assert 0 < report.rounding[name].largest_relative <= 0.5 / 127 * 1.001
            else:
                np.testing.assert_array_equal(found.read(), wanted.astype(new.dtype))
            attributes = target.backend.open(f"features/{name}/{video}")[1]
            own = source.backend.open(f"features/{name}/{video}")[1]
            assert attributes["converted_from"] == {**made_of, CHECKSUMS: own[CHECKSUMS]}
            assert attributes["file"] == f"{video}.mp4"
    one, other = source.stream("rgb"), target.stream("rgb")
    wide = one.dtype if dtype in (None, "int8") else dtype
    assert (other.grid, other.dtype, other.config) == (None, wide, {"a": 1})


def test_what_was_converted_twice_knows_both(source: Store, tmp_path: Path) -> None:
    convert(source, tmp_path / "one", ConvertConfig(tokens=(2, 2, 2), streams=("floats",)))
    first = Store.open(tmp_path / "one")
    convert(first, tmp_path / "two", ConvertConfig(tokens=(1, 1, 1), dtype="int8"))
    last = Store.open(tmp_path / "two").stream("floats")
    assert last.pooled_from == GRID
    made_of = last.config["converted_from"]
    assert made_of["fingerprint"] == first.stream("floats").fingerprint
    assert made_of["converted_from"]["fingerprint"] == source.stream("floats").fingerprint


def test_an_interrupted_conversion_goes_on(
    source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ConvertConfig(tokens=(1, 2, 2), dtype="int8")
    whole = convert(source, tmp_path / "whole", config)
    publish, done = type(source.backend).publish, []

    def killed(self: Any, key: str, *rest: Any, **more: Any) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(key)
        publish(self, key, *rest, **more)

    for kind in {type(source.backend), type(Store.open(tmp_path / "whole").backend)}:
        monkeypatch.setattr(kind, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "copy", config)
    monkeypatch.undo()
    with pytest.raises(FingerprintMismatch, match=r"grid: \[1, 2, 2\] -> \[1, 1, 1\]"):
        convert(source, tmp_path / "copy", ConvertConfig(tokens=(1, 1, 1), dtype="int8"))
    assert plan_conversion(source, tmp_path / "copy", config).done == tuple(done)
    report = convert(source, tmp_path / "copy", config)
    assert report.skipped == tuple(done)
    assert {*report.skipped, *report.written} == {*whole.written}
    one, other = Store.open(tmp_path / "whole"), Store.open(tmp_path / "copy")
    for key in whole.written:
        assert one.backend.open(key)[1] == other.backend.open(key)[1]
    assert convert(source, tmp_path / "copy", config).written == ()


def test_tokens_never_go_into_a_store_that_says_format_1(
    source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Store.create(tmp_path / "copy")
    add = type(target.backend).add_group_attributes

    def looked(self: Any, key: str, attributes: Any, **more: Any) -> Any:
        assert self.group_attributes("")[MARK]["format"] == 2
        return add(self, key, attributes, **more)

    monkeypatch.setattr(type(target.backend), "add_group_attributes", looked)
    convert(source, tmp_path / "copy", ConvertConfig(streams=("int8",)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tokens": (3, 4, 4)}, r"floats: .*expected sides that divide 2x4x4, found 3x4x4"),
        ({"tokens": (4, 4, 4)}, "found 4x4x4"),
        ({"tokens": (1, 1, 1), "streams": ("rgb",)}, "only tokens can be pooled.*found rgb"),
        ({"dtype": "int8", "streams": ("rgb", "floats")}, "found rgb: a vector a row"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_written(
    source: Store, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    for call in (plan_conversion, convert):
        with pytest.raises(BadConfig, match=said) as caught:
            call(source, tmp_path / "copy", ConvertConfig(**config))
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("grid", [(0, 1, 1), (1, 1), "1x1x1", (1, 1, True)])
def test_a_grid_that_is_none_is_refused(grid: Any) -> None:
    with pytest.raises(BadConfig, match="impossible tokens"):
        ConvertConfig(tokens=grid)


def test_tokens_that_do_not_fit_are_refused(source: Store, tmp_path: Path) -> None:
    rows = rows_of("v2")
    rows[0, 3, 1] = np.inf
    source.write_features("floats", "v3", rows, times=TIMES["v2"])
    config = ConvertConfig(dtype="int8", streams=("floats",))
    with pytest.raises(BadConfig, match="features/floats/v3: values that are not finite"):
        convert(source, tmp_path / "copy", config)
    assert Store.open(tmp_path / "copy").videos("floats") == ["v1", "v2"]


def test_damaged_tokens_are_not_converted(source: Store, tmp_path: Path) -> None:
    path = source.backend.location("features/int8/v1")
    for file in [path] if path.is_file() else list(path.rglob("c/0/0*")):
        if file.is_file():
            whole = bytearray(file.read_bytes())
            whole[-1] ^= 1
            file.chmod(0o644)
            file.write_bytes(whole)
    with pytest.raises(DamagedStore, match="features/int8/v1"):
        convert(source, tmp_path / "copy", ConvertConfig(tokens=(1, 1, 1)))
    assert {part.key for part in verify(source).damaged} == {"features/int8/v1"}
    (action,) = repair(source).actions
    assert (action.key, action.done) == ("features/int8/v1", "dropped")


# The mark


def test_repair_knows_of_which_format_a_store_was(source: Store) -> None:
    """Its root is lost, and groups with it: streams of tokens, or their videos, tell."""
    source.backend.set_group_text("", b"{}")
    assert {part.key for part in verify(source.backend).damaged} == {""}
    assert repair(source.backend).intact
    assert source.backend.group_attributes("")[MARK]["format"] == 2
    for key in ("", "features/floats", "features/int8"):
        source.backend.set_group_text(key, b"{}")
    assert repair(source.backend).intact
    again = Store.open(source.path)
    assert again.backend.group_attributes("")[MARK]["format"] == 2
    assert again.stream("int8").grid == GRID
    assert verify(again).intact


def test_a_store_of_format_1_is_repaired_as_one(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.create_stream("rgb", dim=2, dtype="float16", fps=4, source="x", config={})
    store.write_features("rgb", "v1", np.zeros((3, 2), np.float16))
    for damaged in (("",), ("", "features/rgb")):
        for key in damaged:
            store.backend.set_group_text(key, b"{}")
        assert repair(store.backend).intact
        assert store.backend.group_attributes("")[MARK]["format"] == 1


def test_a_mark_that_says_too_little_is_raised(source: Store) -> None:
    root = source.backend.group_attributes("")
    source.backend.set_group_attributes("", {MARK: {**root[MARK], "format": 1}, "dataset": "toy"})
    (part,) = verify(source).damaged
    assert (part.key, part.what) == ("", "meaning")
    assert part.why == "it says format 1, and has streams of tokens (floats, int8)"
    (action,) = repair(source).actions
    assert (action.key, action.done) == ("", "restored")
    assert source.backend.group_attributes("")[MARK]["format"] == 2
    assert source.dataset == "toy"
    assert verify(source).intact


def test_who_converted_tokens_makes_them_again(source: Store, tmp_path: Path) -> None:
    convert(source, tmp_path / "copy", ConvertConfig(dtype="int8", streams=("floats",)))
    target = Store.open(tmp_path / "copy")
    file = target.backend.location("features/floats/v1") / "zarr.json"
    file.chmod(0o644)
    file.write_bytes(b"{}")
    (action,) = repair(target).actions
    assert (action.done, action.next) == ("dropped", "antcache store convert")


def test_command(source: Store, tmp_path: Path) -> None:
    path = tmp_path / "copy.h5"
    command = ["store", "convert", str(source.path), str(path), "--tokens", "1x2x2"]
    command += ["--dtype", "int8"]
    result = CliRunner().invoke(cli, [*command, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["to_do"]) == 5
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "5 units written" in result.stdout
    assert Store.open(path).stream("int8").grid == (1, 2, 2)
    for bad in ("4x4", "0x1x1", "1x1x1x1", "axbxc", "1x1x-1", "", "1x1x99999999", "٣x1x1", "3x4x4"):
        result = CliRunner().invoke(cli, [*command, "--tokens", bad])
        assert result.exit_code == 2, bad
        assert len(result.stderr.strip().splitlines()) == 1
