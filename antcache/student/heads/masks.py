"""Dropout whose masks come from elsewhere, so that who computes a window does not change its mask.

Promise: within `Dropout` every `F.dropout`, and the dropout of attention, multiplies by the mask
that `draw` gives for its shape and rate, in the order of the calls; nothing draws by itself. On a
CPU `bernoulli` gives the very masks of PyTorch's own dropout for the same generator; on a GPU
PyTorch's fused kernels draw others from the same distribution. Dropout between the layers of
`nn.LSTM` and `nn.GRU` is out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from antcache.student.heads.blocks import attention_weights

Site = tuple[tuple[int, ...], float, torch.dtype]
"""Shape, rate and type of one call of dropout."""

Draw = Callable[[Site, torch.device], Tensor]
"""Gives the mask of a site: 0 with the rate, else 1 / (1 - rate)."""


class Dropout(TorchFunctionMode):
    """While it is entered, dropout multiplies by the masks of `draw`."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Take dropout over; leave every other function alone."""
        given = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **given)
        if func is F.scaled_dot_product_attention and given.get("dropout_p"):
            return self._attention(*args, **given)
        return func(*args, **given)

    def _dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return x
        return x * self._draw((tuple(x.shape), p, x.dtype), x.device)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, *, dropout_p: float, is_causal: bool
    ) -> Tensor:
        """Attention with dropout of its weights, as PyTorch's plain form computes it."""
        weights = attention_weights(query, key, is_causal=is_causal)
        return self._dropout(weights, dropout_p) @ value


def bernoulli(site: Site, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """The mask of a site from a generator; None is the device's own."""
    shape, rate, dtype = site
    mask = torch.empty(shape, dtype=dtype, device=device)
    return mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)


def sites_of(run: Callable[[], Any]) -> list[Site]:
    """All calls of dropout that `run` makes, in order; they drop nothing."""
    sites: list[Site] = []

    def note(site: Site, device: torch.device) -> Tensor:
        sites.append(site)
        return torch.ones((), dtype=site[2], device=device)

    with torch.no_grad(), Dropout(note):
        run()
    return sites
