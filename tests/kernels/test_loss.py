"""What each implementation refuses is its own matter: the limits of one bind no other."""

from __future__ import annotations

import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels import TopKTargets
from antcache.kernels.loss import MAX_ENTRIES, choose

X = torch.zeros(2, 8)
INDEX = torch.arange(2 * MAX_ENTRIES)[None, None].repeat(1, 2, 1)
MANY = TopKTargets(index=INDEX, logit=INDEX.float())
"""More entries than the Triton kernel holds at once."""


@pytest.mark.parametrize("interpreted", [True, False])
def test_numba_needs_no_triton_and_has_none_of_its_limits(
    monkeypatch: pytest.MonkeyPatch, interpreted: bool
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("TRITON_INTERPRET", str(int(interpreted)))
    assert choose(X, impl="numba") == ("numba", "asked for")
    assert choose(X) == ("numba", "the logits are on the CPU")
    wide = torch.zeros(2, 2 * MAX_ENTRIES)
    assert choose(wide, MANY) == ("numba", "the logits are on the CPU")


def test_triton_says_what_it_can_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose(X, impl="triton") == ("triton", "asked for")
    with pytest.raises(BadConfig, match=f"found 1 x {2 * MAX_ENTRIES} entries of top-k teachers"):
        choose(torch.zeros(2, 2 * MAX_ENTRIES), MANY, "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BadConfig, match=r"impl='triton'.*found logits on cpu"):
        choose(X, impl="triton")
