"""Names of devices: those that can be used, and those that can't."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from antcache.devices import (
    ASLEEP,
    BRIEF,
    let_waiting_threads_sleep,
    pick_device,
    uses_bfloat16,
)
from antcache.errors import BadConfig


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", ""])
def test_what_can_not_be_used_is_one_line(name: str) -> None:
    with pytest.raises(BadConfig, match="device: no such device here") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_bfloat16_is_chosen_where_the_cpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    cpu = torch.device("cpu")
    assert uses_bfloat16("auto", cpu) is expected
    assert uses_bfloat16("bfloat16", cpu)
    assert not uses_bfloat16("float32", cpu)
    assert uses_bfloat16("auto", torch.device("cuda"))
    assert not uses_bfloat16("auto", torch.device("mps"))


ACTIVE = {"OMP_WAIT_POLICY": "ACTIVE"}
OFTEN = {"GOMP_SPINCOUNT": "7"}


@pytest.mark.parametrize(
    ("said", "at_once", "expected"),
    [
        ({}, False, BRIEF),
        ({}, True, ASLEEP),
        (BRIEF, False, BRIEF),
        (BRIEF, True, ASLEEP),  # of the process above
        (ASLEEP, False, ASLEEP),
        (ACTIVE, False, ACTIVE),
        (ACTIVE, True, ACTIVE),
        (OFTEN, False, OFTEN),
        (OFTEN, True, OFTEN),
        (BRIEF | ACTIVE, False, BRIEF | ACTIVE),
        (BRIEF | ACTIVE, True, BRIEF | ACTIVE),
    ],
)
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, str],
    at_once: bool,
    expected: dict[str, str],
) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": "/", **said})
    let_waiting_threads_sleep(at_once=at_once)
    assert os.environ == {"HOME": "/", **said}  # PyTorch is loaded: nobody would read it
    monkeypatch.delitem(sys.modules, "torch")
    let_waiting_threads_sleep(at_once=at_once)
    assert os.environ == {"HOME": "/", **expected}
