"""Which kernel takes which rows, in blocks of which size; what a launch leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss
from antcache.kernels.benchmark import bounds
from antcache.kernels.gpu import launch
from antcache.kernels.gpu import sums as kernel_sum

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LONGEST = launch.PER_THREAD * launch.THREADS
LONGEST_FEW = bounds.LONGEST
Launched = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    """Name and block sizes of each kernel that is launched from here on, in place of its work."""
    found: Launched = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, _grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *_, **sizes: found.append((self.name, sizes))

    for module, name in (
        (launch.dense, "dense_kernel"),
        (launch.few, "few_kernel"),
        (launch.long_launch.dense, "loop_kernel"),
        (launch.sums, "count_kernel"),
    ):
        monkeypatch.setattr(module, name, Recorder(name.removesuffix("_kernel")))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return found


def loss(batch: int, classes: int, width: int = 0, **given: Any) -> None:
    x = torch.zeros(batch, width or classes, device=DEVICE)
    if width:
        given["num_classes"] = classes
    distillation_loss(x, x, impl="triton", **given)


@pytest.mark.parametrize("classes", [2, 7, 106, 2513, 3806, LONGEST])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_dense_row_is_in_chunks_of_which_only_the_last_is_not_full(
    launched: Launched, classes: int, smoothing: float
) -> None:
    labels = torch.zeros(3, dtype=torch.int64, device=DEVICE)
    loss(3, classes, labels=labels, label_smoothing=smoothing)
    ((name, sizes),) = launched
    if smoothing and classes > launch.PER_THREAD_RICH * launch.THREADS:
        assert name == "loop"
        return
    assert name == "dense"
    chunks, lanes, rows = (sizes[key] for key in ("CHUNKS", "LANES", "ROWS"))
    assert (chunks - 1) * lanes < classes <= chunks * lanes
    threads = sizes["num_warps"] * 32
    assert chunks * lanes * rows / threads <= launch.PER_THREAD + lanes * rows / threads


def test_neighbours_are_read_at_once_only_where_all_rows_are_aligned(launched: Launched) -> None:
    """One aligned tensor beside one that is not would go through shared memory, chunk by chunk."""
    loss(3, 2513, width=2528)
    x = torch.zeros(3, 2528, device=DEVICE)
    distillation_loss(x, x[:, :2513].clone(), num_classes=2513, impl="triton")
    (_, aligned), (_, mixed) = launched
    assert (aligned["LANES"], mixed["LANES"]) == (512, 128)


def test_longer_rows_and_top_k_have_kernels_of_their_own(launched: Launched) -> None:
    loss(3, LONGEST + 1)
    x = torch.zeros(3, 100, device=DEVICE)
    best = x[None].topk(5)
    distillation_loss(x, TopKTargets(index=best.indices, logit=best.values), impl="triton")
    assert [name for name, _ in launched] == ["loop", "few"]


def test_what_is_known_is_not_counted(launched: Launched) -> None:
    """Only a mean over labels or picked rows counts them, in a launch of its own if many."""
    labels = torch.zeros(2000, dtype=torch.int64, device=DEVICE)
    loss(2000, 4)
    loss(2000, 4, labels=labels, reduction="sum")
    loss(2000, 4, labels=labels, normaliser=torch.ones(2, device=DEVICE))
    loss(launch.COUNT_HERE, 4, labels=labels[: launch.COUNT_HERE])
    loss(2000, 4, labels=labels)
    assert [name for name, _ in launched] == ["dense"] * 4 + ["count", "dense"]
    assert [sizes["COUNT"] for name, sizes in launched if name == "dense"] == [
        kernel_sum.ALL_ROWS.value,
        kernel_sum.UNDIVIDED.value,
        kernel_sum.GIVEN.value,
        kernel_sum.COUNTED_HERE.value,
        kernel_sum.COUNTED_BEFORE.value,
    ]


def test_rocm_is_not_told_of_registers(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    loss(3, 2513)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    loss(3, 2513)
    (_, nvidia), (_, amd) = launched
    assert nvidia.pop("maxnreg") == 128
    assert nvidia == amd


@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU's launch is not interrupted half-way")
@pytest.mark.parametrize("form", ["dense", "top-k"])
def test_an_interrupted_launch_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Ctrl-C between two programs: the next loss is what it would have been."""
    x = torch.randn(70, 106, generator=torch.Generator().manual_seed(1))
    targets: DenseTargets | TopKTargets = DenseTargets(logits=x.flip(0)[None])
    if form == "top-k":
        best = targets.logits.topk(5)
        targets = TopKTargets(index=best.indices, logit=best.values)
    expected = distillation_loss(x, targets, impl="triton")
    whole, calls = kernel_sum.finish, iter(range(2))

    def interrupted(*arguments: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(kernel_sum, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            distillation_loss(x, targets, impl="triton")
    assert distillation_loss(x, targets, impl="triton") == expected


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rows_of_many_groups_are_added_up(monkeypatch: pytest.MonkeyPatch, reduction: str) -> None:
    """Groups of so few rows that there are several, the last of them not full."""
    monkeypatch.setattr(launch, "SUMMED", 64)
    monkeypatch.setattr(launch, "COUNT_HERE", 256)
    x = torch.randn(330, 40, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    labels = torch.arange(330, device=DEVICE) % 40
    labels[::7] = -100
    weight = torch.linspace(0, 1, 330, device=DEVICE)
    given: dict[str, Any] = {
        "class_weight": weight[:40],
        "weight": weight,
        "temperature": weight + 0.5,
        "reduction": reduction,
    }
    found = distillation_loss(x, x.flip(0), labels, impl="triton", **given)
    right = distillation_loss(x.double(), x.flip(0).double(), labels, impl="torch", **given)
    torch.testing.assert_close(found.double(), right)
    assert torch.equal(found, distillation_loss(x, x.flip(0), labels, impl="triton", **given))


@pytest.mark.parametrize(
    ("classes", "smoothing", "long"),
    [
        (LONGEST_FEW, 0.0, False),
        (LONGEST_FEW + 1, 0.0, True),
        (launch.LONGEST_RICH, 0.1, False),
        (launch.LONGEST_RICH + 1, 0.1, True),
    ],
)
def test_longer_rows_of_top_k_teachers_are_read_in_blocks(
    launched: Launched, classes: int, smoothing: float, long: bool
) -> None:
    """By the same kernel, and beyond what the benchmark takes for rows that are read once."""
    x = torch.zeros(2, classes, device=DEVICE)
    best = x[None].topk(3)
    targets = TopKTargets(index=best.indices, logit=best.values)
    labels = torch.zeros(2, dtype=torch.long, device=DEVICE)
    distillation_loss(x, targets, labels, label_smoothing=smoothing, impl="triton")
    ((name, sizes),) = launched
    assert name == "few"
    assert sizes["LONG"] is long
    assert long is (sizes["LANES"] * sizes["CHUNKS"] < classes)
