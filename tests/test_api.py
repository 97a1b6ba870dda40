"""The front door: the training loop of the documentation, and what it opens on."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import antcache
from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.errors import BadConfig, MissingKey
from antcache.evaluation import score_predictions
from antcache.kernels import distillation_loss
from antcache.store import SoftTargets

FPS, DIM = 2.0, 3


@pytest.fixture
def store(tmp_path: Path) -> antcache.Store:
    """Two videos of six segments; the teacher knows all but the last segment."""
    store = antcache.Store.create(tmp_path / "store")
    taxonomy = Taxonomy(
        dataset="own",
        verbs=("take", "put"),
        nouns=("pan",),
        actions=("take pan", "put pan"),
        action_verbs=(0, 1),
        action_nouns=(0, 0),
    )
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        start = np.tile(10.0 + 2 * np.arange(6), 2)
        segments = Segments.of(
            uid=[f"{split}{i}" for i in range(12)],
            video=[f"{split}-{i // 6}" for i in range(12)],
            start_s=start,
            stop_s=start + 1,
            verb=np.arange(12) % 2,
            noun=np.zeros(12, dtype=np.int64),
            action=np.arange(12) % 2,
        )
        store.write_labels(split, segments, taxonomy, source="made up")
        for stream in ("rgb", "flow"):
            store.create_stream(stream, dim=DIM, dtype="float32", fps=FPS, source="x", config={})
            for video in (f"{split}-0", f"{split}-1"):
                rows = rng.normal(size=(60, DIM)).astype(np.float32)
                store.write_features(stream, video, rows)
    store.write_targets(
        "text",
        SoftTargets(
            uid=np.array([f"train{i}" for i in range(12)]),
            valid=np.arange(12) < 11,
            logits=rng.normal(size=(12, 2)).astype(np.float32),
            attributes={"taxonomy": taxonomy.fingerprint},
        ),
    )
    return store


def test_a_loader_collates_what_the_store_holds(store: antcache.Store) -> None:
    train = store.windows("train", stream="rgb", targets=["text"])
    assert store.windows("train", stream="rgb", targets="text").targets is not None
    (batch,) = DataLoader(train, len(train))
    assert batch.features.shape == (12, 10, DIM)
    assert batch.uid == tuple(f"train{i}" for i in range(12))
    assert batch.target_rows.tolist() == [*range(11), -1]
    assert batch.action.tolist() == batch.verb.tolist() == [0, 1] * 6
    assert batch.noun.tolist() == [0] * 12
    # Two rows a second, the last one second before the start at 10 s: rows 9 to 18.
    rows = store.features("rgb", "train-0").read(np.arange(9, 19))
    np.testing.assert_array_equal(batch.features[0].numpy(), rows)
    assert train.targets is not None
    logits = torch.zeros(12, 2, requires_grad=True)
    loss = distillation_loss(
        logits, train.targets.targets, batch.action, rows=batch.target_rows, label_weight=0
    )
    given = torch.from_numpy(store.targets("text").logits[:11])
    wanted = torch.nn.functional.kl_div(
        torch.zeros(11, 2).log_softmax(1), given.log_softmax(1), log_target=True, reduction="none"
    )
    torch.testing.assert_close(loss, wanted.sum(1).mean())


def test_the_pack_is_the_same_windows(store: antcache.Store) -> None:
    lazy = store.windows("train", stream=["rgb", "flow"], targets=["text"], top_k=1)
    packed = lazy.pack("cpu")
    assert packed.features.shape == lazy.features.shape == (12, 10, 2 * DIM)
    order = torch.randperm(12)
    for (rows, features), (again, own) in zip(
        packed.batches(order, 5), lazy.batches(order, 5), strict=True
    ):
        assert torch.equal(rows, again)
        assert torch.equal(features, own)
        assert packed.batch(rows, features).target_rows.tolist() == [
            -1 if i == 11 else i for i in rows.tolist()
        ]
    assert torch.equal(packed.pack("cpu").features.take([3]), packed.features.take([3]))


def test_windows_without_soft_targets_have_row_minus_one(store: antcache.Store) -> None:
    assert set(store.windows("validation", stream="rgb")[0].target_rows.flatten().tolist()) == {-1}


def test_what_is_not_there_is_said(store: antcache.Store) -> None:
    with pytest.raises(BadConfig, match=r"which stream.*flow, rgb"):
        store.windows("train")
    for wrong in ({"stream": "rbg"}, {"stream": "rgb", "targets": ["txt"]}):
        with pytest.raises(MissingKey, match=r"rbg|txt"):
            store.windows("train", **wrong)
    with pytest.raises(MissingKey, match="test"):
        store.windows("test", stream="rgb")
    for idle in ({"top_k": 3}, {"tail": True}):
        with pytest.raises(BadConfig, match="has no effect without soft targets"):
            store.windows("train", stream="rgb", **idle)
    for twice in ({"stream": ["rgb", "rgb"]}, {"stream": "rgb", "targets": ["text", "text"]}):
        with pytest.raises(BadConfig, match="expected different names"):
            store.windows("train", **twice)
    early = Protocol(gap_s=100, num_frames=10, rate=2.0)
    with pytest.raises(BadConfig, match="no segment has a window"):
        store.windows("train", stream="rgb", protocol=early)


def test_predictions_are_evaluated_like_those_of_a_run(
    store: antcache.Store, tmp_path: Path
) -> None:
    labels = store.labels("validation")
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels.action), 2).double()
    made = store.predictions("validation", labels.uid, scores.requires_grad_())
    made.save(tmp_path / "mine.safetensors")
    found = score_predictions(store, tmp_path / "mine.safetensors")
    assert found.scored["action/top1"] == 100
    assert found.anchor == 0
    late = store.predictions("validation", labels.uid, scores, anchor=1.0, gap_s=0.5)
    late.save(tmp_path / "late.safetensors")
    task = score_predictions(store, tmp_path / "late.safetensors").task
    assert (task.anchor, task.gap_s) == (1, 0.5)
    for uid, scores, error, said in (
        (["validation0", "train0"], np.zeros((2, 2)), MissingKey, "train0"),
        (["validation0"], np.zeros((1, 3)), BadConfig, r"\(1, 2\)"),
        (["validation0"], np.zeros((2, 2)), BadConfig, "one row of scores"),
    ):
        with pytest.raises(error, match=said):
            store.predictions("validation", uid, scores)
    for name, columns in (("verb_scores", 2), ("noun_scores", 1)):
        with pytest.raises(BadConfig, match="go together"):
            store.predictions(
                "validation", ["validation0"], np.zeros((1, 2)), **{name: np.zeros((1, columns))}
            )
    own = {"verb_scores": np.zeros((1, 3)), "noun_scores": np.zeros((1, 1))}
    with pytest.raises(BadConfig, match="verb_scores"):
        store.predictions("validation", ["validation0"], np.zeros((1, 2)), **own)


PUBLIC = {
    "antcache": "Anticipator Store __version__",
    "antcache.annotations": """
        Dataset Oddities PROTOCOLS Protocol READERS Reader Segments Taxonomy WindowFrames
        count_oddities locate match_segments match_videos protocol_for read_annotations
        sample_windows
    """,
    "antcache.doctor": """
        DoctorConfig DoctorReport Finding SplitReport StreamReport TargetReport VideoNeed
        examine
    """,
    "antcache.evaluation": """
        EvaluationResult Predictions evaluate mean_and_error score score_predictions
        score_targets
    """,
    "antcache.extract": """
        Backbone ExtractConfig ExtractReport Failure Ledger OwnBackbone Plan SourceConfig
        TriedBackbone VideoShard Videos check_settings extract extract_video find_videos
        load_backbone make_plan
    """,
    "antcache.interop": """
        ArraysExportReport ArraysImportConfig ArraysPlan ArraysReport LmdbExportReport
        LmdbImportConfig PredictionsConfig PredictionsReport StreamImport export_arrays export_lmdb
        import_arrays import_lmdb import_predictions plan_arrays plan_lmdb
    """,
    "antcache.kernels": """
        Choice DenseTargets DistillationParts Targets TopKTargets choose distillation_loss
        distillation_loss_linear distillation_loss_sharded
    """,
    "antcache.predict": """
        Anticipation Anticipations Anticipator Likely ListenConfig Listened Listener RollingRows
        Unanswered listen
    """,
    "antcache.store": "Features SoftTargets Store Stream",
    "antcache.student": """
        DataConfig DistillationConfig ExportReport Head HeadOutput KeptStream KeptStudent
        LossConfig ModelConfig ModelShape OptimizationConfig PRESETS RunResult RuntimeConfig
        SelectionConfig StudentConfig Sweep TrainedStudent export_student find_preset read_plan
        sweep train
    """,
    "antcache.teacher": """
        Examples HistoryConfig KINDS Scripts TargetConfig Teacher Timeline apply_teacher
        load_teacher make_targets make_teacher read_scripts save_teacher score_segments teach
    """,
    "antcache.windows": """
        Batch LazyFeatures PackedFeatures Sample SplitWindows TeacherTargets WindowIndex
        WindowLabels Windows load_windows split_windows
    """,
}
"""Everything else may change."""


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name == "__version__", name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, antcache; print('numpy' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
