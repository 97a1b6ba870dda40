"""What trained teachers share: random state of their own, the way down a loss, their weights.

Promise: the caller's random state is left as it was found; weights of another network are refused;
every network here is trained by `Descent`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from antcache.errors import BadCheckpoint


@contextmanager
def random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Torch's random state is that of `seed` inside, and the caller's again after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def one_cycle(share: float, warmup: float) -> float:
    """Factor of the learning rate after a share of all steps: linear up, then cosine down to 0."""
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


class Descent:
    """AdamW along a schedule of its learning rates, its gradients clipped.

    Attributes:
        optimizer: what steps.
        taken: steps so far.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        schedule: Callable[[int], float] = lambda _: 1.0,
        *,
        clipped: Iterable[Tensor] = (),
        betas: tuple[float, float] = (0.9, 0.98),
        **settings: Any,
    ) -> None:
        """A descent that has not begun.

        Args:
            groups: parameters, or groups of them with settings of their own.
            schedule: factor of the highest learning rates at each step, from 0.
            clipped: parameters whose gradients together are cut to a norm of 1.
            betas: of AdamW.
            settings: further ones of AdamW: `lr`, `weight_decay`.
        """
        self.optimizer = torch.optim.AdamW(groups, betas=betas, fused=True, **settings)
        self.taken = 0
        self._schedule, self._clipped = schedule, list(clipped)
        self._highest = [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, losses: Iterable[Tensor]) -> Tensor:
        """Step down the sum of `losses`, made one after the other; returns that sum ()."""
        for group, highest in zip(self.optimizer.param_groups, self._highest, strict=True):
            group["lr"] = highest * self._schedule(self.taken)
        self.optimizer.zero_grad()
        total: Tensor | float = 0.0
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        if self._clipped:
            nn.utils.clip_grad_norm_(self._clipped, 1.0)
        self.optimizer.step()
        self.taken += 1
        assert isinstance(total, Tensor), "a step without a loss"
        return total


def weights(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The network's weights by name."""
    return {name: t.cpu().numpy() for name, t in network.state_dict().items()}


def take_weights(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Take over what `weights` gave.

    Raises:
        BadCheckpoint: names or shapes differ.
    """
    check_weights(network, arrays)
    network.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()})


def check_weights(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check that `arrays` are weights of `network`, which may be one without memory ("meta").

    Raises:
        BadCheckpoint: names, shapes or types differ, or one is not finite.
    """
    own = {name: (tuple(t.shape), str(t.dtype)) for name, t in network.state_dict().items()}
    given = {name: (array.shape, f"torch.{array.dtype}") for name, array in arrays.items()}
    if own != given:
        name = min(n for n in own.keys() | given.keys() if own.get(n) != given.get(n))
        raise BadCheckpoint(
            f"the weights of another network: {name}",
            expected=own.get(name, "none"),
            found=given.get(name, "none"),
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BadCheckpoint("weights that are not finite", found=name)
