from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antcache.annotations import Segments
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, NotFinite, NotFound
from antcache.evaluation import Predictions, score
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs import train as train_module
from antcache.student.runs.checkpoint import latest_checkpoint
from antcache.student.runs.folder import RunFolder
from antcache.student.runs.place import read_config
from antcache.student.runs.train import RunResult, train
from antcache.student.training.loop import Trainer, learning_rate
from antcache.student.training.optimization_config import OptimizationConfig

MakeStore = Callable[..., Store]
MARKOV = {"gap_s": 1.0, "num_frames": 4, "rate": 1.0}


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


def assert_same_weights(one: RunResult, two: RunResult) -> None:
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("head", ["light", "avth"])
def test_learns_what_can_be_seen(make_store: MakeStore, small: StudentConfig, head: str) -> None:
    """The next action is the one after what is under way, in nine of ten cases."""
    store = make_store(num_videos=20)
    config = small.replace(head=head, width=32, epochs=10, feature_weight=0.1, past_weight=0.1)
    result = train(store, None, config.replace(**MARKOV))
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert result.metrics["action/top1"] > 60
    assert result.metrics == result.history[-1]["validation"]
    assert [r["epoch"] for r in result.history] == list(range(1, 11))
    assert all(r["feature_loss"] > 0 and r["past_loss"] > 0 for r in result.history)


def test_distillation_reaches_the_student(make_store: MakeStore, small: StudentConfig) -> None:
    """Labels without sense, targets that know: only the distilled student can do the task."""

    def shuffled(segments: Segments) -> Segments:
        order = np.random.default_rng(0).permutation(len(segments))
        columns = {k: getattr(segments, k)[order] for k in ("verb", "noun", "action")}
        return Segments(**{**segments.arrays(), **columns})

    store = make_store(num_videos=20, relabel=shuffled)
    config = small.replace(width=32, epochs=10, **MARKOV, weight=10.0)
    plain = train(store, None, config)
    distilled = train(store, None, config.replace(targets=("oracle",)))
    assert distilled.metrics["action/top1"] > 60 > 40 > plain.metrics["action/top1"]
    cut = train(store, None, config.replace(targets=("oracle",), top_k=3))
    assert cut.metrics["action/top1"] > 40


@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_step_takes_the_clipped_gradient_of_its_batch_alone(
    make_store: MakeStore,
    small: StudentConfig,
    gradients: list[list[torch.Tensor]],
    clip: float | None,
) -> None:
    """One batch, and a rate at which no weight moves: the same gradient each time."""
    sizes = dict.fromkeys(("layers", "heads", "width"))  # of the mean, which has no other dropout
    still = small.replace(head="mean", **sizes, dropout=0.0, batch_size=64, lr=1e-12, epochs=4)
    still = still.replace(grad_clip=clip)
    result = train(make_store(), None, still)
    assert len(gradients) == 4
    for step in gradients:
        torch.testing.assert_close(step, gradients[0], rtol=1e-3, atol=1e-7)
    norm = float(torch.stack([g.norm() for g in gradients[0]]).norm())
    unclipped = result.history[0]["gradient_norm"]
    assert norm == pytest.approx(unclipped if clip is None else clip, rel=1e-4)
    assert unclipped > 0.01


def test_one_seed_one_result(make_store: MakeStore, small: StudentConfig) -> None:
    store = make_store()
    state = torch.random.get_rng_state()
    one = train(store, None, small)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(123)
        assert_same_weights(one, train(store, None, small))
    other = train(store, None, small.replace(seed=1))
    assert any(not torch.equal(v, weights(other)[k]) for k, v in weights(one).items())


def test_backends_agree(make_store: MakeStore, small: StudentConfig) -> None:
    zarr, hdf5 = (make_store(name, backend=name) for name in ("zarr", "hdf5"))
    assert_same_weights(train(zarr, None, small), train(hdf5, None, small))


def test_a_run_keeps_what_it_promises(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    steps: list[float] = []
    result = train(
        store,
        tmp_path / "run",
        small,
        progress=lambda label, done, total: steps.append(done) if "steps" in label else None,
    )
    run = tmp_path / "run"
    assert steps == list(range(1, 3 * 6 + 1))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    kept = Predictions.load(run)
    np.testing.assert_array_equal(kept.scores, result.predictions.scores)
    segments = store.labels("validation")
    order = [segments.uid.tolist().index(uid) for uid in kept.uid.tolist()]
    assert score(kept.scores, segments[np.array(order)], store.taxonomy) == result.metrics
    summary = json.loads((run / "result.json").read_text())
    assert summary["metrics"] == result.metrics
    assert summary["dropped"]["validation"] == {"too_early": ["v0_0", "v1_0", "v2_0"]}
    assert json.loads((run / "config.json").read_text())["student"] == small.to_dict()
    assert [p.name for p in (run / "checkpoint").iterdir()] == ["epoch-0003"]
    with pytest.raises(AlreadyExists, match="--resume"):
        train(store, run, small)


def test_without_a_folder_nothing_is_written(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert train(store, None, small).run_dir is None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [("adamw", "float32"), ("adam", "float32"), ("sgd", "float32"), ("adamw", "bfloat16")],
)
def test_resumes_to_the_same_bits(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    precision: str,
) -> None:
    """Stopped while epoch 3 of 4 trains, then resumed; dropout is on."""
    store = make_store()
    config = small.replace(epochs=4, optimizer=optimizer, precision=precision, targets=("oracle",))
    whole = train(store, tmp_path / "whole", config)
    train_epoch = Trainer.train_epoch

    def stop_in_the_third(self: Trainer, epoch: int, *args: object) -> dict[str, float]:
        means = train_epoch(self, epoch, *args)
        if epoch == 3:
            raise KeyboardInterrupt
        return means

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", stop_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "stopped", config)
    resumed = train(store, tmp_path / "stopped", config, resume=True)
    assert resumed.resumed_epoch == 2
    assert_same_weights(whole, resumed)
    np.testing.assert_array_equal(whole.predictions.scores, resumed.predictions.scores)
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


# Killed at the so-and-so-many-th call of any function after the first checkpoint.
KILLED = """
import os, signal
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.training.optimization_config import OptimizationConfig
from antcache.student.runs.train import train
left, saved = {calls}, False
def count(frame, event, argument):
    global left, saved
    saved = saved or (event == "return" and frame.f_code.co_name == "save_checkpoint")
    left -= saved and event == "call"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
config = StudentConfig.from_dict({config})
sys.setprofile(count)
train(Store.open({store!r}), {run!r}, config)
"""


@pytest.mark.parametrize("calls", [1, 2_000, 20_000])
def test_a_killed_process_resumes_to_the_same_bits(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, calls: int, together: Any
) -> None:
    """At any moment after the first checkpoint, with everything that has a state."""
    store, run = make_store(num_videos=2), tmp_path / "killed"
    config = small.replace(epochs=20, evaluate_every=20, ema=0.9, held_out=0.5, targets=("oracle",))
    given = {"store": str(store.path), "run": str(run), "config": config.to_dict()}
    (killed,) = together(KILLED.format(calls=calls, **given))
    assert killed.code == -signal.SIGKILL, killed.stderr
    resumed = train(store, run, config, resume=True)
    assert 0 < resumed.resumed_epoch < config.optimization.epochs
    assert_same_weights(train(store, None, config), resumed)


def test_a_finished_run_is_only_read(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, run = make_store(), tmp_path / "run"
    first = train(store, run, small)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    with caplog.at_level("INFO"):
        again = train(store, run, small, resume=True)
    assert "already finished" in caplog.text
    assert again.resumed_epoch == small.optimization.epochs
    assert again.metrics == first.metrics
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before


def test_another_configuration_is_not_resumed(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, run = make_store(), tmp_path / "run"
    train(store, run, small)
    with pytest.raises(BadCheckpoint, match=r"width: 16 -> 32"):
        train(store, run, small.replace(width=32), resume=True)
    train(store, run, small.replace(evaluate_every=2), resume=True)
    store.remove("labels/train")
    segments = store.labels("validation")
    others = replace(segments, uid=np.char.add("other ", segments.uid))
    store.write_labels("train", others, store.taxonomy, source="others")
    with pytest.raises(BadCheckpoint, match="other training windows"):
        train(store, run, small, resume=True)
    with pytest.raises(NotFound, match="no run to resume"):
        train(store, tmp_path / "nowhere", small, resume=True)


def test_another_precision_is_not_resumed(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` comes to what the device computes in, which another one may not."""
    store, run, config = make_store(), tmp_path / "run", small.replace(precision="auto")
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "uses_bfloat16", lambda *_: True)
        train(store, run, config)
    assert json.loads((run / "config.json").read_text())["computed in"] == "bfloat16"
    monkeypatch.setattr(train_module, "uses_bfloat16", lambda *_: False)
    with pytest.raises(BadCheckpoint, match="computed in: 'bfloat16' -> 'float32'"):
        train(store, run, config, resume=True)


def test_a_failure_before_training_leaves_no_run(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match="unknown head"):
        train(make_store(), tmp_path / "run", small.replace(head="heavy"))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    rows = store.features("rgb", "t1").read()
    rows[72:74] = np.nan  # 18 to 18.25 s: in the window of t1_7 (15.5 to 20 s) alone
    store.remove("features/rgb/t1")
    store.write_features("rgb", "t1", rows)
    with pytest.raises(NotFinite, match=r"epoch 1, step \d of 6.*t1_7.*lower `lr`"):
        train(store, tmp_path / "run", small)
    assert latest_checkpoint(tmp_path / "run" / "checkpoint") is None


def test_scoring_can_be_rarer_than_epochs(make_store: MakeStore, small: StudentConfig) -> None:
    result = train(make_store(), None, small.replace(evaluate_every=2))
    assert [("validation" in record) for record in result.history] == [False, True, True]


def test_bfloat16_trains_too(make_store: MakeStore, small: StudentConfig) -> None:
    result = train(make_store(), None, small.replace(precision="bfloat16", targets=("oracle",)))
    assert result.predictions.scores.dtype == np.float32
    assert np.isfinite(result.history[-1]["loss"])


def test_compiled_training_is_the_same(
    make_store: MakeStore, small: StudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as PyTorch's capture goes; no code is generated here, which would take minutes."""
    store, compile_model, asked = make_store(num_videos=2), torch.compile, []

    def captured(model: torch.nn.Module, *, mode: str, dynamic: bool) -> object:
        asked.append(mode)
        return compile_model(model, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", captured)
    config = small.replace(epochs=2, past_weight=0.1, targets=("oracle",))
    plain, compiled = (train(store, None, config.replace(compile=c)) for c in ("auto", "on"))
    assert asked == ["default"]
    # The decoder, which this objective does not use, has no gradient in one case and 0 in the
    # other: there it decays.
    used = {name: value for name, value in weights(plain).items() if "decoder" not in name}
    for name, value in used.items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-4, atol=1e-6)


class Failing:
    """An import hook under which a module fails while it is imported."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def find_spec(self, name: str, *_: object) -> None:
        """Look for nothing; fail at the name."""
        if name == self.name:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'tensorboard'"),
        TypeError("Descriptors cannot be created directly.\nIf this call came from a _pb2.py file"),
        AttributeError("module 'numpy' has no attribute 'bool8'"),
        OSError("libstdc++.so.6: version not found"),
        RuntimeError(""),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("module", ["proto.event_pb2", "proto.summary_pb2"])
def test_without_tensorboard_a_line_is_logged(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    module: str,
) -> None:
    """Whatever keeps it from being imported; and the run goes on to its end."""
    name = f"tensorboard.compat.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Failing(name, error), *sys.meta_path])
    with caplog.at_level("INFO"):
        train(make_store(), tmp_path / "run", small)
    (said,) = [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert type(error).__name__ in said
    assert "antcache[train]" in said
    assert "\n" not in said
    assert (tmp_path / "run" / "result.json").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_tensorboard_events(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As TensorBoard reads them, also of a run that lost an epoch and was resumed."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, config = tmp_path / "run", small.replace(checkpoint_every=2)
    record = RunFolder.record

    def stop_after_the_third(self: RunFolder, epoch: int, *args: Any, **options: Any) -> None:
        record(self, epoch, *args, **options)
        if epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", stop_after_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(make_store(), run, config.replace(epochs=4))
    assert latest_checkpoint(run / "checkpoint") == run / "checkpoint" / "epoch-0002"
    result = train(Store.open(tmp_path / "store"), run, config.replace(epochs=4), resume=True)
    assert len(list((run / "tensorboard").glob("events.out.tfevents.*"))) == 2
    read = EventAccumulator(str(run / "tensorboard")).Reload()
    for name, own in (("train/loss", "loss"), ("train/lr", "lr")):
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(r["epoch"], pytest.approx(r[own])) for r in result.history]
    top1 = [event.value for event in read.Scalars("validation/action/top1")]
    assert top1 == [pytest.approx(r["validation"]["action/top1"]) for r in result.history]


def test_learning_rate_by_hand() -> None:
    """4 epochs of 2 steps, 1 of them warm-up: half, whole, then a cosine over 6 steps."""
    config = OptimizationConfig(lr=2.0, epochs=4, warmup_epochs=1)
    rates = [learning_rate(config, step, 8, 2) for step in range(8)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[5] == pytest.approx(1.0)
    assert 0 < rates[7] < 0.2
    flat = OptimizationConfig(lr=2.0, epochs=4, warmup_epochs=0)
    assert learning_rate(flat, 0, 8, 2) == 2.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_trains_on_a_gpu(make_store: MakeStore, small: StudentConfig) -> None:
    config = small.replace(device="cuda", epochs=15, width=32, **MARKOV, targets=("oracle",))
    result = train(make_store(num_videos=20), None, config)
    assert next(result.model.parameters()).is_cuda
    assert result.metrics["action/top1"] > 60


def test_module_is_quiet(
    make_store: MakeStore, small: StudentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train_module.train(make_store(), None, small)
    assert capsys.readouterr() == ("", "")


def test_a_run_stopped_in_its_first_epoch_can_change(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was learned yet; `config.json` says what was trained in the end."""

    def stop(self: Trainer, epoch: int, *args: object) -> dict[str, float]:
        raise KeyboardInterrupt

    store, wide = make_store(), small.replace(width=32)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "run", small)
    assert train(store, tmp_path / "run", wide, resume=True).resumed_epoch == 0
    assert read_config(tmp_path / "run") == wide
