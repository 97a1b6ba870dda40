"""Where the time of a pass went."""

from __future__ import annotations

import pytest

from antcache.extract.engines import spent as spent_module
from antcache.extract.engines.spent import BACKBONE, DECODING, DISK, PREPROCESSING, TimeSpent


def test_what_the_backbone_waited_for_is_shared_by_what_decoders_did(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(spent_module.time, "perf_counter", lambda: now[0])
    spent = TimeSpent()
    for part, seconds in ((BACKBONE, 2.0), (DISK, 1.0), (PREPROCESSING, 1.0)):
        with spent.at(part):
            now[0] += seconds
    now[0] += 6.0  # waiting for pictures
    shares = spent.shares(decoding_s=20.0, preparing_s=10.0)
    assert shares == pytest.approx({DECODING: 0.4, PREPROCESSING: 0.3, BACKBONE: 0.2, DISK: 0.1})
    assert spent.seconds[DECODING] == 0  # may be asked again
    assert sum(TimeSpent().shares(decoding_s=0, preparing_s=0).values()) == pytest.approx(1)
