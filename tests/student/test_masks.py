"""Masks from elsewhere are, on a CPU, PyTorch's own."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from antcache.student.heads.masks import Dropout, bernoulli, sites_of


def test_the_same_generator_gives_the_same_dropout() -> None:
    x = torch.randn(6, 5, 4)
    query, key, value = torch.randn(3, 2, 2, 7, 4).unbind()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        dropped = F.dropout(x, 0.3)
        return dropped, F.scaled_dot_product_attention(
            query, key, value, dropout_p=0.4, is_causal=True
        )

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        plain = run()
    generator = torch.Generator().manual_seed(3)
    with Dropout(lambda site, device: bernoulli(site, device, generator)):
        ours = run()
    assert torch.equal(plain[0], ours[0])
    torch.testing.assert_close(plain[1], ours[1])
    assert (ours[0] == 0).any()


def test_sites_are_noted_in_order_and_drop_nothing() -> None:
    x, seen = torch.ones(2, 3), []
    sites = sites_of(
        lambda: seen.append(F.dropout(F.dropout(x, 0.5), 0.25) + F.dropout(x, 0.0) - x)
    )
    assert sites == [((2, 3), 0.5, torch.float32), ((2, 3), 0.25, torch.float32)]
    assert torch.equal(seen[0], x)
    with Dropout(lambda site, device: torch.zeros(())):
        assert torch.equal(F.dropout(x, 0.5, training=False), x)
        assert not F.dropout(x, 0.5).any()
