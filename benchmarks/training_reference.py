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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from antcache.kernels import DenseTargets
from antcache.windows.dataset import Windows

CLASSES, TIME, SPACING, BATCH = 2_513, 10, 15, 128


class LmdbWindows(Dataset[tuple[Tensor, int, Tensor]]):
    """Windows of frames in an LMDB, one value per frame at 30 fps."""

    def __init__(self, path: Path, windows: Windows, count: int, every_frame: bool) -> None:
        self.path, self.every_frame, self.count = path, every_frame, count
        self.action = windows.labels.action[:count]
        assert windows.targets is not None
        assert isinstance(windows.targets.targets, DenseTargets)
        self.teacher = windows.targets.targets.logits[0, :count].cpu()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, window: int) -> tuple[Tensor, int, Tensor]:
        rows = self.all_frames(window) if self.every_frame else self.needed_frames(window)
        return torch.from_numpy(rows), int(self.action[window]), self.teacher[window]

    def needed_frames(self, window: int) -> NDArray[np.float32]:
        """The window's rows (T, D), in one transaction."""
        with opened(self.path).begin() as transaction:
            numbers = range(SPACING, TIME * SPACING + 1, SPACING)
            values = [transaction.get(frame_key(window, n)) for n in numbers]
        return np.stack([np.frombuffer(value, np.float32) for value in values])

    def all_frames(self, window: int) -> NDArray[np.float32]:
        """The same as AVT reads them (`EpicRULSTMFeatsReader`, read_type `normal`): every frame in
        a transaction of its own, all in one array, of which every 15th is taken."""
        values = []
        for number in range(1, TIME * SPACING + 1):
            with opened(self.path).begin() as transaction:
                values.append(transaction.get(frame_key(window, number)))
        rows = np.array([np.frombuffer(value, np.float32) for value in values])
        return rows[SPACING - 1 :: SPACING]


@lru_cache
def opened(path: Path) -> Any:
    """The LMDB, which a process may open only once."""
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)


def frame_key(window: int, number: int) -> bytes:
    """Key of a frame of a window: RULSTM's form, one "video" for each window."""
    return f"V{window:06d}_frame_{number:010d}.jpg".encode()


def write_lmdb(path: Path, windows: Windows, count: int) -> None:
    """All 150 frames of the first `count` windows; the frames between those used are like them."""
    features = windows.features.take(range(count)).float().cpu().numpy()
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

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        config = GPT2Config(n_embd=width, n_layer=layers, n_head=8, n_positions=TIME, vocab_size=1)
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
    model: nn.Module,
    data: Dataset[Any],
    batch: int,
    workers: int,
    device: torch.device,
    bfloat16: bool,
) -> Iterator[None]:
    """Trains a batch with each `next`."""
    torch.manual_seed(0)
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, drop_last=True)
    temperature, weight = 2.0, 3.0
    while True:
        for features, action, teacher in loader:
            features, action, teacher = (x.to(device) for x in (features, action, teacher))
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = model(features).float()
            student = F.log_softmax(logits / temperature, dim=1)
            target = F.log_softmax(teacher / temperature, dim=1)
            kl = F.kl_div(student, target, reduction="batchmean", log_target=True)
            loss = F.cross_entropy(logits, action) + weight * temperature**2 * kl
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield
