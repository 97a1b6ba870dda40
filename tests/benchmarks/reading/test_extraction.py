"""`benchmarks/extraction.py` in small: pictures of a hundredth, a light backbone, short videos."""

from __future__ import annotations

import pytest


@pytest.mark.usefixtures("forked_parts")
def test_every_part_is_measured(run_benchmark, data_dir) -> None:
    options = ["--videos", "1", "--seconds", "4", "--repeats", "1", "--size", "160", "96"]
    small = ["--long", "8", "--backbones", "light", "--edge", "32"]
    found = run_benchmark("extraction", *options, *small, ANTCACHE_DATA=str(data_dir))
    of = "light, 1 at once: "
    for part in ("decoding alone", "preprocessing alone", "backbone alone", "whole", "loop"):
        assert found[f"{of}{part}, rows/s"] > 0
    assert found[f"{of}whole over what the cores allow"] > 0
    assert found[f"{of}whole over the loop"] > 0
    assert found[f"{of}whole, waiting threads asleep over awake"] > 0
    assert found[f"{of}preprocessing as bytes over float32"] > 0
    assert found["memory of long videos over that of videos a quarter as long"] > 0
