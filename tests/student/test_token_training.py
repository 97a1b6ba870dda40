"""Training, scoring and predicting on streams of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_kitchen import assert_equals_solo, assert_same_run
from token_kitchen import FUTURE, PLANE, PRESENT, add_tokens, add_tokens_at

from antcache.errors import BadCheckpoint, BadConfig
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.student.scoring import scoring_batch
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep
from antcache.student.training import training_data
from antcache.windows.reading.pack import PackedFeatures

MakeStore = Callable[..., Store]


@pytest.fixture
def probe(small: StudentConfig) -> StudentConfig:
    """A small probe on the tokens of the last row before each gap, all its terms on."""
    return small.replace(
        head="probe",
        width=None,
        dropout=None,
        stream=("tokens",),
        num_frames=1,
        loss="focal",
        verb_noun_weight=1.0,
        targets=("oracle",),
        gaps=FUTURE,
        epochs=2,
    )


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_packed_and_lazy_give_the_same_bits(
    make_store: MakeStore, probe: StudentConfig, dtype: str, backend: str
) -> None:
    store = make_store(backend=backend)
    add_tokens(store, dtype=dtype, future=FUTURE)
    packed, lazy = (train(store, None, probe.replace(windows=w)) for w in ("pack", "stream"))
    assert_same_run(packed, lazy)
    unmapped = Store.open(store.path, memory_map=False)
    assert_same_run(packed, train(unmapped, None, probe.replace(windows="stream")))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_it_learns_and_predicts_what_it_reports(
    make_store: MakeStore, probe: StudentConfig, tmp_path: Path, dtype: str
) -> None:
    """Focal loss and distillation together; the run's account says how many tokens there are."""
    store, run = make_store(num_videos=12), tmp_path / "run"
    add_tokens(store, dtype=dtype, future=FUTURE)
    config = probe.replace(gaps=FUTURE[:2], epochs=12, lr=1e-2, held_out=0.2)
    result = train(store, run, config)
    first, last = result.history[0], result.history[-1]
    for term in ("action_loss", "distillation_loss", "verb_noun_loss"):
        assert last[term] < first[term], term
    assert result.metrics["action/top1"] > 50  # one in six by chance; nine in ten can be known
    account = json.loads((run / "config.json").read_text())
    assert account["shape"]["tokens"] == PRESENT + PLANE
    student = TrainedStudent(store, run)
    found = student.predict(store.labels("validation"), split="validation")
    np.testing.assert_allclose(found.scores, result.predictions.scores, atol=1e-4)
    assert student.predictor.one_window(student.shape)().shape == (1, 6)
    account["shape"]["tokens"] = PRESENT
    (run / "config.json").write_text(json.dumps(account))
    with pytest.raises(BadCheckpoint, match="not of the shape of what it was trained on"):
        TrainedStudent(store, run)


def test_members_of_a_sweep_equal_their_solo_runs(
    make_store: MakeStore, probe: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    add_tokens(store, dtype="int8", future=FUTURE)
    settings = {"slow": probe.replace(lr=1e-3), "fast": probe.replace(weight_decay=0.1)}
    plan = Sweep(settings=settings, seeds=(0, 1), at_once=4)
    _, failed = sweep(store, tmp_path / "runs", plan)
    assert not failed
    assert_equals_solo(store, tmp_path / "runs", plan)


def test_rows_that_are_kept_where_windows_end(make_store: MakeStore, probe: StudentConfig) -> None:
    """The published recipe in small: gaps and anchors around those that are scored."""
    store = make_store()
    add_tokens_at(store, gaps=(0.25, 1.0, 1.75), anchors=(0.75, 1.0), dtype="int8", future=())
    config = probe.replace(
        stream=("kept",), gaps=(0.25, 1.75), anchors=(0.75, 1.0), anchor=1.0, gap_s=1.0
    )
    result = train(store, None, config.replace(epochs=3))
    assert result.counts["train"]["segments"] == 48
    assert result.counts["train"]["windows"] == 4 * 48  # from the end of the first there is enough
    assert result.counts["validation"] == {"windows": 24, "padded": 0}
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    said = "rows for other windows only: expected a gap of 0.25 or 1 or 1.75 s"
    with pytest.raises(BadConfig, match=said):
        train(store, None, config.replace(gaps=(0.25, 0.5)))
    with pytest.raises(BadConfig, match=said):
        train(store, None, config.replace(gap_s=2.0))


def test_other_heads_are_refused_before_anything_is_read(
    make_store: MakeStore, small: StudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    add_tokens(store)
    monkeypatch.delattr(PackedFeatures, "gather")
    said = r"the head 'light' takes rows of one vector: found rows of 6 tokens .*--tokens 1x1x1"
    with pytest.raises(BadConfig, match=said):
        train(store, None, small.replace(stream=("tokens",)))


@pytest.mark.parametrize("head", ["light", "avth", "gru", "mean", "probe"])
def test_rows_of_one_token_are_for_every_head(
    make_store: MakeStore, small: StudentConfig, head: str
) -> None:
    store = make_store()
    add_tokens(store, "one", grid=(1, 1, 1), dtype="int8")
    own = {"gru": {"heads": None}, "mean": {"heads": None, "layers": None, "width": None}}
    own["probe"] = {"width": None, "dropout": None}
    config = small.replace(head=head, stream=("one",), **own.get(head, {}))
    result = train(store, None, config)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_what_does_not_fit_is_streamed(
    make_store: MakeStore, probe: StudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are counted as they are packed: int8, each row once."""
    store = make_store()
    add_tokens(store, dtype="int8", future=FUTURE)
    needed = 0
    for split in ("train", "validation"):
        gaps = np.array(FUTURE if split == "train" else (1.0,))
        labels = store.labels(split)
        ends = np.round((labels.start_s[:, None] - gaps) * 4, 6)
        videos = np.repeat(labels.video, len(gaps))
        rows = {pair for pair in zip(videos, ends.flat, strict=True) if pair[1] > 0}
        needed += len(rows) * (PRESENT + 3 * PLANE) * (12 + 2)

    def packed(free: int) -> bool:
        monkeypatch.setattr(training_data, "free_bytes", lambda device: free)
        config = probe.replace(windows="auto")
        data = training_data.load_training_data(store, config, torch.device("cpu"))
        return isinstance(data.train.features, PackedFeatures)

    assert packed(int(needed / 0.7) + 2)
    assert not packed(int(needed / 0.7) - 2)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((900, 10, 1024), 512),
        ((900, 1, 272, 1024), 120),
        ((9, 2, 4352, 1408), 3),
        ((9, 9, 9000, 8), 1),
    ],
)
def test_windows_of_many_tokens_are_scored_a_few_at_a_time(
    shape: tuple[int, ...], size: int
) -> None:
    assert scoring_batch(shape) == size
