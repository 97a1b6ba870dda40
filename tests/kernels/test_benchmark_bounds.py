"""The bounds of the kernel: which hold for which rows, and what breaks them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from antcache.kernels.benchmark import bounds
from antcache.kernels.benchmark.rows import (
    BOTH,
    COMPILED,
    EAGER,
    FORWARD,
    LIGER,
    LINEAR,
    OURS,
    PLAIN,
    WHOLE,
    Case,
    Figure,
    Row,
)

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
STAMP = {"driver": "1.2", "torch": "2.13", "triton": "3.9", "date": "2026-01-02"}
TIMES = {LIGER: 3.1, PLAIN: 4.1, EAGER: 6.0, COMPILED: 1.6}


def row(contender: str = OURS, ms: float | None = 1.0, **values: object) -> Row:
    given = {"device": H100, "mode": BOTH, "dtype": "float32", "form": "dense"}
    given |= {"B": 16384, "C": 2513, "copy_share": 0.9, **values}
    given.setdefault("W", given["C"])
    return Row(**STAMP, **given, contender=contender, ms_p50=ms)


def contenders(**ms: float) -> list[Row]:
    times = {**TIMES, **{name.replace("compiled", COMPILED): value for name, value in ms.items()}}
    return [row(), *(row(name, value) for name, value in times.items())]


def broken(figures: list[Figure]) -> list[str]:
    return [figure.figure for figure in figures if not figure.holds]


@pytest.mark.parametrize(
    ("batch", "classes", "width", "dtype", "h100", "h200"),
    [
        (16384, 2513, 2513, "float32", 0.85, 0.80),
        (65536, 2513, 2513, "float32", 0.85, 0.80),
        (16384, 3806, 3806, "float32", 0.85, 0.80),
        (16384, 2513, 2528, "bfloat16", 0.75, 0.55),
        (65536, 2513, 2528, "bfloat16", 0.75, 0.55),
        (65536, 106, 106, "float32", 0.60, 0.60),
        (65536, 106, 106, "bfloat16", 0.40, 0.40),
    ],
)
def test_a_share_is_bounded_by_shape_dtype_and_gpu(
    batch: int, classes: int, width: int, dtype: str, h100: float, h200: float
) -> None:
    for device, least in ((H100, h100), (H200, h200)):
        here = row(device=device, B=batch, C=classes, W=width, dtype=dtype)
        kept, under = replace(here, copy_share=least), replace(here, copy_share=least - 1e-3)
        assert [figure.holds for figure in bounds.share_figures([kept])] == [True]
        assert broken(bounds.share_figures([under])) == [f"share of copy bandwidth, {here.case}"]


@pytest.mark.parametrize("form", ["top-50", "5 teachers"])
def test_shares_of_other_teachers_are_figures_without_a_bound(form: str) -> None:
    here = row(form=form, copy_share=0.01)
    (figure,) = bounds.share_figures([here])
    assert figure.figure == f"share of copy bandwidth, {here.case}"
    assert (figure.value, figure.at_least, figure.holds) == (0.01, None, True)


@pytest.mark.parametrize(
    "values",
    [
        {"B": 16384, "dtype": "bfloat16"},
        {"B": 16383},
        {"B": 16384, "C": 106},
        {"B": 65536, "C": 2512},
        {"B": 16384, "W": 2528},
        {"B": 8192, "C": 131072, "form": LINEAR, "copy_share": None},
        {"mode": FORWARD},
        {"contender": PLAIN},
    ],
)
def test_other_shares_are_no_figure(values: dict[str, object]) -> None:
    assert bounds.share_figures([row(**{"copy_share": 0.01, **values})]) == []


@pytest.mark.parametrize("device", ["NVIDIA GH200 480GB", "NVIDIA A100-SXM4-80GB", "NVIDIA B200"])
def test_another_gpu_has_no_bound_on_its_share(device: str) -> None:
    (figure,) = bounds.share_figures([row(device=device, copy_share=0.01)])
    assert (figure.at_least, figure.holds) == (None, True)


@pytest.mark.parametrize(
    ("form", "least", "needed"), [("dense", 3, 3), ("top-50", 2, 3), ("5 teachers", 7, 7)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_long_row_is_judged_by_the_transfers_that_it_needs(
    form: str, least: int, needed: int, dtype: str
) -> None:
    """Of top-k teachers it is read twice: a share is more than that of the bytes that must move."""
    here = row(B=8192, C=131072, form=form, dtype=dtype, copy_share=0.6)
    (figure,) = bounds.share_figures([here])
    of = f" for {needed} transfers" if needed > least else ""
    assert figure.figure == f"share of copy bandwidth{of}, 8192 x 131072 {dtype} {form}"
    assert figure.value == pytest.approx(0.6 * needed / least)
    assert figure.at_least == (0.85 if form == "dense" else None)


def test_the_page_names_the_bounds(repo: Path) -> None:
    text = (repo / "docs/kernel.md").read_text("utf-8")
    line = r"^\| ([\d,]+) and more \| (.+) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$"
    found = re.findall(line, text, re.MULTILINE)
    expected = []
    for one in bounds.REGIMES:
        classes = " or ".join(f"{number:,}" for number in one.classes)
        classes += f" in rows of {one.padded:,}" if one.padded else ""
        dtype = one.dtypes[0] if len(one.dtypes) == 1 else "both"
        shares = f"{one.h100:.2f}", f"{one.h200:.2f}"
        expected.append((f"{one.batch:,}", classes, dtype, *shares))
    assert found == expected


def test_bounds_on_contenders_of_large_inputs() -> None:
    assert len(bounds.times_figures(contenders())) == 3
    assert not broken(bounds.gpu_figures(contenders()))
    for other, ms in (("liger", 2.9), ("plain", 3.9), ("eager", 3.9), ("compiled", 1.4)):
        title = {"plain": EAGER, "compiled": COMPILED}.get(other, other)
        found = broken(bounds.gpu_figures(contenders(**{other: ms})))
        assert found == [f"times faster than {title}, 16384 x 2513"]
    assert bounds.gpu_figures([row(C=106)]) == []


def test_contenders_of_padded_rows_count_where_they_are_faster() -> None:
    ours = [row(dtype="bfloat16", W=2528), row(dtype="bfloat16")]
    name = "times faster than liger, 16384 x 2513 in rows of 2528"

    def figures(padded: float, plain: float) -> tuple[dict[str, float], list[str]]:
        times = {2528: padded, 2513: plain}
        rows = [*ours, *(row(LIGER, ms, dtype="bfloat16", W=width) for width, ms in times.items())]
        found = {figure.figure: figure.value for figure in bounds.times_figures(rows)}
        return found, [line for line in bounds.faster_layouts(rows) if line.startswith(LIGER)]

    found, lines = figures(4.0, 3.5)
    assert found[name] == 3.5
    assert "faster on rows of 2513 (4 ms on 2528, 3.5 ms on 2513)" in lines[0]
    found, lines = figures(3.25, 3.5)
    assert (found[name], found["times faster than liger, 16384 x 2513"]) == (3.25, 3.5)
    assert "faster on rows of 2528 (3.25 ms on 2528, 3.5 ms on 2513)" in lines[0]


def test_bounds_of_small_batches() -> None:
    assert not broken(bounds.gpu_figures([row(B=128), row(PLAIN, 3.0, B=128)]))
    slow = [row(B=128), row(PLAIN, 2.9, B=128)]
    assert broken(bounds.gpu_figures(slow)) == ["times faster than eager, 128 x 2513"]
    small, large = row(B=128).case, row().case
    assert bounds.launch_figure(small, 1).holds
    assert not bounds.launch_figure(small, 2).holds
    assert bounds.launch_figure(large, 2).holds
    assert not bounds.launch_figure(large, 3).holds


def test_bounds_from_hidden_states() -> None:
    """Against each way that holds all logits, and in memory against the leanest of them."""
    where = {"B": 8192, "C": 131072, "form": LINEAR, "copy_share": None}
    ours = row(peak_mb=1.0, **where)
    theirs = [row(WHOLE, 1.0, peak_mb=4.0, **where), row(PLAIN, 9.0, peak_mb=20.0, **where)]
    assert [figure.holds for figure in bounds.gpu_figures([ours, *theirs])] == [True, True]
    slow = replace(ours, ms_p50=1.1, peak_mb=1.1)
    case = "8192 x 131072 float32 from hidden"
    assert broken(bounds.gpu_figures([slow, *theirs])) == [
        f"times faster than with logits whole, {case}",
        f"memory, of that with logits whole, {case}",
    ]


def test_bounds_on_the_cpu() -> None:
    def figures(plain: float, compiled: float, memory: float | None) -> list[Figure]:
        given = {OURS: 1.0, PLAIN: plain, EAGER: 9.0, COMPILED: compiled}
        rows = [row(name, ms, device="CPU", B=4096) for name, ms in given.items()]
        return bounds.cpu_figures(rows, memory)

    assert not broken(figures(2.0, 2.0, 1.1))
    assert broken(figures(1.9, 2.1, 1.0)) == [
        "times faster than PyTorch calls on the CPU, 4096 x 2513"
    ]
    assert broken(figures(2.1, 1.9, 1.0)) == [
        "times faster than torch.compile on the CPU, 4096 x 2513"
    ]
    assert len(broken(figures(2.1, 2.1, 1.2))) == 1
    assert not bounds.cpu_figures([row(B=4096)], float("nan"))[0].holds
    assert bounds.cpu_figures([row(B=4096)], None) == []


def test_transfers_of_rows_that_are_read_once_are_the_least() -> None:
    case = Case(dtype="float32", form="top-50", batch=1, classes=bounds.LONGEST)
    longer = replace(case, classes=bounds.LONGEST + 1)
    assert [bounds.transfers(one) for one in (case, longer)] == [(2, 2), (2, 3)]
    assert bounds.transfers(replace(longer, form="dense")) == (3, 3)
