"""Names of devices: those that can be used, and those that can't."""

from __future__ import annotations

import pytest
import torch

from antcache.devices import pick_device
from antcache.errors import BadConfig


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", ""])
def test_what_can_not_be_used_is_one_line(name: str) -> None:
    with pytest.raises(BadConfig, match="device: no such device here") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)
