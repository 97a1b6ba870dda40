"""What `tokens.py` measures on a GPU: V-JEPA 2's recipe at EPIC-KITCHENS-100's size.

Extraction: clips of random pictures, resized, encoded, predicted one future for, pooled and
quantised, back in host memory; decoding of videos is left out. The epoch: the published probe over
int8 tokens of all training segments, packed on the GPU. Its rate is that of the matrix products
and attention that a step needs, over that of one large matrix product.

The projection is for all segments and 20 epochs of 20 probes one after the other, beside what the
encoder alone takes where it is run for every sample of every epoch, as published on 64 GPUs, all of
them as fast as this one. Not measured yet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from record import Figure
from tokens_model import (
    SEGMENTS,
    TRAINING,
    Size,
    batch_size,
    make_backbone,
    make_trainer,
)
from torch.utils.flop_counter import FlopCounterMode
from training import resident, timed

from antcache.extract.token_rows import TokenRows
from antcache.store.quantise import quantise
from antcache.student.training.loop import Trainer
from antcache.student.training.objective import losses
from antcache.windows.reading.pack import PackedFeatures, PackedStream

GAP_S, CLIP_FPS = 1.0, 8.0
EPOCHS, PROBES, GPUS = 20, 20, 64
"""Of the published recipe."""


def seconds_per_clip(
    folder: Path, size: Size, device: torch.device, batch: int, batches: int
) -> float:
    """Seconds in which a clip becomes int8 tokens in host memory."""
    backbone = make_backbone(size, folder, str(device))
    rows = TokenRows.of(backbone, size.kept, (GAP_S,), CLIP_FPS)
    side = size.pixels * 292 // 256  # as videos are resized before the crop
    shape = (batch * size.frames, side, side, 3)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8)

    def extract() -> None:
        pixels = backbone.preprocess(pictures.to(device))
        quantise(rows(pixels.unflatten(0, (batch, size.frames))).cpu().numpy())

    extract()  # warms up
    return sum(timed(device, extract) for _ in range(batches)) / (batch * batches)


def random_pack(size: Size, count: int, device: torch.device) -> PackedFeatures:
    """Tokens of N clips on the device, with those of one predicted future."""
    time_, height, width = size.kept
    shape = (count, (time_ + 1) * height * width)
    values = torch.empty((*shape, size.width), dtype=torch.int8, device=device)
    for part in values.split(1 << 10):  # random numbers are made in a wider type
        part.copy_(torch.randint(-127, 128, part.shape, dtype=torch.int8, device=device))
    scale = torch.rand(shape, device=device).half() / 64
    places = torch.arange(count, device=device)[:, None]
    stream = PackedStream(values=values, scale=scale, places=places)
    return PackedFeatures(streams=(stream,), shape=(count, 1, *values.shape[1:]))


def step_flops(trainer: Trainer) -> int:
    """Floating-point operations of the matrix products and attention of one step."""
    size = batch_size(trainer)
    rows, features = next(iter(trainer.windows.batches(trainer.order()[:size], size)))
    batch = trainer.windows.batch(rows, features)
    trainer.model.train()
    with FlopCounterMode(display=False) as counter, trainer.autocast():
        output = trainer.model(batch.features)  # never the compiled one
        losses(output, batch, trainer.windows.targets, trainer.config).loss.backward()
    trainer.optimizer.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def product_rate(device: torch.device, side: int) -> float:
    """Operations per second of one large bfloat16 matrix product."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / min(timed(device, torch.matmul, a, a) for _ in range(10))


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had on the device; on a CPU, at all."""
    cuda = device.type == "cuda"
    return torch.cuda.max_memory_allocated(device) if cuda else resident("VmHWM")


def projection(clip_s: float, epoch_s: float) -> list[Figure]:
    """Hours for all of EPIC-KITCHENS-100, from seconds of a clip and of an epoch of one probe."""
    extraction, probes = SEGMENTS * clip_s, PROBES * EPOCHS * epoch_s
    encoder = EPOCHS * TRAINING * clip_s
    hours = {
        "EK100 on one GPU from a cache: extraction": extraction,
        "EK100 on one GPU from a cache: 20 probes, one after the other": probes,
        "EK100 on one GPU from a cache, in all": extraction + probes,
        f"EK100 on {GPUS} GPUs, encoder for every sample, encoder alone": encoder / GPUS,
        f"EK100, GPU-hours of these {GPUS}": encoder,
    }
    return [
        Figure(figure=name, value=round(seconds / 3600, 4), unit="h")
        for name, seconds in hours.items()
    ]


def on_gpu(
    folder: Path,
    size: Size,
    device: torch.device,
    *,
    batch: int = 16,
    batches: int = 8,
    training: int = TRAINING,
    side: int = 8_192,
    **settings: object,
) -> list[Figure]:
    """Time, rate and memory of extraction and of the probe.

    Args:
        folder: where the encoder's weights go.
        size: of the encoder and its clips.
        device: the GPU.
        batch: clips that are extracted at once.
        batches: how many times that is timed.
        training: clips of an epoch.
        side: of the square matrices whose product sets the rate.
        settings: of the probe, other than the published ones.
    """
    clip_s = seconds_per_clip(folder / "encoder", size, device, batch, batches)
    extraction = peak_bytes(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    trainer = make_trainer(random_pack(size, training, device), **settings)
    flops = step_flops(trainer) / batch_size(trainer) * training
    trainer.train_epoch(1)  # compiles, for the last and smaller batch as well
    epoch_s = timed(device, trainer.train_epoch, 2)
    share = flops / epoch_s / product_rate(device, side)
    sizes = {"extraction": extraction, "the probe, its pack included": peak_bytes(device)}
    return [
        Figure(figure="extraction of 1,000 clips", value=round(1000 * clip_s, 3), unit="s"),
        Figure(figure="an epoch of the probe", value=round(epoch_s, 3), unit="s"),
        Figure(
            figure="the probe: share of the matrix-product rate",
            value=round(100 * share, 2),
            unit="percent",
            at_least=50.0,
        ),
        *(
            Figure(figure=f"peak memory of {name}", value=round(value / 1e9, 3), unit="GB")
            for name, value in sizes.items()
        ),
        *projection(clip_s, np.divide(epoch_s * TRAINING, training)),
    ]
