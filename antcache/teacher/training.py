"""What trained teachers share: random state of their own, the learning rate's cycle, their weights.

Promise: the caller's random state is left as it was found; weights of another network are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
