"""Teachers, students and devices of the kernels' tests."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from quick_interpreter import quicken

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

C, N, K, M = 7, 9, 3, 2


@pytest.fixture(autouse=True, scope="session")
def _rounds_as_a_gpu() -> Iterator[None]:
    """Triton's interpreter with the roundings of a GPU, and quicker than by itself.

    By itself it rounds the product of a fused multiply-add, and may sum one after the other.
    """
    if importlib.util.find_spec("triton") is None:
        yield
        return
    from triton.runtime import interpreter

    def fma(_builder: object, x: Any, y: Any, z: Any) -> Any:
        wide = x.data.astype(np.float64) * y.data + z.data
        return interpreter.TensorHandle(wide.astype(x.data.dtype), x.dtype.scalar)

    def sum_by_halves(self: Any, value: Any) -> Any:
        data = value.handle.data.reshape(-1) if self.axis is None else value.handle.data
        axis = self.axis or 0
        while data.shape[axis] > 1:
            data = np.add(*np.split(data, 2, axis))
        return self.to_tensor(data if self.keep_dims else data.squeeze(axis)[()], value.dtype)

    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        patch.setattr(interpreter.InterpreterBuilder, "create_fma", fma)
        patch.setattr(interpreter.ReduceOps, "sum", sum_by_halves)
        yield


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small take longer with several threads than with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def top_k(logits, k=K, tail=False):
    """Top-k form of dense logits, its tail the true mass at T = 1."""
    logit, index = logits.topk(k, dim=-1)
    outside = logits.scatter(-1, index, -math.inf).logsumexp(-1) - logits.logsumexp(-1)
    return TopKTargets(index=index, logit=logit, tail=outside if tail else None)


def form(name, rows=N, seed=1):
    dense = randn(M if name.endswith("mix") else 1, rows, C, seed=seed)
    if name.startswith("dense"):
        return DenseTargets(logits=dense)
    return top_k(dense, tail=name.startswith("tail"))


def kl(logits, targets, temperature=1.0, **kwargs):
    """Per-row KL_T."""
    return distillation_loss(
        logits, targets, temperature=temperature, return_parts=True, **kwargs
    ).kl


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """`randn`; `top_k` of dense logits; `form`, a teacher by its form's name; `kl`, per row."""
    return SimpleNamespace(randn=randn, top_k=top_k, form=form, kl=kl)


@pytest.fixture(
    params=[
        pytest.param("cpu", id="interpreter"),
        pytest.param("cuda", id="gpu", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    """Where Triton's kernels run: on a GPU where there is one, else by the interpreter."""
    available = torch.cuda.is_available()
    if (request.param == "cuda") != available:
        pytest.skip("no CUDA device" if not available else "with a GPU, Triton has no interpreter")
    return str(request.param)
