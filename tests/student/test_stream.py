from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, default_collate

from antcache.annotations import protocol_for
from antcache.errors import BadConfig, DamagedStore
from antcache.store import Store
from antcache.student import memory as memory_module
from antcache.student import problem as problem_module
from antcache.student.config import StudentConfig
from antcache.student.loop import Trainer
from antcache.student.memory import free_bytes
from antcache.student.pack import WindowPack, Windows
from antcache.student.problem import load_problem
from antcache.student.staging import Staging
from antcache.student.stream import BUFFERS, WindowStream
from antcache.student.train import RunResult, train
from antcache.student.windows import WindowIndex, stream_features

MakeStore = Callable[..., Store]
CPU = torch.device("cpu")
NAMES = ("features", "padded", "action", "frame_action", "target")


def stream_of(store: Store, split: str = "train", kind: type[Any] = WindowStream) -> Any:
    """The windows of a split as a stream, or as a pack."""
    segments = store.labels(split)
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    make = WindowPack.gather if kind is WindowPack else WindowStream.of
    return make(features, index, dim=12, dtype="float16", device=CPU)


def assert_same_run(one: RunResult, two: RunResult) -> None:
    mine, theirs = one.model.state_dict(), two.model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name
    np.testing.assert_array_equal(one.predictions.scores, two.predictions.scores)


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_training_from_a_stream_gives_the_same_bits(
    make_store: MakeStore, small: StudentConfig, backend: str
) -> None:
    store = make_store(backend=backend)
    config = small.replace(targets=("oracle",), feature_weight=0.1, past_weight=0.1)
    streamed = train(store, None, config.replace(windows="stream"))
    packed = train(store, None, config.replace(windows="pack"))
    assert_same_run(streamed, packed)
    unmapped = Store.open(store.path, memory_map=False)
    assert_same_run(train(unmapped, None, config.replace(windows="stream")), packed)


def test_a_streamed_run_resumes_to_the_same_bits(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of epoch 2, by what a step raises."""
    store, config = make_store(), small.replace(windows="stream")
    step, count = Trainer._step, itertools.count()

    def stop(self: Trainer, *batch: torch.Tensor) -> torch.Tensor:
        if next(count) == 8:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "run", config)
    resumed = train(store, tmp_path / "run", config, resume=True)
    assert resumed.resumed_epoch == 1
    assert_same_run(resumed, train(store, None, config.replace(windows="pack")))


@pytest.mark.parametrize("kind", [WindowStream, WindowPack])
def test_batches_come_in_the_order_asked_for(make_store: MakeStore, kind: type[Windows]) -> None:
    store = make_store()
    windows, pack = stream_of(store, kind=kind), stream_of(store, kind=WindowPack)
    assert windows.shape == pack.features.shape == (len(windows), 10, 12)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    seen = []
    for positions, features in windows.batches(order, 4):  # more batches than buffers
        assert torch.equal(features, pack.features[positions])
        assert features.dtype == torch.float16
        seen.append(positions)
    assert [len(positions) for positions in seen] == [4] * (len(order) // 4) + [len(order) % 4]
    assert len(seen) > BUFFERS
    assert torch.equal(torch.cat(seen), order)


def readers() -> int:
    return sum(thread.name.startswith("windows") for thread in threading.enumerate())


def test_the_thread_ends_with_its_iterator(make_store: MakeStore) -> None:
    stream = stream_of(make_store())
    for _ in range(2):
        batches = stream.batches(torch.arange(len(stream)), 2)
        next(batches)
        assert readers() == 1
        batches.close()
        assert readers() == 0
    list(stream.batches(torch.arange(len(stream)), 2))
    assert readers() == 0


def test_what_the_thread_can_not_read_is_raised(make_store: MakeStore) -> None:
    store = make_store()
    stream = stream_of(store)
    store.remove("features/rgb/t3")
    with pytest.raises(DamagedStore, match=r"features/rgb/t3.*the file is gone"):
        list(stream.batches(torch.arange(len(stream)), 2))
    assert readers() == 0


def loaded(dataset: Any, context: str | None) -> dict[str, Any]:
    """A whole dataset through a loader, with two workers if it has a context."""
    workers = 0 if context is None else 2
    loader = DataLoader(dataset, batch_size=5, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    found = {name: torch.cat([batch[name] for batch in batches]) for name in NAMES}
    return {**found, "uid": [uid for batch in batches for uid in batch["uid"]]}


@pytest.fixture
def all_paths(make_store: MakeStore) -> list[WindowStream]:
    """The same windows from memory maps and through the API, of both backends."""
    stores = [make_store(backend, backend=backend, num_videos=2) for backend in ("zarr", "hdf5")]
    stores += [Store.open(store.path, memory_map=False) for store in stores]
    streams = [stream_of(store) for store in stores]
    assert [s.gatherer.mapped for s in streams] == [True, True, False, False]
    for stream in streams:  # what is open, and runs, in this process goes into the workers
        next(stream.batches(torch.arange(2), 2))
    return streams


def test_forked_loaders_see_the_same(all_paths: list[WindowStream], make_store: MakeStore) -> None:
    pack = stream_of(Store.open(make_store("again", num_videos=2).path), kind=WindowPack)
    for dataset in (*all_paths, pack):
        found = loaded(dataset, "fork")
        assert found["uid"] == pack.uid.tolist()
        for name in NAMES:
            assert torch.equal(found[name], getattr(pack, name)), name


@pytest.mark.slow
def test_spawned_loaders_see_the_same(all_paths: list[WindowStream]) -> None:
    together: ConcatDataset[Any] = ConcatDataset(all_paths)
    here, there = loaded(together, None), loaded(together, "spawn")
    assert there["uid"] == here["uid"]
    for name in NAMES:
        assert torch.equal(there[name], here[name]), name


def test_a_sample_is_one_window(make_store: MakeStore) -> None:
    store = make_store()
    stream, pack = stream_of(store), stream_of(store, kind=WindowPack)
    assert len(stream) == len(pack)
    batch = default_collate(stream.__getitems__([7, 0, 7]))
    for name in NAMES:
        assert torch.equal(batch[name], getattr(pack, name)[[7, 0, 7]]), name
    assert stream[7]["uid"] == pack[7]["uid"] == pack.uid[7]
    with pytest.raises(IndexError):
        stream[len(stream)]


def test_auto_packs_what_fits(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store()
    needed = (6 + 3) * 7 * 10 * 12 * 2

    def kind(free: int | None, windows: str = "auto", of: Store = store) -> type[Windows]:
        monkeypatch.setattr(problem_module, "free_bytes", lambda device: free)
        problem = load_problem(of, StudentConfig.of(windows=windows), CPU)
        assert type(problem.train) is type(problem.validation)
        return type(problem.train)

    with caplog.at_level(logging.INFO):
        assert kind(int(needed / 0.7) + 1) is WindowPack
        assert "packed on the device (windows = auto)" in caplog.text
        assert kind(int(needed / 0.7) - 1) is WindowStream
        assert "streamed from the store, batch by batch (windows = auto)" in caplog.text
    assert kind(None) is WindowPack
    assert kind(0, "pack") is WindowPack
    assert "decodes the chunks" not in caplog.text
    assert kind(1 << 40, "stream", Store.open(store.path, memory_map=False)) is WindowStream
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
    pack, cuda = stream_of(store, kind=WindowPack), torch.device("cuda")
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    kind: dict[str, Any] = {"dim": 12, "dtype": "float16", "device": cuda}
    order = torch.arange(len(pack)).flip(0)
    for windows in (
        WindowPack.gather(features, index, **kind),
        WindowStream.of(features, index, **kind),
    ):
        found = [features.clone() for _, features in windows.batches(order, 4)]
        assert torch.equal(torch.cat(found).cpu(), pack.features[order])
