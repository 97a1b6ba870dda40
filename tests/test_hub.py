"""What the settings of a model may say of its size before it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from antcache.hub import check_folder


def check(folder: Path, **settings: Any) -> None:
    (folder / "config.json").write_text(json.dumps(settings))
    check_folder(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 10**9},
        {"depth": 1e9},
        {"depths": [2, 2, 10**9]},
        {"text_config": {"n_layer": 1001}},
        {"stages": [{"num_layers": 10**9}]},
    ],
)
def test_very_many_layers_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more than 1000"):
        check(tmp_path, **settings)


def test_sizes_of_layers_are_no_numbers_of_them(tmp_path: Path) -> None:
    check(
        tmp_path,
        vocab_size_per_layer_input=262_144,
        block_size=1024,
        stage_in_channels=[1024, 2048],
        intermediate_layer_dim=4096,
        num_hidden_layers=96,
    )
