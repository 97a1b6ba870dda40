"""The loop that `training.py` races against: GPT-2 of transformers, a DataLoader and LMDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import ek55
import lmdb
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from antcache.kernels import DenseTargets
from antcache.student.pack import WindowPack

CLASSES, TIME, SPACING, BATCH = 2_513, 10, 15, 128


class LmdbWindows(Dataset[tuple[Tensor, int, Tensor]]):
    """Windows of frames in an LMDB, one value per frame at 30 fps."""

    def __init__(self, path: Path, pack: WindowPack, count: int, every_frame: bool) -> None:
        self.path, self.every_frame, self.count = path, every_frame, count
        self.action = pack.action[:count].cpu().numpy()
        assert pack.targets is not None
        assert isinstance(pack.targets.targets, DenseTargets)
        self.teacher = pack.targets.targets.logits[:count].cpu()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, window: int) -> tuple[Tensor, int, Tensor]:
        environment = opened(self.path)
        step = 1 if self.every_frame else SPACING
        numbers = range(SPACING if not self.every_frame else 1, TIME * SPACING + 1, step)
        with environment.begin() as transaction:
            values = [transaction.get(frame_key(window, n)) for n in numbers]
            rows = [np.frombuffer(value, np.float32) for value in values]
        if self.every_frame:
            rows = rows[SPACING - 1 :: SPACING]
        return torch.from_numpy(np.stack(rows)), int(self.action[window]), self.teacher[window]


@lru_cache
def opened(path: Path) -> Any:
    """The LMDB, which a process may open only once."""
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)


def frame_key(window: int, number: int) -> bytes:
    """Key of a frame of a window: RULSTM's form, one "video" for each window."""
    return f"V{window:06d}_frame_{number:010d}.jpg".encode()


def write_lmdb(path: Path, pack: WindowPack, count: int) -> None:
    """All 150 frames of the first `count` windows; the frames between those used are like them."""
    features = pack.features[:count].float().cpu().numpy()
    with lmdb.open(str(path), map_size=1 << 36, sync=False) as env:
        for window, rows in enumerate(features):
            with env.begin(write=True) as transaction:
                for number in range(1, TIME * SPACING + 1):
                    row = rows[(number - 1) // SPACING]
                    transaction.put(frame_key(window, number), row.tobytes())
    # A copy that only workers open: an open LMDB must not cross a fork.
    shutil.copytree(path, for_workers(path))


def for_workers(path: Path) -> Path:
    """Where the workers of a loader find the LMDB at `path`."""
    return path.with_name(f"workers-{path.name}")


class Reference(nn.Module):
    """The light head's architecture of transformers' parts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        config = GPT2Config(n_embd=width, n_layer=4, n_head=8, n_positions=TIME, vocab_size=1)
        config.bos_token_id = config.eos_token_id = None
        config.attn_pdrop = 0.0  # as the light head's
        self.norm = nn.LayerNorm(ek55.DIM, elementwise_affine=False)
        self.encoder = nn.Linear(ek55.DIM, width)
        self.gpt2 = GPT2Model(config)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C)."""
        embedded = self.encoder(self.norm(features))
        states = self.gpt2(inputs_embeds=embedded).last_hidden_state
        out: Tensor = self.classifier(self.dropout(states[:, -1]))
        return out


def reference_steps(
    width: int, data: Dataset[Any], workers: int, device: torch.device
) -> Iterator[None]:
    """Trains a batch with each `next`."""
    torch.manual_seed(0)
    model = Reference(width).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    cuda, temperature, weight = device.type == "cuda", 2.0, 3.0
    while True:
        for features, action, teacher in loader:
            features, action, teacher = (x.to(device) for x in (features, action, teacher))
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                logits = model(features).float()
            student = F.log_softmax(logits / temperature, dim=1)
            target = F.log_softmax(teacher / temperature, dim=1)
            kl = F.kl_div(student, target, reduction="batchmean", log_target=True)
            loss = F.cross_entropy(logits, action) + weight * temperature**2 * kl
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            yield
