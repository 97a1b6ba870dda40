from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_kitchen import assert_same_run, stopped_in_step
from torch.utils.data import ConcatDataset, DataLoader, default_collate

from antcache.annotations import protocol_for
from antcache.errors import BadConfig, DamagedStore
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.train import train
from antcache.student.training import training_data
from antcache.student.training.training_data import load_training_data
from antcache.windows.dataset import COLUMNS, WindowFeatures, Windows
from antcache.windows.reading import memory as memory_module
from antcache.windows.reading.lazy import BUFFERS, LazyFeatures
from antcache.windows.reading.memory import free_bytes
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.staging import Staging
from antcache.windows.split import SplitWindows, split_windows
from antcache.windows.target_rows import TargetRows
from antcache.windows.teacher_targets import TeacherTargets

MakeStore = Callable[..., Store]
CPU = torch.device("cpu")
NAMES = ("features", *COLUMNS)


def windows_of(store: Store) -> SplitWindows:
    """The training windows."""
    streams, segments = [store.stream("rgb")], store.labels("train")
    return split_windows(store, streams, "train", segments, protocol_for("tiny"))


def lazy_of(store: Store, targets: TeacherTargets | None = None) -> Windows:
    """The training windows, whose features are read when they are needed."""
    found = windows_of(store)
    return Windows(found.labels, LazyFeatures.of(found.streams, CPU), targets)


def packed_of(store: Store, targets: TeacherTargets | None = None) -> Windows:
    """The training windows with their features."""
    found = windows_of(store)
    return Windows(found.labels, PackedFeatures.gather(found.streams, CPU), targets)


def values(windows: Windows) -> torch.Tensor:
    """The features of a pack."""
    assert isinstance(windows.features, PackedFeatures)
    return windows.features.take(range(len(windows)))


def column(windows: Windows, name: str) -> torch.Tensor:
    """What a sample's `name` is taken from."""
    if name == "features":
        return values(windows)
    return windows.tensors.columns()[name]


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_training_on_lazy_windows_gives_the_same_bits(
    make_store: MakeStore, small: StudentConfig, backend: str
) -> None:
    store = make_store(backend=backend)
    config = small.replace(targets=("oracle",), feature_weight=0.1, past_weight=0.1)
    lazy = train(store, None, config.replace(windows="stream"))
    packed = train(store, None, config.replace(windows="pack"))
    assert_same_run(lazy, packed)
    unmapped = Store.open(store.path, memory_map=False)
    assert_same_run(train(unmapped, None, config.replace(windows="stream")), packed)


def test_a_run_on_lazy_windows_resumes_to_the_same_bits(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """Stopped in the middle of epoch 2, by what a step raises."""
    store, config = make_store(), small.replace(windows="stream")
    with stopped_in_step(8):
        train(store, tmp_path / "run", config)
    resumed = train(store, tmp_path / "run", config, resume=True)
    assert resumed.resumed_epoch == 1
    assert_same_run(resumed, train(store, None, config.replace(windows="pack")))


@pytest.mark.parametrize("made", [lazy_of, packed_of])
def test_batches_come_in_the_order_asked_for(
    make_store: MakeStore, made: Callable[[Store], Windows]
) -> None:
    store = make_store()
    windows, pack = made(store), packed_of(store)
    assert windows.features.shape == values(pack).shape == (len(windows), 10, 12)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    seen = []
    for positions, features in windows.batches(order, 4):  # more batches than buffers
        assert torch.equal(features, values(pack)[positions])
        assert features.dtype == torch.float16
        seen.append(positions)
    assert [len(positions) for positions in seen] == [4] * (len(order) // 4) + [len(order) % 4]
    assert len(seen) > BUFFERS
    assert torch.equal(torch.cat(seen), order)


def readers() -> int:
    return sum(thread.name.startswith("windows") for thread in threading.enumerate())


def test_the_thread_ends_with_its_iterator(make_store: MakeStore) -> None:
    windows = lazy_of(make_store())
    for _ in range(2):
        batches = windows.batches(torch.arange(len(windows)), 2)
        next(batches)
        assert readers() == 1
        batches.close()
        assert readers() == 0
    list(windows.batches(torch.arange(len(windows)), 2))
    assert readers() == 0


def test_what_the_thread_can_not_read_is_raised(make_store: MakeStore) -> None:
    store = make_store()
    windows = lazy_of(store)
    store.remove("features/rgb/t3")
    with pytest.raises(DamagedStore, match=r"features/rgb/t3.*the file is gone"):
        list(windows.batches(torch.arange(len(windows)), 2))
    assert readers() == 0


def loaded(dataset: Any, context: str | None) -> dict[str, Any]:
    """A whole dataset through a loader, with two workers if it has a context."""
    workers = 0 if context is None else 2
    loader = DataLoader(dataset, batch_size=5, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    found = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in NAMES}
    return {**found, "uid": [uid for batch in batches for uid in batch.uid]}


@pytest.fixture
def all_paths(make_store: MakeStore) -> list[Windows]:
    """The same windows from memory maps and through the API, of both backends."""
    stores = [make_store(backend, backend=backend, num_videos=2) for backend in ("zarr", "hdf5")]
    stores += [Store.open(store.path, memory_map=False) for store in stores]
    found = [lazy_of(store) for store in stores]
    mapped = [s.gatherer.mapped for w in found for s in w.features.streams]
    assert mapped == [True, True, False, False]
    for windows in found:  # what is open, and runs, in this process goes into the workers
        next(windows.batches(torch.arange(2), 2))
    return found


def test_forked_loaders_see_the_same(all_paths: list[Windows], make_store: MakeStore) -> None:
    pack = packed_of(Store.open(make_store("again", num_videos=2).path))
    for dataset in (*all_paths, pack):
        found = loaded(dataset, "fork")
        assert found["uid"] == pack.labels.uid.tolist()
        for name in NAMES:
            assert torch.equal(found[name], column(pack, name)), name


@pytest.mark.slow
def test_spawned_loaders_see_the_same(all_paths: list[Windows]) -> None:
    together: ConcatDataset[Any] = ConcatDataset(all_paths)
    here, there = loaded(together, None), loaded(together, "spawn")
    assert there["uid"] == here["uid"]
    for name in NAMES:
        assert torch.equal(there[name], here[name]), name


def test_a_sample_is_one_window(make_store: MakeStore) -> None:
    store = make_store()
    lazy, pack = lazy_of(store), packed_of(store)
    assert len(lazy) == len(pack)
    batch = default_collate(lazy.__getitems__([7, 0, 7]))
    assert set(batch._fields) == {*NAMES, "target_rows", "uid"}
    for name in NAMES:
        assert torch.equal(getattr(batch, name), column(pack, name)[[7, 0, 7]]), name
    assert lazy[7].uid == pack[7].uid == pack.labels.uid[7]
    with pytest.raises(IndexError):
        lazy[len(lazy)]


@pytest.mark.parametrize("made", [lazy_of, packed_of])
def test_batches_and_samples_know_their_soft_targets(
    make_store: MakeStore, made: Callable[[Store, TeacherTargets], Windows]
) -> None:
    """The rows of those that have one, and -1 for the window that has none."""
    store = make_store()
    oracle = store.targets("oracle")
    uid = windows_of(store).labels.uid
    where = TargetRows.of([(oracle.uid, oracle.valid & (oracle.uid != uid[5]))], uid)
    windows = made(store, TeacherTargets.of({"oracle": oracle}, where))
    positions, features = next(windows.batches(torch.tensor([7, 5, 2]), 3))
    batch = windows.batch(positions, features)
    assert batch.target_rows is not None
    assert batch.target_rows.tolist() == [6, -1, 2]
    samples = windows.__getitems__([7, 5, 2])
    assert [sample.target_rows.item() for sample in samples] == [6, -1, 2]
    assert windows.targets is not None
    logits = windows.targets.targets.logits[0, batch.target_rows[[0, 2]]]
    assert torch.equal(logits.argmax(dim=1), batch.action[[0, 2]])
    assert torch.equal(batch.features, features.float())


def test_auto_packs_what_fits(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store()
    data = load_training_data(store, StudentConfig.of(windows="stream"), CPU)
    assert isinstance(data.train.features, LazyFeatures)
    assert isinstance(data.validation.features, LazyFeatures)
    rows = [s.stream for w in (data.train, data.validation) for s in w.features.streams]
    pairs = [zip(np.repeat(s.video, 10), s.rows.flat, strict=True) for s in rows]
    needed = 12 * 2 * sum(len(set(own)) for own in pairs)

    def kind(free: int | None, windows: str = "auto", of: Store = store) -> type[WindowFeatures]:
        monkeypatch.setattr(training_data, "free_bytes", lambda device: free)
        data = load_training_data(of, StudentConfig.of(windows=windows), CPU)
        assert type(data.train.features) is type(data.validation.features)
        return type(data.train.features)

    with caplog.at_level(logging.INFO):
        assert kind(int(needed / 0.7) + 1) is PackedFeatures
        assert "packed on the device (windows = auto)" in caplog.text
        assert kind(int(needed / 0.7) - 1) is LazyFeatures
        assert "read from the store, batch by batch (windows = auto)" in caplog.text
    assert kind(None) is PackedFeatures
    assert kind(0, "pack") is PackedFeatures
    assert "decodes the chunks" not in caplog.text
    assert kind(1 << 40, "stream", Store.open(store.path, memory_map=False)) is LazyFeatures
    assert "decodes the chunks" in caplog.text
    with pytest.raises(BadConfig, match="unknown windows: expected auto or pack or stream"):
        StudentConfig.of(windows="some")


def test_free_memory_is_that_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = free_bytes(CPU)
    assert here is not None
    assert here > 1 << 20
    meminfo, own, groups = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups"
    monkeypatch.setattr(memory_module, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory_module, "_OWN_GROUP", own)
    monkeypatch.setattr(memory_module, "_GROUPS", groups)
    assert free_bytes(CPU) is None
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   50 kB\n")
    assert free_bytes(CPU) == 50 * 1024
    own.write_text("0::/job/step\n")
    (groups / "job" / "step").mkdir(parents=True)
    for name, limit in (("job", "30000"), ("job/step", "max")):
        (groups / name / "memory.max").write_text(limit)
        (groups / name / "memory.current").write_text("20000")
        (groups / name / "memory.stat").write_text("anon 1\ninactive_file 500\nactive_file 70\n")
    assert free_bytes(CPU) == 30000 - 20000 + 570
    for name, limit in (("memory.max", "20001"), ("memory.current", "20000"), ("memory.stat", "")):
        (tmp_path / name).write_text(limit)  # above all groups: somebody else's file
    assert free_bytes(CPU) == 30000 - 20000 + 570


def test_staging_hands_each_buffer_out_in_turn() -> None:
    staging = Staging((3, 2), torch.float32, CPU, depth=2)
    for turn in range(4):
        staging.buffer(turn, 2).fill_(turn)
        sent = staging.send(turn, 2)
        assert sent.tolist() == [[turn, turn]] * 2
    assert staging.buffer(0, 3).data_ptr() == staging.buffer(2, 3).data_ptr()
    assert staging.buffer(0, 3).data_ptr() != staging.buffer(1, 3).data_ptr()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gets_the_same_windows(make_store: MakeStore) -> None:
    store = make_store()
    pack, cuda, streams = packed_of(store), torch.device("cuda"), windows_of(store).streams
    order = torch.arange(len(pack)).flip(0)
    for features in (PackedFeatures.gather(streams, cuda), LazyFeatures.of(streams, cuda)):
        found = [part.clone() for _, part in features.batches(order, 4)]
        assert torch.equal(torch.cat(found).cpu(), values(pack)[order])
