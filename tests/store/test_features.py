"""What a stream of features may be: its settings are checked before anything is written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from antcache.errors import BadConfig
from antcache.store import Stream

GOOD: dict[str, Any] = {
    "name": "rgb",
    "dim": 1,
    "dtype": "float16",
    "fps": 1e-3,
    "source": "test",
    "config": {},
    "step_s": 1e-3,
    "max_age_s": None,
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *(("dim", value, f"impossible stream: .*found dim {value}") for value in (0, -1)),
        *(("dtype", value, f".*dtype {value}") for value in ("float64", "bfloat16", "")),
        *(("fps", value, f".*fps {value}") for value in (0, -1, math.inf, math.nan)),
        *(
            (name, value, f"{name}: seconds: expected > 0, found {value}")
            for name in ("step_s", "max_age_s")
            for value in (0, -1, math.inf, math.nan)
        ),
        ("name", "a/b", "stream"),
    ],
)
def test_impossible_streams_are_refused(name: str, value: Any, said: str) -> None:
    assert Stream(**GOOD).dim == 1
    with pytest.raises(BadConfig, match=said):
        Stream(**(GOOD | {name: value}))
