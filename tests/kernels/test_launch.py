"""Which kernel takes which rows, in blocks of which size."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from antcache.kernels import distillation_loss, launch


@pytest.mark.parametrize("classes", [2, 7, 2048, 2049, launch.TILE, launch.TILE + 1])
def test_a_row_is_a_block_or_goes_through_several(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    """Up to `TILE` classes fit one block whole; of longer rows, each block is as large as said."""
    made: list[tuple[str, dict[str, Any]]] = []

    def recorder(name: str) -> dict[tuple[int, ...], Callable[..., None]]:
        class Launches(dict):  # type: ignore[type-arg]
            def __missing__(self, grid: tuple[int, ...]) -> Callable[..., None]:
                return lambda *_, **sizes: made.append((name, sizes))

        return Launches()

    monkeypatch.setattr(launch, "kernel", SimpleNamespace(tile_kernel=recorder("tile")))
    monkeypatch.setattr(launch, "kernel_loop", SimpleNamespace(loop_kernel=recorder("loop")))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x = torch.zeros(3, classes, device="cuda" if torch.cuda.is_available() else "cpu")
    distillation_loss(x, x, impl="triton")
    ((name, sizes),) = made
    if classes <= launch.TILE:
        assert name == "tile"
        assert classes <= sizes["BLOCK_C"] < 2 * classes
        assert "BLOCK_M" not in sizes
    else:
        assert (name, sizes["BLOCK_C"], sizes["ROWS"]) == ("loop", launch.LOOP_BLOCK, 1)
        assert sizes["BLOCK_M"] == 1
