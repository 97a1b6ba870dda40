"""`benchmarks/training.py` in small; what it does on a GPU too, so it does not fail there first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from antcache.student.presets import find_preset
from antcache.windows.dataset import Windows


@pytest.fixture(scope="module")
def training(benchmark: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    """With small batches and few classes."""
    found = benchmark("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found, "BATCH", 16)
        patch.setattr(found, "CLASSES", 100)
        yield found


@pytest.fixture(scope="module")
def pack(training: ModuleType) -> Windows:
    windows: Windows = training.random_windows(training.BATCH)
    return windows


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, training) -> None:
    size, *others = training.SIZES
    found = run_benchmark("training", "--steps", "2", "--size", size, "--batch", "16")
    names = {name for name in recorded("training") if not name.startswith(tuple(others))}
    assert {of_usual(name) for name in found} == {of_usual(name) for name in names}


def of_usual(name: str) -> str:
    """A figure's name whatever precision is the usual one: that depends on the processor."""
    ours, over, theirs = re.sub(r"antcache, \w+ over", "antcache over", name).partition(" over ")
    return ours + over + re.sub(r"antcache, \w+", "antcache's other", theirs)


def test_the_bounds_of_a_gpu_are_all_measured(training: ModuleType, pack: Windows) -> None:
    small = find_preset("ek55-tsn").replace(layers=1, heads=2, width=16)
    found = {figure.figure: figure for figure in training.on_gpu(pack, small, side=64)}
    bounds = {name: (figure.at_least, figure.at_most) for name, figure in found.items()}
    assert bounds == {
        "EK55 epoch, light": (None, 0.5),
        "16 seeds over one": (None, 4.0),
        "avth: share of the matrix-product rate": (70.0, None),
    }
    assert all(figure.value > 0 for figure in found.values())


def test_operations_of_a_step_by_hand(training: ModuleType, pack: Windows) -> None:
    """Two for each weight and position, forward, and twice that backward; AVT classifies at D."""
    width, layers = 32, 2
    config = find_preset("ek55-tsn").replace(
        layers=layers, heads=2, width=width, precision="float32"
    )
    shape = training.ModelShape(
        dims=(training.ek55.DIM,), num_classes=training.CLASSES, num_frames=training.TIME
    )
    trainer = training.Trainer(
        config.replace(device="cpu"), Windows(pack.labels, pack.features), shape
    )
    batch, time, dim = training.BATCH, training.TIME, training.ek55.DIM
    positions = batch * time
    blocks = layers * 12 * width * width
    linear = positions * (dim * width + blocks + width * dim) + batch * dim * training.CLASSES
    attention = layers * batch * time * time * width * 2
    expected = 6 * (linear + attention)
    # The input needs no gradient of its own; PyTorch's fused attention recomputes in backward.
    expected -= 2 * positions * dim * width
    assert training.step_flops(trainer) == pytest.approx(expected, rel=0.02)
