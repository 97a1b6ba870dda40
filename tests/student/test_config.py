from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from antcache.annotations import Protocol, protocol_for
from antcache.annotations.protocols import WindowConfig
from antcache.errors import BadConfig
from antcache.settings import settings_of
from antcache.student.config import StudentConfig
from antcache.student.heads.config import ModelConfig
from antcache.student.presets import PRESETS, find_preset
from antcache.student.training.objective_config import LossConfig
from antcache.student.training.optimization_config import OptimizationConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("layers", 0),
        ("layers", 101),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("temperature", 0.0),
        ("weight", -1.0),
        ("dropout", 1.0),
        ("label_smoothing", -0.1),
        ("grad_clip", 0.0),
        ("gap_s", -1.0),
        ("num_frames", 0),
        ("optimizer", "lion"),
        ("precision", "float8"),
        ("parity", "float"),
        ("top_k", 5),  # without soft targets
        ("align", "cosine"),
        ("align", "dot"),
        ("align_weight", -1.0),
        ("align_weight", 2.0),  # without align
        ("verb_noun_weight", float("inf")),
        ("fusion", "late"),  # of one stream
        ("target_weights", "attention"),  # over one teacher
    ],
)
def test_impossible_settings_are_refused(name: str, value: Any) -> None:
    words = rf"^(impossible|unknown) {name}: .*found {value}( \(did you mean .*)?$"
    with pytest.raises(BadConfig, match=rf"{words}|^`?{name}`?.* has no effect"):
        StudentConfig.of(**{name: value})


@pytest.mark.parametrize("name", ["stream", "targets"])
@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_names_are_different_and_not_empty(name: str, names: tuple[str, ...]) -> None:
    with pytest.raises(BadConfig, match=rf"^impossible {name}: expected different names, found a,"):
        StudentConfig.of(**{name: names})


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"warm-up is longer .*at most 20 epochs, found 21\.0"):
        StudentConfig.of(warmup_epochs=21.0)
    assert StudentConfig.of(warmup_epochs=20.0).optimization.warmup_epochs == 20
    assert StudentConfig.of(warmup_epochs=40.0, epochs=40).optimization.epochs == 40


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 2.0, "int"),
        ("epochs", True, "int"),
        ("epochs", None, "int"),
        ("epochs", "2", "int"),
        ("width", 256.0, "int or None"),
        ("lr", "1e-3", "float"),
        ("lr", False, "float"),
        ("grad_clip", "no", "float or None"),
        ("tail", 1, "bool"),
        ("stream", 5, "tuple of str"),
        ("targets", "a,b", "tuple of str"),
        ("head", None, "str"),
        ("rate", "2", "float or None"),
        ("precision", 32, "auto or float32 or bfloat16"),
    ],
)
def test_wrong_types_are_refused_by_name(name: str, value: Any, expected: str) -> None:
    words = re.escape(f"{name}: wrong type: expected {expected}, found {value!r}")
    with pytest.raises(BadConfig, match=f"^{words}"):
        StudentConfig.of(**{name: value})


def test_groups_are_of_their_kind() -> None:
    with pytest.raises(BadConfig, match=r"^losses: wrong type: expected LossConfig, found 5"):
        StudentConfig(losses=5)  # type: ignore[arg-type]


def test_a_whole_number_may_stand_for_another() -> None:
    config = StudentConfig.of(lr=1, grad_clip=2, warmup_epochs=0, gap_s=1)
    assert (config.optimization.lr, config.window.gap_s) == (1, 1)
    with pytest.raises(BadConfig, match=r"^num_frames: wrong type: expected int, found 2\.5"):
        Protocol(gap_s=1, num_frames=2.5, rate=1)  # type: ignore[arg-type]


def test_settings_by_name_are_those_of_the_groups() -> None:
    config = StudentConfig(
        model=ModelConfig(width=8), optimization=OptimizationConfig(lr=0.1, epochs=3), seed=4
    )
    assert StudentConfig.of(width=8, lr=0.1, epochs=3, seed=4) == config
    assert config.replace(width=None, lr=1e-3, epochs=20, seed=0) == StudentConfig()
    assert config.values["width"] == 8
    assert list(config.values) == list(settings_of(StudentConfig))


def test_the_window_is_the_datasets_but_for_what_is_given() -> None:
    egtea = protocol_for("egtea")
    assert StudentConfig().window.protocol("egtea") == egtea
    given = StudentConfig.of(num_frames=3, parity="avt").window.protocol("egtea")
    assert given == replace(egtea, num_frames=3, parity="avt")


def test_what_does_not_change_what_is_learned_is_no_identity() -> None:
    one = StudentConfig.of(device="cpu", windows="stream", evaluate_every=5, checkpoint_every=2)
    assert one.identity == StudentConfig.of(compile="off").identity
    assert one.identity != one.replace(precision="bfloat16").identity
    assert set(one.values) - set(one.identity) == {
        *("device", "windows", "compile", "evaluate_every", "checkpoint_every")
    }


@pytest.mark.parametrize(
    "config",
    [
        StudentConfig(),
        StudentConfig.of(gap_s=0.5, num_frames=3, rate=1.0, parity="avt", width=8),
        StudentConfig.of(
            targets=("a", "b"), target_weights=(1.0, 3.0), stream=("x", "y"), fusion="late"
        ),
        *PRESETS.values(),
    ],
)
def test_survives_json(config: StudentConfig) -> None:
    assert StudentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_flat_form_of_earlier_versions_is_read() -> None:
    earlier = {
        **{"head": "gru", "optimiser": "sgd", "lr": 0.1, "warmup_epochs": 0.0},
        **{"stream": "rgb, flow", "fusion": "late", "targets": "a,b", "target_weights": "1,3"},
        "protocol": {"gap_s": 0.5, "num_frames": 3, "rate": 1.0, "parity": "avt"},
    }
    assert StudentConfig.from_dict(earlier) == StudentConfig.of(
        **{"head": "gru", "optimizer": "sgd", "lr": 0.1, "warmup_epochs": 0.0},
        **{"stream": ("rgb", "flow"), "fusion": "late"},
        **{"targets": ("a", "b"), "target_weights": (1.0, 3.0)},
        **{"gap_s": 0.5, "num_frames": 3, "rate": 1.0, "parity": "avt"},
    )
    nothing = {"stream": None, "targets": None, "target_weights": None, "protocol": None}
    assert StudentConfig.from_dict(nothing) == StudentConfig()
    with pytest.raises(BadConfig, match=r"unknown settings of a student: .*protocol"):
        StudentConfig.from_dict({"protocol": 5})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"unknown settings of a student: expected .*found colour"):
        StudentConfig.from_dict({"colour": "red"})
    with pytest.raises(BadConfig, match=r"found optimiser \(did you mean optimizer\?"):
        StudentConfig.of(optimiser="sgd")
    with pytest.raises(BadConfig, match="ek55-tsn or"):
        find_preset("ek56")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("1,2", ": expected 3 numbers, not all 0, found 1.0,2.0"),
        ("0,0,0", ": expected 3 numbers, not all 0"),
        ("1,-1,1", r"\[1\]: expected from 0"),
        ("1,2,inf", r"\[2\]: expected from 0"),
        ("nan,1,1", r"\[0\]: expected from 0"),
        ("1,two,3", r"\[1\]: wrong type: expected float, found 'two'"),
    ],
)
def test_impossible_weights_of_teachers_are_refused(weights: str, words: str) -> None:
    with pytest.raises(BadConfig, match=rf"target_weights{words}"):
        StudentConfig.from_dict({"targets": "a,b,c", "target_weights": weights})


# What the files of facebookresearch/AVT say, as `expts/FILE`: layers, heads, dropout, weights of
# feature and past loss, optimizer, rate and batch of a GPU, GPUs, decay, epochs and warm-up.
PUBLISHED = {
    "ek55-tsn": (12, 8, 0.8, 2.0, 0.0, "adam", 5e-6, 32, 4, 1e-4, 20, 5),  # 08_ek55_avt_tsn
    "ek55-ircsn": (12, 8, 0.8, 2.0, 0.0, "adam", 5e-6, 32, 4, 1e-4, 20, 0),  # 10_ek55_avt_ig65m
    "ek55-vit": (6, 4, 0.8, 1.0, 1.0, "sgd", 1e-4, 3, 32, 1e-4, 35, 5),  # 09_ek55_avt
    "ek55-tsn-ar": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-3, 64, 2, 1e-6, 50, 0),  # 08_..._tsn_forAR
    "ek55-ircsn-ar": (12, 8, 0.8, 2.0, 0.0, "adam", 5e-6, 32, 4, 1e-4, 100, 0),  # 10_..._forAR
    "ek55-vit-ar": (6, 4, 0.8, 1.0, 1.0, "sgd", 1e-4, 3, 32, 1e-4, 50, 5),  # 09_ek55_avt_forAR
    "egtea-tsn": (2, 4, 0.8, 1.0, 0.1, "sgd", 1e-3, 64, 2, 1e-6, 15, 0),  # 11_egtea_avt_tsn
    "egtea-vit": (2, 4, 0.2, 1.0, 0.1, "sgd", 5e-4, 3, 32, 1e-6, 10, 5),  # 12_egtea_avt
    "ek100-tsn": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-3, 64, 2, 1e-6, 50, 20),  # 02_ek100_avt_tsn
    "ek100-obj": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-3, 64, 2, 1e-6, 50, 20),  # 03_ek100_avt_tsn_obj
    "ek100-ircsn": (8, 2, 0.2, 1.0, 1.0, "sgd", 1e-3, 64, 2, 1e-6, 50, 5),  # 04_ek100_avt_ig65m
    "ek100-flow": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-3, 64, 2, 1e-6, 50, 0),  # 06_ek100_avt_tsnflow
    "ek100-vit": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-4, 3, 32, 1e-6, 50, 20),  # 01_ek100_avt
    "ek100-vit-long": (6, 4, 0.2, 1.0, 1.0, "sgd", 1e-4, 3, 32, 1e-6, 70, 20),  # 07_..._longer
}


@pytest.mark.parametrize("past", [0.0, 0.1])
@pytest.mark.parametrize("feature", [0.0, 0.1])
def test_only_what_the_objective_weighs_is_computed(past: float, feature: float) -> None:
    losses = LossConfig(past_weight=past, feature_weight=feature)
    assert losses.frame_outputs == {"past": bool(past), "decode": bool(feature)}


PROBES = ("ek100-vjepa2-l", "ek100-vjepa2-g384")


@pytest.mark.parametrize("name", PROBES)
def test_the_probes_are_the_published_ones(name: str) -> None:
    """As V-JEPA 2's frozen evaluation: 2 clips on each of 64 GPUs, verb, noun and action alike.

    A clip ends 1 s before the end of the action; in training 0.25 to 1.75 s before a point of its
    last quarter, of which these are the ends and the mean.
    """
    preset = PRESETS[name]
    assert preset.window == WindowConfig(gap_s=1.0, num_frames=1, anchor=1.0)
    for drawn, low, high in ((preset.data.gaps, 0.25, 1.75), (preset.data.anchors, 0.75, 1.0)):
        assert (min(drawn), max(drawn)) == (low, high)
        assert sum(drawn) / len(drawn) == (low + high) / 2
    model = preset.model
    assert (model.head, model.layers, model.heads, model.width) == ("probe", 3, 16, None)
    assert (preset.losses.loss, preset.losses.verb_noun_weight) == ("focal", 1)
    found = preset.optimization
    assert (found.optimizer, found.batch_size, found.epochs) == ("adamw", 2 * 64, 20)
    assert (found.warmup_epochs, found.grad_clip, found.ema) == (0, None, 0)
    assert found.lr in (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    assert found.weight_decay in (1e-4, 1e-3, 1e-2, 1e-1)


def test_every_preset_is_the_published_one() -> None:
    """Facts typed in a second time from the files, so that a slip in either shows."""
    assert {*PUBLISHED, *PROBES} == PRESETS.keys()
    for name, facts in PUBLISHED.items():
        layers, heads, dropout, feature, past, optimizer, lr, batch, gpus, decay, *rest = facts
        preset = PRESETS[name]
        assert preset.model.head == "avth"
        assert preset.model.width == 2048
        assert preset.optimization.grad_clip is None
        size = (preset.model.layers, preset.model.heads, preset.model.dropout)
        assert size == (layers, heads, dropout), name
        weights = (preset.losses.feature_weight, preset.losses.past_weight)
        assert weights == (feature, past), name
        found = preset.optimization
        assert (found.optimizer, found.weight_decay) == (optimizer, decay), name
        assert found.lr == pytest.approx(lr * gpus), name
        assert found.batch_size == batch * gpus, name
        assert [found.epochs, found.warmup_epochs] == rest, name
    windows = {n: PRESETS[n].window for n in PUBLISHED if PRESETS[n].window != WindowConfig()}
    ten_seconds = WindowConfig(gap_s=1.0, num_frames=10, rate=1.0)
    assert windows == {
        "ek55-vit": ten_seconds,
        "ek55-vit-ar": ten_seconds,
        "ek55-tsn-ar": ten_seconds,
        "ek100-vit-long": WindowConfig(gap_s=1.0, num_frames=15, rate=1.0),
    }
