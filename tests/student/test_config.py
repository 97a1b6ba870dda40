from __future__ import annotations

import json
import re
from typing import Any

import pytest

from antcache.annotations import Protocol
from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.presets import PRESETS, find_preset


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("layers", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("temperature", 0.0),
        ("weight", -1.0),
        ("dropout", 1.0),
        ("label_smoothing", -0.1),
        ("grad_clip", 0.0),
        ("optimiser", "lion"),
        ("precision", "float8"),
        ("top_k", 5),  # without soft targets
        ("align", "cosine"),
        ("align", "dot"),
        ("align_weight", -1.0),
        ("align_weight", 2.0),  # without align
        ("verb_noun_weight", float("inf")),
        ("fusion", "late"),  # of one stream
        ("stream", "rgb,rgb"),
        ("stream", "rgb,"),
        ("targets", "a,a"),
        ("target_weights", "attention"),  # over one teacher
    ],
)
def test_impossible_settings_are_refused(name: str, value: Any) -> None:
    words = rf"^(impossible|unknown) {name}: .*found {value}$|^{name} .*has no effect"
    with pytest.raises(BadConfig, match=words):
        StudentConfig(**{name: value})


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"warm-up is longer .*at most 20 epochs, found 21\.0"):
        StudentConfig(warmup_epochs=21.0)
    assert StudentConfig(warmup_epochs=20.0).warmup_epochs == 20


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
        ("stream", 5, "str or None"),
        ("targets", ["a", "b"], "str or None"),
        ("head", None, "str"),
        ("protocol", {"gap_s": 1.0}, "Protocol or None"),
    ],
)
def test_wrong_types_are_refused_by_name(name: str, value: Any, expected: str) -> None:
    words = re.escape(f"{name}: wrong type: expected {expected}, found {value!r}")
    with pytest.raises(BadConfig, match=f"^{words}"):
        StudentConfig(**{name: value})


def test_a_whole_number_may_stand_for_another() -> None:
    assert StudentConfig(lr=1, grad_clip=2, warmup_epochs=0).lr == 1
    with pytest.raises(BadConfig, match=r"^num_frames: wrong type: expected int, found 2\.5"):
        Protocol(gap_s=1, num_frames=2.5, rate=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [
        StudentConfig(),
        StudentConfig(protocol=Protocol(gap_s=0.5, num_frames=3, rate=1.0, parity="avt"), width=8),
        *PRESETS.values(),
    ],
)
def test_survives_json(config: StudentConfig) -> None:
    assert StudentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(BadConfig, match="colour"):
        StudentConfig.from_dict({"colour": "red"})
    with pytest.raises(BadConfig, match="ek55-tsn or"):
        find_preset("ek56")


@pytest.mark.parametrize("weights", ["1,2", "1,-1,1", "0,0,0", "1,2,inf", "1,two,3", "nan,1,1"])
def test_impossible_weights_of_teachers_are_refused(weights: str) -> None:
    with pytest.raises(BadConfig, match=r"impossible target_weights: expected 3 numbers"):
        StudentConfig(targets="a,b,c", target_weights=weights)


def test_names_and_numbers_with_commas_between() -> None:
    config = StudentConfig(targets="a, b", target_weights="1,3", stream="rgb,flow", fusion="late")
    assert config.teachers == ("a", "b")
    assert config.teacher_weights == (1.0, 3.0)
    assert config.streams == ("rgb", "flow")
    assert StudentConfig().streams == StudentConfig().teachers == ()
    for words in ("attention", "joint"):
        assert StudentConfig(targets="a,b", target_weights=words).teacher_weights is None


# What the files of facebookresearch/AVT say, as `expts/FILE`: layers, heads, dropout, weights of
# feature and past loss, optimiser, rate and batch of a GPU, GPUs, decay, epochs and warm-up.
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


def test_every_preset_is_the_published_one() -> None:
    """Facts typed in a second time from the files, so that a slip in either shows."""
    assert PUBLISHED.keys() == PRESETS.keys()
    for name, facts in PUBLISHED.items():
        layers, heads, dropout, feature, past, optimiser, lr, batch, gpus, decay, *rest = facts
        preset = PRESETS[name]
        assert preset.head == "avth"
        assert preset.width == 2048
        assert preset.grad_clip is None
        assert (preset.layers, preset.heads, preset.dropout) == (layers, heads, dropout), name
        assert (preset.feature_weight, preset.past_weight) == (feature, past), name
        assert (preset.optimiser, preset.weight_decay) == (optimiser, decay), name
        assert preset.lr == pytest.approx(lr * gpus), name
        assert preset.batch_size == batch * gpus, name
        assert [preset.epochs, preset.warmup_epochs] == rest, name
    windows = {name: preset.protocol for name, preset in PRESETS.items() if preset.protocol}
    ten_seconds = Protocol(gap_s=1.0, num_frames=10, rate=1.0)
    assert windows == {
        "ek55-vit": ten_seconds,
        "ek55-vit-ar": ten_seconds,
        "ek55-tsn-ar": ten_seconds,
        "ek100-vit-long": Protocol(gap_s=1.0, num_frames=15, rate=1.0),
    }
