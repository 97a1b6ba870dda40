"""What the benchmark of the kernel measures on a GPU and on Linux, seen without either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels.benchmark import clock as benchmark_clock
from antcache.kernels.benchmark import machine, run
from antcache.kernels.benchmark.clock import Clock
from antcache.kernels.benchmark.contenders import make_inputs
from antcache.kernels.benchmark.rows import BOTH, FORWARD, HOST, PLAIN, SMALL_BATCH, Case, Figure
from antcache.kernels.benchmark.run import BenchmarkConfig, measure


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_can_be_asked_for_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert BenchmarkConfig().on == ("cuda" if there else "cpu")
    assert BenchmarkConfig(device="cpu").on == "cpu"
    if there:
        assert BenchmarkConfig(device="cuda").on == "cuda"
        return
    with pytest.raises(BadConfig, match="no GPU is here"):
        BenchmarkConfig(device="cuda")


class Imitated(Clock):
    """Says that it times a GPU, and that each step took 2 ms."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.host: list[bool] = []

    def times(self, step: Any, *, before: Any = None, host: bool = False) -> list[float]:
        self.host.append(host)
        return [2.0]

    def peak_bytes(self, step: Any) -> int | None:
        return None


@pytest.mark.parametrize("batch", [SMALL_BATCH, 16])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_hosts_share_is_measured_of_the_batch_of_a_training_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, batch: int, device: str
) -> None:
    case = Case(dtype="float32", form="dense", batch=batch, classes=8)
    inputs = [make_inputs(case, "cpu", torch.Generator().manual_seed(0))]
    monkeypatch.setattr(run, "_rotation", lambda *_: inputs)
    clock = Imitated(device)
    stamp = {"device": "x", "driver": "", "torch": "", "triton": "", "date": ""}
    rows = measure(case, [PLAIN], clock, fast="torch", stamp=stamp, copy_bandwidth=1e9)
    modes = [BOTH, FORWARD, HOST] if (batch, device) == (SMALL_BATCH, "cuda") else [BOTH, FORWARD]
    assert [(row.mode, row.note) for row in rows] == [(mode, "") for mode in modes]
    assert clock.host == [mode == HOST for mode in modes]


def test_copy_bandwidth_is_bytes_a_second() -> None:
    """Both ways of a copy of 256 MiB in 2 ms."""
    assert Imitated("cpu").copy_bandwidth() == pytest.approx(2 * 2**28 / 0.002)


@pytest.mark.parametrize("host", [True, False])
def test_the_device_is_kept_busy_unless_the_host_is_timed(
    monkeypatch: pytest.MonkeyPatch, host: bool
) -> None:
    """Else the host's own time to queue a step would be in its time."""
    done: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("record")

        def elapsed_time(self, end: Event) -> float:
            return 1.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append("sleep"), raising=False)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("wait"))
    found = benchmark_clock._event_times(
        lambda _: done.append("step"), lambda _: done.append("before"), 2, host=host
    )
    assert found == [1.0, 1.0]
    one = ["before", "wait" if host else "sleep", "record", "step", "record"]
    assert done == [*one, *one, "wait"]


def test_kilobytes_are_those_of_the_line_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tVmRSS:\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    monkeypatch.setattr(machine, "STATUS", status)
    assert machine._kilobytes("VmRSS") == 1024
    assert machine._kilobytes("VmHWM") == 2048
    with pytest.raises(RuntimeError, match=r"status has no VmSwap"):
        machine._kilobytes("VmSwap")


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "holds"),
    [
        (1.0, 1.0, None, True),
        (0.9, 1.0, None, False),
        (1.1, 1.0, None, True),
        (1.0, None, 1.0, True),
        (1.1, None, 1.0, False),
        (2.0, 1.0, 3.0, True),
        (4.0, 1.0, 3.0, False),
        (float("nan"), 1.0, None, False),
        (float("nan"), None, 1.0, False),
        (5.0, None, None, True),
    ],
)
def test_a_bound_holds_up_to_itself(
    value: float, at_least: float | None, at_most: float | None, holds: bool
) -> None:
    figure = Figure(figure="f", value=value, unit="x", at_least=at_least, at_most=at_most)
    assert figure.holds is holds


def test_a_case_says_how_wide_its_rows_are() -> None:
    case = Case(dtype="bfloat16", form="dense", batch=4, classes=13)
    padded = Case(dtype="bfloat16", form="dense", batch=4, classes=13, padded=16)
    assert (case.width, str(case)) == (13, "4 x 13 bfloat16 dense")
    assert (padded.width, str(padded)) == (16, "4 x 13 in rows of 16 bfloat16 dense")
    assert case != padded
