from __future__ import annotations

import json
from typing import Any

import pytest

from antcache.annotations import Protocol
from antcache.errors import BadConfig
from antcache.student.config import PRESETS, StudentConfig, find_preset


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
        ("warmup_epochs", 21.0),
        ("top_k", 5),  # without soft targets
    ],
)
def test_impossible_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadConfig):
        StudentConfig(**{name: value})


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


def test_presets_are_the_published_settings() -> None:
    ek55, egtea = PRESETS["ek55-tsn"], PRESETS["egtea-tsn"]
    assert (ek55.feature_weight, ek55.past_weight, ek55.batch_size) == (2.0, 0.0, 128)
    assert ek55.lr == pytest.approx(2e-5)
    assert (egtea.feature_weight, egtea.past_weight, egtea.optimiser) == (1.0, 0.1, "sgd")
    assert PRESETS["ek55-ircsn"].warmup_epochs == 0
