"""Inputs of the kernels' tests, and the bound that they are held to.

An error may be as large as that of the plain composition of PyTorch calls on the same inputs in the
same precision, plus 1e-6 relative.
"""

from __future__ import annotations

import math

import torch

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
OFFSETS = (0.0, 1e4, -1e4)
SETTINGS = ("plain", "weighted", "masks", "per_row", "in_place", "sum")


def pairwise(*factors):
    """Few rows in which any two values of any two factors meet (greedy, always the same)."""
    open_pairs = {
        (i, a, j, b)
        for i in range(len(factors))
        for j in range(i)
        for a in range(len(factors[i]))
        for b in range(len(factors[j]))
    }
    rows = []
    while open_pairs:
        i, a, j, b = min(open_pairs)
        row = {i: a, j: b}
        for k in range(len(factors)):
            if k not in row:
                row[k] = max(
                    range(len(factors[k])),
                    key=lambda v, k=k, row=row: (
                        sum(_pair(k, v, o, w) in open_pairs for o, w in row.items()),
                        # Else what is left open by two would always be the first of each.
                        -sum(factors[k][v] is other[k] for other in rows),
                        -v,
                    ),
                )
        open_pairs -= {_pair(k, row[k], o, row[o]) for k in row for o in row if o < k}
        rows.append(tuple(factors[k][row[k]] for k in range(len(factors))))
    return rows


def _pair(i, a, j, b):
    return (i, a, j, b) if i > j else (j, b, i, a)


def gaussian(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def teacher(form, rows, classes, seed=1, teachers=3):
    """A teacher by its form's name; `mix` stands for three."""
    if form == "none":
        return None
    shape = (teachers if form.endswith("mix") else 1, rows, classes)
    dense = gaussian(*shape, seed=seed)
    if form.startswith("dense"):
        return DenseTargets(logits=dense)
    k = min(7, classes - 1)
    logit, index = dense.topk(k, dim=-1)
    if form.endswith("mix") and teachers * k >= classes:  # else nothing may be left for the tail
        index = index[:1].repeat(len(index), 1, 1)
        logit = dense.gather(-1, index)
    outside = dense.scatter(-1, index, -math.inf).logsumexp(-1) - dense.logsumexp(-1)
    return TopKTargets(index=index, logit=logit, tail=outside if "tail" in form else None)


def arguments(case, form, batch, classes):
    """Labels, and the other arguments of one of `SETTINGS`."""
    labels = torch.arange(batch) * 7 % classes
    given = {}
    if form != "none":
        given["rows"] = (torch.arange(batch) * 5 + 1) % (batch + 2)
    if form.endswith("mix") and case != "plain":
        given["teacher_weight"] = torch.tensor([1.0, 2.0, 0.5]) + torch.arange(batch)[:, None] % 2
    if case in ("weighted", "in_place"):
        given["class_weight"] = 0.5 + torch.arange(classes) % 3
        given["label_smoothing"] = 0.1
    if case == "masks":
        labels[::3] = -100
        if form != "none":
            given["rows"][1::2] = -1
    given["reduction"] = {"per_row": "none", "sum": "sum"}.get(case, "mean")
    return labels, given


def to(value, device):
    return value.to(device) if hasattr(value, "to") else value


def evaluate(x, targets, labels, factor, given, **how):
    """Loss, CE, KL and gradient as float64 on the CPU; the loss is multiplied by `factor`."""
    x = x.detach().clone().requires_grad_()
    logits = x * 1  # what is overwritten is not the leaf itself
    parts = distillation_loss(logits, targets, labels, return_parts=True, **given, **how)
    (parts.loss * factor.to(parts.loss.dtype)).sum().backward()
    return [v.detach().double().cpu() for v in (parts.loss, parts.ce, parts.kl, x.grad)]


def check(x, targets, labels, given, factor, rounded=0.0, **how):
    """Hold Triton against truth and composition; errors are relative to the largest value.

    That counts as 1e-9 at least: below, the rounding of float64 itself exceeds 1e-6 of it.
    `rounded` is what a gradient may be off besides.
    """
    truth = evaluate(x.double(), targets, labels, factor, given, impl="torch")
    plain = evaluate(x, targets, labels, factor, given, impl="torch")
    fused = evaluate(x, targets, labels, factor, given, impl="triton", **how)
    for name, right, composed, value in zip(
        ("loss", "ce", "kl", "gradient"), truth, plain, fused, strict=True
    ):
        size = right.abs().max().clamp(min=1e-9)
        allowed = (composed - right).abs().max() / size + 1e-6
        interpreter = not x.is_cuda
        if interpreter and name == "gradient" and x.dtype == torch.bfloat16:
            allowed += torch.finfo(x.dtype).eps  # the interpreter cuts where a GPU rounds
        if name == "gradient":
            allowed += rounded / size
        found = (value - right).abs().max() / size
        assert found <= allowed, f"{name}: {found:.2e}, the composition has {allowed:.2e}"
    assert fused[2].min() >= -1e-6
    return fused


def padded(tensor, width, value=7.0):
    """The tensor with so many columns more, of a value that would show."""
    return torch.nn.functional.pad(tensor, (0, width), value=value)


def check_together(
    device, *, seed, batch, classes, form, dtype, spread, offset, beta, temperature, weight,
    padding, both, normaliser, labels, case, factor,
):  # fmt: skip
    """Divergences, constants per row, padding and denominators, with smoothing, masks, offsets."""
    y, given = arguments(case, form, batch, classes)
    x = padded(gaussian(batch, classes, seed=seed) * spread + offset, padding).to(dtype)
    targets = teacher(form, batch + 2, classes, seed + 1)
    if padding:
        given["num_classes"] = classes
    if targets is None:
        labels = True
    else:
        if both:
            targets = DenseTargets(logits=padded(targets.logits, padding))
        numbers = torch.rand(batch + 1, generator=torch.Generator().manual_seed(seed)) * 9 + 0.5
        choices = {"one": 1.0, "two": 2.0, "number": 3.3, "tensor": numbers[0], "rows": numbers[1:]}
        given |= {"temperature": choices[temperature], "weight": choices[weight], "beta": beta}
    if not labels:
        y = None
        given.pop("class_weight", None)
        given.pop("label_smoothing", None)
    if normaliser is not None and given["reduction"] == "mean":
        given["normaliser"] = torch.tensor(normaliser)
    given = {name: to(v, device) for name, v in given.items()}
    overwrite = case == "in_place" and factor == 1
    upstream = torch.tensor(factor, device=device)
    check(*(to(v, device) for v in (x, targets, y)), given, upstream, overwrite_logits=overwrite)
