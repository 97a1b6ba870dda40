"""The windows of a split, gathered once onto the training device.

Promise: after `WindowPack.gather` nothing is read from the store any more; a batch is an index
into tensors, and no value is invented: windows without a soft target say so with -1.
Letters: N windows, T time, D feature, C classes, K top-k, M soft targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, Targets, TopKTargets
from antcache.progress import Progress, silent
from antcache.store import Features, SoftTargets
from antcache.student.windows import WindowIndex, by_video

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class WindowPack:
    """Tensors of N windows on one device.

    Attributes:
        features: (N, T, D) in the stream's dtype.
        padded: (N, T) bool.
        action: (N,) int64 label.
        frame_action: (N, T) int64 label of each frame, -100 where there is none.
        target: (N,) int64 row in `targets`, or -1 without one.
        targets: the soft targets of these windows alone, or None.
        uid: (N,) str, on the host.
    """

    features: Tensor
    padded: Tensor
    action: Tensor
    frame_action: Tensor
    target: Tensor
    targets: Targets | None
    uid: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.features.device

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [v for v in vars(self).values() if isinstance(v, Tensor)]
        if self.targets is not None:
            tensors += [v for v in vars(self.targets).values() if isinstance(v, Tensor)]
        return sum(t.nbytes for t in tensors)

    @classmethod
    def gather(
        cls,
        features: Mapping[str, Features],
        index: WindowIndex,
        *,
        dim: int,
        dtype: str,
        device: torch.device,
        targets: Targets | None = None,
        target: NDArray[np.int64] | None = None,
        label: str = "windows",
        progress: Progress = silent,
    ) -> WindowPack:
        """Read the rows of `index` (N windows), video by video.

        Args:
            features: features by video.
            index: the windows.
            dim: D.
            dtype: float16 or float32, the stream's.
            device: where the tensors go.
            targets: soft targets, as `select_targets` cuts them to these windows.
            target: (N,) rows in `targets`; None without soft targets.
            label: what progress is reported under, in videos.
            progress: called after each video.

        Raises:
            BadConfig: the device has too little memory.
        """
        shape = (len(index), index.rows.shape[1], dim)
        _require_memory(shape, DTYPES[dtype], device)
        gathered = torch.empty(shape, dtype=DTYPES[dtype], device=device)
        videos = list(by_video(index.video))
        for done, (video, members) in enumerate(videos, start=1):
            rows = torch.from_numpy(features[video].read(index.rows[members]))
            gathered[torch.from_numpy(members).to(device)] = rows.to(device)
            progress(label, done, len(videos))
        if target is None:
            target = np.full(len(index), -1)
        return cls(
            features=gathered,
            padded=torch.from_numpy(index.padded).to(device),
            action=torch.from_numpy(index.action).to(device),
            frame_action=torch.from_numpy(index.frame_action).to(device),
            target=torch.from_numpy(target).to(device),
            targets=None if targets is None else targets.to(device),
            uid=index.uid,
        )


def select_targets(
    soft: SoftTargets, rows: NDArray[np.int64], *, top_k: int | None = None, tail: bool = False
) -> tuple[Targets, NDArray[np.int64]]:
    """Soft targets of some windows, and where each of them finds its own.

    Args:
        soft: the targets of a whole dataset.
        rows: (N,) row in `soft` of each window, -1 without one.
        top_k: keep the k best classes.
        tail: keep the mass of the other classes, where the form has it.

    Returns:
        Targets of M <= N rows, and (N,) rows in them, -1 without one.

    Raises:
        BadConfig: `top_k` does not fit the targets.
    """
    known, place = np.unique(rows[rows >= 0], return_inverse=True)
    target = np.full(len(rows), -1)
    target[rows >= 0] = place
    arrays = {name: array[known] for name, array in soft.arrays().items()}
    chosen = SoftTargets(**arrays, attributes=soft.attributes)
    if top_k is not None:
        chosen = _cut(chosen, top_k)
    if chosen.logits is not None:
        return DenseTargets(logits=torch.from_numpy(chosen.logits)), target
    assert chosen.index is not None
    assert chosen.logit is not None
    assert chosen.tail is not None
    return TopKTargets(
        index=torch.from_numpy(chosen.index),
        logit=torch.from_numpy(chosen.logit),
        tail=torch.from_numpy(chosen.tail) if tail else None,
    ), target


def _cut(soft: SoftTargets, top_k: int) -> SoftTargets:
    """`soft` with its k best classes; targets stored with exactly k are taken as they are."""
    if soft.index is None:
        return soft.top_k(top_k)
    stored = soft.index.shape[1]
    if stored != top_k:
        raise BadConfig(
            "the soft targets are stored with another k",
            expected=f"{top_k}",
            found=f"{stored}",
            hint="write dense soft targets, or leave --top-k out",
        )
    return soft


def _require_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a pack that does not fit a CUDA device, before anything is allocated."""
    if device.type != "cuda":
        return
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    free, _ = torch.cuda.mem_get_info(device)
    if needed > free:
        raise BadConfig(
            f"the windows {shape} do not fit the memory of {device}",
            expected=f"at most {free} bytes free",
            found=f"{needed} bytes needed",
            hint="use --device cpu, or a narrower stream",
        )
