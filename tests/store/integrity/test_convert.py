"""`antcache store convert`: every form into every form, and nothing lost on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from shelves import Shelf

from antcache.annotations import Taxonomy
from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    DamagedStore,
    FingerprintMismatch,
    MissingKey,
)
from antcache.store import SoftTargets, Store
from antcache.store.format import CHECKSUMS
from antcache.store.integrity.convert import ConvertConfig, convert, plan_conversion
from antcache.store.integrity.info import describe
from antcache.testing import SEGMENTS, TAXONOMY

FORMS = list(itertools.product(("zarr", "hdf5"), (False, True)))
IDS = [f"{kind}-{'compressed' if packed else 'plain'}" for kind, packed in FORMS]
EXTRA = {"file": "v1.mp4", "frames": 17, "ended_early": False, "precision": None, "clip": [1, 2]}

MakeStore = Callable[..., Store]


def write(path: Path, kind: str = "zarr", packed: bool = False, dtype: str = "float32") -> Store:
    """A store with everything in it."""
    rng = np.random.default_rng(0)
    store = Store.create(path, backend=kind)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    targets = SoftTargets(
        uid=SEGMENTS.uid,
        valid=np.array([True, True, False]),
        logits=rng.normal(size=(3, 3)).astype(np.float32),
        moment=SEGMENTS.moments(),
        attributes={"taxonomy": TAXONOMY.fingerprint, "config": {"order": [1, 2]}},
    )
    store.write_targets("dense", targets)
    store.write_targets("sparse", targets.top_k(2))
    settings: dict[str, Any] = {"dim": 6, "dtype": dtype, "source": "a test", "compressed": packed}
    store.create_stream("flow", fps=29.97, config={"a": None, "b": [1]}, **settings)
    store.create_stream("rgb", fps=4.0, config={}, **settings)
    for stream, video, rows in (("flow", "v1", 9), ("flow", "v2", 5), ("rgb", "v2", 0)):
        values = rng.normal(size=(rows, 6)).astype(dtype)
        if rows:
            values[0, :3] = np.nan, np.inf, -0.0
        times = np.cumsum(rng.random(rows) + 0.1) if rows == 5 else None
        store.write_features(stream, video, values, start_s=1 / 3, times=times, attributes=EXTRA)
    store.set_gap_rule("flow", step_s=0.25, max_age_s=1.0)
    return store


@pytest.fixture
def make(tmp_path: Path, shelf: Shelf) -> MakeStore:
    """Function that writes a store with everything in it."""
    return lambda name="source", *form: shelf.store(
        tmp_path / name, ("everything", *form), lambda path: write(path, *form)
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Store]:
    """A store in every form, for tests that only read it."""
    folder = tmp_path_factory.mktemp("sources")
    return {form: write(folder / name, *form) for name, form in zip(IDS, FORMS, strict=True)}


def keys(store: Store) -> list[str]:
    groups = ("labels", "targets", *(f"features/{s}" for s in store.streams()))
    return [f"{group}/{unit}" for group in groups for unit in store.backend.units(group)]


def assert_same(one: Store, other: Store) -> None:
    """Everything but the form is equal, to the bit."""
    ours, theirs = describe(one), describe(other)
    for info in (ours, theirs):
        info.pop("path")
        info.pop("backend")
    assert ours == theirs
    for group in ("labels", "targets", "features", *(f"features/{s}" for s in one.streams())):
        there = [store.backend.group_attributes(group) for store in (one, other)]
        for attributes in there:
            attributes.pop("compressed", None)
        assert there[0] == there[1]
    assert keys(one) == keys(other)
    for key in keys(one):
        arrays, attributes = one.backend.open(key)
        copies, copied = other.backend.open(key)
        assert attributes == copied
        assert arrays.keys() == copies.keys()
        for name, array in arrays.items():
            assert np.asarray(array[...]).dtype == np.asarray(copies[name][...]).dtype
            assert np.asarray(array[...]).tobytes() == np.asarray(copies[name][...]).tobytes()
        assert not other.backend.damaged_parts(key)


@pytest.mark.parametrize("to", FORMS, ids=IDS)
@pytest.mark.parametrize("of", FORMS, ids=IDS)
def test_every_form_into_every_form(
    sources: dict[tuple[str, bool], Store],
    tmp_path: Path,
    of: tuple[str, bool],
    to: tuple[str, bool],
) -> None:
    source = sources[of]
    report = convert(source, tmp_path / "there", ConvertConfig(backend=to[0], compressed=to[1]))
    assert sorted(report.written) == sorted(keys(source))
    assert (report.skipped, report.rounding) == ((), {})
    target = Store.open(tmp_path / "there")
    assert (target.kind, target.stream("rgb").compressed) == to
    assert_same(source, target)
    assert_same(sources[to], target)


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_compression_compresses_and_plain_readers_read_it(tmp_path: Path, kind: str) -> None:
    source = Store.create(tmp_path / "source")
    source.create_stream("flow", dim=64, dtype="float16", fps=4, source="a test", config={})
    rows = np.tile(np.arange(64, dtype=np.float16), (5000, 1))
    source.write_features("flow", "v1", rows)
    path = tmp_path / "packed"
    convert(source, path, ConvertConfig(backend=kind, compressed=True))
    if kind == "zarr":
        found = np.asarray(zarr.open_array(path / "features/flow/v1/rows", mode="r"))
    else:
        with h5py.File(path / "features/flow/v1.h5") as file:
            assert file["rows"].compression == "gzip"
            found = file["rows"][:]
    np.testing.assert_array_equal(found, rows)
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert size < rows.nbytes / 4


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_float32_to_float16_says_what_it_was_and_what_was_lost(
    make: MakeStore, tmp_path: Path, kind: str
) -> None:
    source = make()
    rows = np.array([[1 + 2**-12, 1e-9, 65504, -3, np.inf, 0.25]], np.float32)
    source.write_features("flow", "v4", rows)
    report = convert(source, tmp_path / "half", ConvertConfig(backend=kind, dtype="float16"))
    half = Store.open(tmp_path / "half")
    lost = report.rounding["flow"]
    worst = max(
        float(np.nanmax(np.abs(v.astype(np.float16) - v)))
        for v in (source.features("flow", video).read()[:, 3:] for video in ("v1", "v2"))
    )
    assert lost.largest_absolute == pytest.approx(max(worst, 2**-12), rel=1e-6)
    assert 0 < lost.largest_relative <= 2**-11
    assert lost.became_zero == 1
    expected = [[1, 0, 65504, -3, np.inf, 0.25]]
    np.testing.assert_array_equal(half.features("flow", "v4").read(), np.float16(expected))
    stream = half.stream("flow")
    assert (stream.dtype, stream.source) == ("float16", "a test")
    assert stream.config == source.stream("flow").config
    assert stream.fingerprint != source.stream("flow").fingerprint
    assert half.backend.group_attributes("features/flow")["fingerprint"] == stream.fingerprint
    for video in half.videos("flow"):
        old = source.backend.open(f"features/flow/{video}")[1]
        new = half.backend.open(f"features/flow/{video}")[1]
        assert new.pop("converted_from") == {"dtype": "float32", CHECKSUMS: old.pop(CHECKSUMS)}
        assert new.pop("fingerprint") == stream.fingerprint != old.pop("fingerprint")
        new.pop(CHECKSUMS)
        assert new == old
        kept = half.features("flow", video).times, source.features("flow", video).times
        np.testing.assert_array_equal(*kept)
    # And back: every float16 is a float32, so the values stay, and what they were is remembered.
    report = convert(half, tmp_path / "full", ConvertConfig(dtype="float32"))
    assert report.rounding == {}
    full = Store.open(tmp_path / "full")
    assert full.stream("flow").fingerprint == source.stream("flow").fingerprint
    found = full.features("flow", "v1").read()
    np.testing.assert_array_equal(found, half.features("flow", "v1").read().astype(np.float32))
    history = full.backend.open("features/flow/v1")[1]["converted_from"]
    assert (history["dtype"], history["converted_from"]["dtype"]) == ("float16", "float32")


def test_what_float16_cannot_hold_is_an_error(make: MakeStore, tmp_path: Path) -> None:
    source = make()
    source.write_features("rgb", "big", np.full((2, 6), 7e4, np.float32))
    with pytest.raises(BadConfig, match=r"features/rgb/big: 12 values.*65504.*70000.*float32"):
        convert(source, tmp_path / "half", ConvertConfig(dtype="float16"))
    assert not Store.open(tmp_path / "half").has_features("rgb", "big")


@pytest.mark.parametrize(("kind", "dtype"), [("zarr", None), ("hdf5", "float16")])
def test_interrupted_anywhere_it_resumes(
    make: MakeStore, tmp_path: Path, kind: str, dtype: str | None
) -> None:
    source = make()
    path, config = tmp_path / "target", ConvertConfig(backend=kind, dtype=dtype)
    calls = 0

    def interrupt(label: str, done: float, total: float) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    every = keys(source)
    for _ in range(len(every)):
        before = set(plan_conversion(source, path, config).done)
        with pytest.raises(KeyboardInterrupt):
            convert(source, path, config, interrupt)
        after = set(plan_conversion(source, path, config).done)
        assert len(after - before) == 1
        assert before < after
    report = convert(source, path, config, interrupt)
    assert (report.written, sorted(report.skipped)) == ((), sorted(every))
    assert calls == len(every)
    assert not (path / ".staging").exists()
    convert(source, tmp_path / "at_once", config)
    assert_same(Store.open(tmp_path / "at_once"), Store.open(path))


def test_progress_counts_videos_and_bytes(make: MakeStore, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[float, float]]] = {}
    report = convert(
        make(),
        tmp_path / "target",
        progress=lambda label, done, total: seen.setdefault(label, []).append((done, total)),
    )
    assert seen["videos"][-1] == (3, 3)
    assert seen["MB"][-1] == (report.num_bytes / 1e6, report.num_bytes / 1e6)
    assert seen["MB"] == sorted(seen["MB"])


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_video_is_named_and_not_copied(
    make: MakeStore, tmp_path: Path, kind: str, packed: bool
) -> None:
    source = make("source", kind, packed)
    path = tmp_path / "source/features/flow"
    if kind == "zarr":
        flip(path / "v2/rows/c/0/0", 30)
    else:
        with h5py.File(path / "v2.h5") as file:
            at = file["rows"].id.get_chunk_info(0).byte_offset if packed else 0
            at = at or file["rows"].id.get_offset()
        flip(path / "v2.h5", at + 30)
    with pytest.raises(DamagedStore, match=r"features/flow/v2.*store repair"):
        convert(source, tmp_path / "target")
    target = Store.open(tmp_path / "target")
    assert target.has_features("flow", "v1")
    assert not target.has_features("flow", "v2")


def test_a_damaged_attribute_is_found(make: MakeStore, tmp_path: Path) -> None:
    """Not covered by the checksums of the values: the time of the first row."""
    source = make("source", "hdf5")
    path = tmp_path / "source/features/flow/v1.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["start_s"] = 7.0
    with pytest.raises(DamagedStore, match=r"features/flow/v1"):
        convert(source, tmp_path / "target")
    source = make("other", "zarr")
    flip(tmp_path / "other/features/flow/v1/zarr.json", 200)
    with pytest.raises(DamagedStore, match="features/flow/v1"):
        convert(source, tmp_path / "target2")


def test_a_target_with_something_else_is_refused(make: MakeStore, tmp_path: Path) -> None:
    source = make()
    path = tmp_path / "target"
    other = Store.create(path, dataset="elsewhere")
    with pytest.raises(FingerprintMismatch, match=r"another dataset.*toy.*elsewhere"):
        convert(source, path)
    other = Store.create(tmp_path / "classes")
    fields = {**TAXONOMY.to_dict(), "verbs": ("take", "throw")}
    other.write_labels("train", SEGMENTS, Taxonomy.from_dict(fields), source="a test")
    with pytest.raises(FingerprintMismatch, match="another taxonomy"):
        convert(source, tmp_path / "classes")
    settings: dict[str, Any] = {"dim": 6, "fps": 29.97, "source": "x"}
    config = source.stream("flow").config
    other = Store.create(tmp_path / "stream")
    other.create_stream("flow", **settings, dtype="float16", config=config)
    with pytest.raises(FingerprintMismatch, match="dtype: 'float16' -> 'float32'"):
        convert(source, tmp_path / "stream")
    other = Store.create(tmp_path / "video")
    other.create_stream("flow", **settings, dtype="float32", config=config)
    other.write_features("flow", "v2", np.zeros((5, 6), np.float32))
    with pytest.raises(AlreadyExists, match=r"features/flow/v2.*other checksums.*new store"):
        convert(source, tmp_path / "video")
    assert keys(other) == ["features/flow/v2"]  # nothing was begun
    with pytest.raises(BadConfig, match=r"another form.*expected hdf5, found zarr"):
        convert(source, tmp_path / "video", ConvertConfig(backend="hdf5"))
    with pytest.raises(BadConfig, match="expected compressed, found uncompressed"):
        convert(source, tmp_path / "video", ConvertConfig(compressed=True))


def test_a_target_that_another_process_makes_meanwhile(
    make: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the plan, before the first copy: what it made stays, and nothing is mixed."""
    source, create = make(), Store.open_or_create
    settings: dict[str, Any] = {"dim": 6, "fps": 29.97, "source": "x"}

    def overtaken(path: Path, **options: Any) -> Store:
        store = create(path, **{**options, "dataset": None})
        if path.name == "stream":
            store.create_stream("flow", **settings, dtype="float16", config={})
        else:
            fields = {**TAXONOMY.to_dict(), "verbs": ("take", "throw")}
            store.write_labels("test", SEGMENTS, Taxonomy.from_dict(fields), source="theirs")
        return store

    monkeypatch.setattr(Store, "open_or_create", overtaken)
    for name, what in (("stream", "the target's stream has other settings"), ("labels", "another")):
        with pytest.raises(FingerprintMismatch, match=what):
            convert(source, tmp_path / name)
    assert keys(Store.open(tmp_path / "stream")) == []
    assert keys(Store.open(tmp_path / "labels")) == ["labels/test"]


def test_streams_one_by_one_into_one_target(make: MakeStore, tmp_path: Path) -> None:
    source, path = make(), tmp_path / "target"
    convert(source, path, ConvertConfig(streams=("rgb",)))
    assert Store.open(path).streams() == ["rgb"]
    report = convert(source, path, ConvertConfig(streams=("flow",)))
    assert {key.rpartition("/")[0] for key in report.written} == {"features/flow"}
    assert_same(source, Store.open(path))
    with pytest.raises(MissingKey, match="obj"):
        convert(source, path, ConvertConfig(streams=("obj",)))


def test_source_and_target_must_differ(make: MakeStore, tmp_path: Path) -> None:
    source = make()
    (tmp_path / "link").symlink_to(source.path)
    for path in (source.path, tmp_path / "link", tmp_path / "source/features/copy"):
        with pytest.raises(BadConfig, match="in, the source"):
            convert(source, path)
    assert keys(source) == keys(make("other"))


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_to_a_url_and_back(make: MakeStore, tmp_path: Path, kind: str) -> None:
    source = make("source", kind)
    url = f"memory://{tmp_path.name}/kitchen"
    convert(source, url, ConvertConfig(compressed=True))
    remote = Store.open(url)
    assert remote.stream("rgb").compressed
    assert_same(source, remote)
    assert convert(source, url).written == ()
    with pytest.raises(BadConfig, match="in, the source"):
        convert(remote, f"{url}/")
    with pytest.raises(BadConfig, match="a store at a URL is a Zarr store"):
        plan_conversion(source, f"{url}.h5")
    convert(remote, tmp_path / "back", ConvertConfig(backend=kind, compressed=False))
    assert_same(source, Store.open(tmp_path / "back"))


def test_a_damaged_unit_at_a_url(make: MakeStore, tmp_path: Path) -> None:
    import fsspec

    url = f"memory://{tmp_path.name}/kitchen"
    convert(make(), url)
    files = fsspec.filesystem("memory")
    path = f"/{tmp_path.name}/kitchen/features/flow/v2/rows/c/0/0"
    raw = bytearray(files.cat_file(path))
    raw[7] ^= 1
    files.pipe_file(path, bytes(raw))
    with pytest.raises(DamagedStore, match="features/flow/v2"):
        convert(Store.open(url), tmp_path / "back")
    assert Store.open(tmp_path / "back").videos("flow") == ["v1"]


def test_command(make: MakeStore, tmp_path: Path) -> None:
    source, path = make(), tmp_path / "copy.h5"
    command = ["store", "convert", str(source.path), str(path), "--dtype", "float16"]
    result = CliRunner().invoke(cli, [*command, "--dry-run", "--json"])
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert (plan["backend"], sorted(plan["to_do"])) == ("hdf5", sorted(keys(source)))
    assert not path.exists()
    assert not (tmp_path / "copy.h5.log").exists()
    result = CliRunner().invoke(cli, [*command, "--compressed"])
    assert result.exit_code == 0, result.output
    assert f"{len(keys(source))} units written" in result.stdout
    assert "Rounding" in result.stdout
    assert "features/flow/v1: copied" in (tmp_path / "copy.h5.log").read_text()
    assert Store.open(path).stream("flow").compressed
    result = CliRunner().invoke(cli, [*command, "--json"])
    assert json.loads(result.stdout)["written"] == []
    for bad in (["--dtype", "float64"], ["--stream", "nope"], ["--uncompressed"]):
        result = CliRunner().invoke(cli, [*command, *bad])
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
