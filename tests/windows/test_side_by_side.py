"""Several feature streams: windows that all of them have, side by side, packed or lazy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from antcache.annotations import locate
from antcache.errors import BadConfig, MissingFeature, MissingKey
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.train import train
from antcache.student.training.training_data import TrainingData, load_training_data
from antcache.windows.dataset import Windows
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.reading.pack import PackedFeatures

MakeStore = Callable[..., Store]
CPU = torch.device("cpu")
STREAMS = {"flow": (5, "float32", 10.0), "obj": (3, "float16", 2.5)}


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """A store with rgb (12 wide, 4 rows/s), flow and obj of other widths, dtypes and rates."""
    made, rng = make_store(), np.random.default_rng(7)
    for name, (dim, dtype, fps) in STREAMS.items():
        made.create_stream(name, dim=dim, dtype=dtype, fps=fps, source="made up", config={})
        for video in made.videos("rgb"):
            seconds = made.features("rgb", video).num_rows / 4
            rows = rng.standard_normal((int(seconds * fps), dim))
            made.write_features(name, video, rows.astype(dtype))
    return made


def load(store: Store, **settings: Any) -> TrainingData:
    return load_training_data(store, StudentConfig.of(**settings), CPU)


def values(windows: Windows) -> torch.Tensor:
    """The features of a pack."""
    assert isinstance(windows.features, PackedFeatures)
    return windows.features.take(range(len(windows)))


def test_each_stream_is_what_it_is_alone(store: Store) -> None:
    """Side by side, in the order that was asked for, each row from its own stream's rate."""
    joined = load(store, stream=("rgb", "obj", "flow"))
    assert joined.shape.dims == (12, 3, 5)
    assert [stream.name for stream in joined.streams] == ["rgb", "obj", "flow"]
    pack = joined.train
    assert pack.features.shape == (42, 10, 20)
    assert values(pack).dtype == torch.float32  # the widest
    for name, part in zip(("rgb", "obj", "flow"), values(pack).split((12, 3, 5), 2), strict=True):
        alone = load(store, stream=(name,)).train
        assert torch.equal(part, values(alone).float()), name
        assert torch.equal(pack.tensors.action, alone.tensors.action)
        assert np.array_equal(pack.labels.uid, alone.labels.uid)


def test_lazy_windows_equal_the_pack(store: Store) -> None:
    pack = load(store, stream=("rgb", "flow")).train
    windows = load(store, stream=("rgb", "flow"), windows="stream").train
    assert isinstance(windows.features, LazyFeatures)
    assert windows.features.shape == pack.features.shape
    order = torch.randperm(42, generator=torch.Generator().manual_seed(0))
    batches = list(windows.batches(order, 8))
    assert len(batches) == 6
    for rows, features in batches:
        assert torch.equal(features, values(pack)[rows])
    assert torch.equal(windows[3].features, values(pack)[3])


def test_leaving_batches_of_several_streams_ends_their_threads(store: Store) -> None:
    import threading

    windows = load(store, stream=("rgb", "flow"), windows="stream").train
    before = threading.active_count()
    batches = windows.batches(torch.arange(42), 4)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_video_missing_in_one_stream_is_named_with_the_stream(store: Store) -> None:
    store.remove("features/flow/t2")
    with pytest.raises(MissingFeature, match=r"features/flow, split train: 7 of 48 .*t2 \(7\)"):
        load(store, stream=("rgb", "flow"))
    data = load(store, stream=("rgb", "flow", "obj"), allow_missing=True)
    dropped = data.dropped["train"]
    assert list(dropped) == ["too_early", "no_features in flow"]
    assert all(uid.startswith("t2_") for uid in dropped["no_features in flow"])
    assert len(data.train) == 42 - 7
    assert not any(uid.startswith("t2_") for uid in data.train.labels.uid)
    whole = load(store, stream=("rgb",)).train
    keep = [i for i, uid in enumerate(whole.labels.uid) if not uid.startswith("t2_")]
    assert torch.equal(values(data.train)[..., :12], values(whole)[keep].float())


def test_a_segment_missing_in_two_streams_is_named_once(store: Store) -> None:
    store.remove("features/flow/t2")
    store.remove("features/obj/t2")
    store.remove("features/obj/t3")
    dropped = load(store, stream=("rgb", "flow", "obj"), allow_missing=True).dropped["train"]
    assert len(dropped["no_features in flow"]) == len(dropped["no_features in obj"]) == 7
    assert all(uid.startswith("t3_") for uid in dropped["no_features in obj"])


def test_no_window_in_common(store: Store) -> None:
    for video in ("t0", "t1", "t2"):
        store.remove(f"features/flow/{video}")
    for video in ("t3", "t4", "t5"):
        store.remove(f"features/obj/{video}")
    with pytest.raises(BadConfig, match=r"features/flow,obj, split train: no segment has a window"):
        load(store, stream=("flow", "obj"), allow_missing=True)


def test_padding_in_one_stream_is_padding(store: Store) -> None:
    """A stream that begins later: its first frames stand in for what came before."""
    late = store.features("flow", "t1").read()[30:]
    store.remove("features/flow/t1")
    store.write_features("flow", "t1", late, start_s=3.0)
    streams = (("rgb",), ("flow",), ("rgb", "flow"))
    rgb, flow, joined = (load(store, stream=names).train.labels for names in streams)
    rows, flow_rows = locate(rgb.uid, joined.uid), locate(flow.uid, joined.uid)
    assert flow.padded.sum() > rgb.padded[rows].sum()
    np.testing.assert_array_equal(joined.padded, rgb.padded[rows] | flow.padded[flow_rows])
    assert (joined.frame_action[joined.padded] == -100).all()
    seen = ~joined.padded
    np.testing.assert_array_equal(joined.frame_action[seen], rgb.frame_action[rows][seen])


def test_unknown_streams_are_named(store: Store) -> None:
    with pytest.raises(MissingKey, match="depth"):
        load(store, stream=("rgb", "depth"))


def test_the_order_of_streams_is_part_of_what_a_run_is(store: Store) -> None:
    one, two = load(store, stream=("rgb", "flow")), load(store, stream=("flow", "rgb"))
    assert one.fingerprints != two.fingerprints
    alone = load(store, stream=("rgb",))
    assert alone.fingerprints["stream fingerprint"] == alone.streams[0].fingerprint


@pytest.mark.parametrize(
    ("head", "fusion"), [("light", "concat"), ("light", "late"), ("gru", "attention")]
)
def test_trains_on_several_streams(
    store: Store, small: StudentConfig, head: str, fusion: str
) -> None:
    heads = small.model.heads if head == "light" else None
    config = small.replace(head=head, heads=heads, stream=("rgb", "flow", "obj"), fusion=fusion)
    packed, lazy = (
        train(store, None, config.replace(windows=windows)) for windows in ("pack", "stream")
    )
    assert packed.history[-1]["loss"] < packed.history[0]["loss"]
    np.testing.assert_array_equal(packed.predictions.scores, lazy.predictions.scores)
