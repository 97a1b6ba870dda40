"""The model of GPUs that ceilings come from, against numbers worked out by hand."""

from __future__ import annotations

import kernel_model as model
import pytest


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "expected"),
    [
        (128, 1024, 8, 0.25),  # 4096 registers a warp: 16 warps
        (155, 1024, 4, 0.1875),  # 5120: 12 warps
        (129, 0, 8, 0.125),  # 4352: 15 warps, of which 8 make a program
        (32, 0, 1, 0.5),  # 32 programs at most
        (32, 100 * 1024, 4, 0.125),  # two fit the shared memory
        (16, 0, 16, 1.0),
    ],
)
def test_occupancy(registers, shared, warps, expected):
    assert model.ARCHS["sm_90"].occupancy(registers, shared, warps) == expected


def test_time_of_issue_and_of_memory():
    """16,384 rows x 2,513 classes in float32, 4,060 clocks a row, 3 transfers."""
    h100, h200 = model.DEVICES["H100"], model.DEVICES["H200"]
    num_bytes = 3 * 16384 * 2513 * 4
    assert h100.issue_s(4060, 16384) == pytest.approx(0.287e-3, rel=2e-3)
    assert h100.copy_s(num_bytes) == pytest.approx(0.160e-3, rel=3e-3)
    assert h200.copy_s(num_bytes) == pytest.approx(0.112e-3, rel=3e-3)
    # One program occupies one multiprocessor, and the others wait.
    assert h100.issue_s(1755, 1) == pytest.approx(1e-6)
    assert h100.issue_s(1755, 132) == pytest.approx(1e-6)
    assert h100.issue_s(1755, 264) == pytest.approx(2e-6)


def test_clocks_of_the_units():
    issued = {"FADD": 10, "MUFU.EX2": 3, "I2F": 1, "LDG.E.128": 2, "SHFL.BFLY": 5, "LDS.64": 1}
    assert model.issue_cycles(issued, warps=8) == 8 * 22 / 4
    assert model.special_cycles(issued, warps=8) == 8 * 4 * 2
    assert model.memory_cycles(issued, warps=8) == 8 * (2 * 4 + 5 + 2)
