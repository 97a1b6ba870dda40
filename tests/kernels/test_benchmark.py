"""What the benchmark of the kernel measures on a GPU and on Linux, seen without either."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels.benchmark import clock as benchmark_clock
from antcache.kernels.benchmark import contenders, machine
from antcache.kernels.benchmark import measure as benchmark_measure
from antcache.kernels.benchmark.clock import Clock, Step, Timed
from antcache.kernels.benchmark.contenders import make_inputs
from antcache.kernels.benchmark.measure import measure
from antcache.kernels.benchmark.rows import (
    BOTH,
    EAGER,
    FLA,
    FORWARD,
    HOST,
    LINEAR,
    ORDA,
    OVER,
    PLAIN,
    SMALL_BATCH,
    Case,
    Figure,
    Row,
)
from antcache.kernels.benchmark.run import BenchmarkConfig


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
        super().__init__(device, seconds=0.01)
        self.host: list[bool] = []

    def times(self, *timed: Timed) -> list[list[float]]:
        self.host += [one.host for one in timed]
        return [[2.0] for _ in timed]

    def peak_bytes(self, step: Step) -> int | None:
        return None


def measured(case: Case, names: list[str], clock: Clock) -> list[Row]:
    stamp = {"device": "x", "driver": "", "torch": "", "triton": "", "date": ""}
    return measure(case, names, clock, fast="torch", stamp=stamp, copy_bandwidth=1e9)


def test_steps_that_are_timed_together_take_turns() -> None:
    """Else what else the cores do in the meantime would meet one of them and not the other."""
    done: list[str] = []
    one, other = (Timed(step=lambda _, n=n: done.append(n)) for n in "ab")
    found = Clock("cpu", seconds=0.0).times(one, other)
    assert [len(times) for times in found] == [7, 7]
    assert "".join(done) == "ab" * (3 + 1 + 7)


def test_contenders_on_a_cpu_take_turns_and_those_on_a_gpu_follow_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(dtype="float32", form="dense", batch=2, classes=8)
    inputs = [make_inputs(case, "cpu", torch.Generator().manual_seed(0))]
    monkeypatch.setattr(benchmark_measure, "_rotation", lambda *_: inputs)
    together: dict[str, list[int]] = {}
    for device in ("cpu", "cuda"):
        clock, times = Imitated(device), together.setdefault(device, [])
        real = clock.times
        monkeypatch.setattr(clock, "times", lambda *t, r=real, n=times: n.append(len(t)) or r(*t))
        assert len(measured(case, [PLAIN, EAGER], clock)) == 4
    assert together == {"cpu": [4], "cuda": [2, 2]}


def test_one_that_overwrites_has_logits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take turns with it compute the loss of what they were given."""
    case = Case(dtype="float32", form="dense", batch=2, classes=8)
    inputs = [make_inputs(case, "cpu", torch.Generator().manual_seed(0))]
    before = inputs[0].logits.detach().clone()

    def overwrites(logits: torch.Tensor, *_: object, **_named: object) -> torch.Tensor:
        loss = (logits * 2).sum()
        logits.data.zero_()
        return loss

    monkeypatch.setattr(benchmark_measure, "_rotation", lambda *_: inputs)
    monkeypatch.setattr(contenders, "distillation_loss", overwrites)
    rows = measured(case, [OVER, PLAIN], Clock("cpu", seconds=0.0))
    assert [row.note for row in rows] == ["", "", ""]
    assert torch.equal(inputs[0].logits, before)


def test_one_that_fails_leaves_the_others_their_numbers() -> None:
    case = Case(dtype="float32", form="dense", batch=2, classes=8)
    rows = measured(case, [ORDA, PLAIN, FLA], Clock("cpu", seconds=0.0))
    reason = "takes hidden states and the classifier's weight, not logits"
    assert [(row.contender, row.note) for row in rows] == [
        (ORDA, reason),
        (PLAIN, ""),
        (PLAIN, ""),
        (FLA, reason),
    ]
    assert [row.ms_p50 is not None for row in rows] == [False, True, True, False]


@pytest.mark.parametrize("padded", [0, 16])
def test_rows_have_the_width_of_their_case(padded: int) -> None:
    case = Case(dtype="float32", form="dense", batch=2, classes=13, padded=padded)
    row = measured(case, [PLAIN], Clock("cpu", seconds=0.0))[0]
    assert (row.case, row.W) == (case, padded or 13)
    # Student and teacher are read up to C; the gradient is written in all columns.
    moved = 2 * 4 * (13 + 13 + (padded or 13))
    assert row.gb_s == pytest.approx(moved / row.ms_p50 * 1e-6)


def test_from_hidden_states_time_and_not_bandwidth_is_measured() -> None:
    case = Case(dtype="float32", form=LINEAR, batch=2, classes=8)
    rows = measured(case, [PLAIN], Clock("cpu", seconds=0.0))
    assert [(row.mode, row.note, row.copy_share) for row in rows] == [
        (BOTH, "", None),
        (FORWARD, "", None),
    ]
    assert all(row.ms_p50 for row in rows)


@pytest.mark.parametrize("batch", [SMALL_BATCH, 16])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_hosts_share_is_measured_of_the_batch_of_a_training_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, batch: int, device: str
) -> None:
    case = Case(dtype="float32", form="dense", batch=batch, classes=8)
    inputs = [make_inputs(case, "cpu", torch.Generator().manual_seed(0))]
    monkeypatch.setattr(benchmark_measure, "_rotation", lambda *_: inputs)
    clock = Imitated(device)
    rows = measured(case, [PLAIN], clock)
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
    timed = Timed(
        step=lambda _: done.append("step"), before=lambda _: done.append("before"), host=host
    )
    assert benchmark_clock._event_times([timed], range(2)) == [[1.0, 1.0]]
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
