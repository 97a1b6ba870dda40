"""How long rows are split: by the cache, the multiprocessors and the size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

pytest.importorskip("triton")

from antcache.kernels import DenseTargets, distillation_loss
from antcache.kernels.gpu.long import launch as launch_loop

MULTIPROCESSORS, CACHE = 132, 50 * 2**20
"""Of an H100."""


class Split(NamedTuple):
    """What was launched, and what one program reads of a row, in bytes."""

    programs: int
    segments: int
    segment: int
    ahead: int
    read: int


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Split]:
    found: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = []

    class Recorder:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *arguments, **sizes: found.append((grid[0], arguments, sizes))

    monkeypatch.setattr(launch_loop.dense, "loop_kernel", Recorder())
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    def launch(batch: int, classes: int, dtype: torch.dtype, teachers: int, beta: float) -> Split:
        # One row in memory, however many there are.
        x = torch.zeros(1, classes, dtype=dtype).expand(batch, classes)
        targets = DenseTargets(logits=x.expand(teachers, batch, classes))
        distillation_loss(x, targets, beta=beta, impl="triton")
        ((programs, arguments, sizes),) = found
        segment, ahead = arguments[-2:]
        read = segment * dtype.itemsize * (1 + teachers)
        return Split(programs, sizes["S"], segment, ahead, read)

    return launch


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    found: list[dict[str, Any]] = []

    class Recorder:
        def __getitem__(self, _grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *_arguments, **sizes: found.append(sizes)

    monkeypatch.setattr(launch_loop.dense, "loop_kernel", Recorder())
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    def launch(dtype: torch.dtype, teacher: torch.dtype, classes: int = 131_072) -> dict[str, Any]:
        x = torch.zeros(4, classes, dtype=dtype)
        distillation_loss(x, x.to(teacher), impl="triton")
        return found.pop()

    return launch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [10_241, 32_000, 131_072])
@pytest.mark.parametrize("teachers", [1, 5])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_what_is_read_twice_is_still_in_the_cache(
    split: Callable[..., Split], dtype: torch.dtype, classes: int, teachers: int, beta: float
) -> None:
    """What the programs between the two reads, and two on each multiprocessor, read of memory."""
    made = split(8192, classes, dtype, teachers, beta)
    assert made.segments == -(-classes // made.segment)
    assert made.programs == (8192 + made.ahead * (2 if beta else 1)) * made.segments
    between = (made.ahead + 1) * made.segments
    assert between >= launch_loop.AHEAD  # so that nobody need wait
    assert (between + 2 * MULTIPROCESSORS) * made.read < CACHE


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_few_rows_keep_a_device_busy_too(split: Callable[..., Split], batch: int) -> None:
    made = split(batch, 131_072, torch.bfloat16, 1, 0.0)
    block = launch_loop.LANES * launch_loop.CHUNKS
    assert made.segments * batch >= min(launch_loop.PROGRAMS, batch * 131_072 // block)
    assert made.ahead <= batch


def test_half_precision_is_read_16_bytes_at_once_where_all_rows_are_aligned(
    sizes: Callable[..., dict[str, Any]],
) -> None:
    """What a thread has side by side, and blocks of as many bytes as in float32."""
    single = sizes(torch.float32, torch.float32)
    half, mixed = sizes(torch.bfloat16, torch.bfloat16), sizes(torch.bfloat16, torch.float32)
    odd = sizes(torch.bfloat16, torch.bfloat16, classes=131_071)
    assert [each["NEIGHBOURS"] for each in (single, half, mixed, odd)] == [4, 8, 4, 1]
    assert half["LANES"] == 2 * single["LANES"] == 2 * mixed["LANES"] == 2 * odd["LANES"]
