"""What does V-JEPA 2's recipe cost with tokens from a cache, and what without?

    python benchmarks/tokens.py [--record] [--steps N] [--clips N] [--folder FOLDER]

The recipe (docs/tokens.md) trains a probe on the tokens of a frozen encoder, which it runs again
for every sample of every epoch. Weights are random and clips made up, since none are at hand;
neither time nor bytes depend on them. Pixels lie ready in memory: nobody decodes a video here.

Bytes: those on the disk of clips at ViT-L's size (16 x 16 x 16 tokens of 1,024), whole and pooled
to 4 x 4 tokens a tubelet, float16 and int8; for EPIC-KITCHENS-100, one clip for each segment.
Reading: batches of the smallest of these as a training step gets them, page cache warm.

Training, on one thread in float32: sides take turns step by step, a ratio is one of medians.
  - the probe over the cache, packed in memory and streamed from the memory map;
  - the same step on the same tokens, which the encoder makes anew for every sample;
  - that step on whole tokens, as published.
The encoder is V-JEPA 2's with ViT-L's 24 layers, an eighth as wide, with an eighth of the tokens,
so that attention is the same share of its work; one of 16 tokens is kept, as 4 x 4 are of 16 x 16.

Errors: a probe that has learned from whole tokens in float32 which of 8 colours a square has sees
the same clips in float16, int8 and pooled to 1 of 16 tokens; root mean square of what its logits
are off, over their deviation between clips. A probe that learns from pooled tokens has no such
error; what pooling costs in recall only real videos and trained weights could say.

On a GPU the same with ViT-L itself, at EPIC-KITCHENS-100's size (`tokens_gpu.py`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from record import Figure, finish
from tokens_gpu import on_gpu
from tokens_model import (
    EIGHTH,
    SEGMENTS,
    VIT_L,
    Size,
    batch_size,
    colour_trainer,
    made_up_clips,
    make_backbone,
    make_trainer,
    random_labels,
    steps,
    windows_of,
    write_clips,
)
from torch import Tensor
from training import race

from antcache.extract.token_rows import pooled
from antcache.store.pooling import pool
from antcache.store.quantise import dequantise, quantise
from antcache.student.training.loop import Trainer
from antcache.windows.dataset import WindowFeatures, Windows
from antcache.windows.lazy import LazyFeatures
from antcache.windows.pack import PackedFeatures

CPU = torch.device("cpu")
BATCH = 16
READ_BATCH = 128
"""Clips of a step: of the race, where the encoder takes seconds for each; and as published."""

SETTINGS = {"batch_size": BATCH, "precision": "float32", "compile": "off"}
SHORT = replace(EIGHTH, frames=4, kept=(2, 2, 2))
"""Of which a probe learns from whole tokens in seconds."""


def random_tokens(count: int, num_tokens: int, width: int) -> NDArray[np.float32]:
    """Tokens (N, K, D) that do not repeat."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, num_tokens, width), dtype=np.float32)


def size_on_disk(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def bytes_of_clips(folder: Path, size: Size, count: int) -> list[Figure]:
    """What a clip takes in a store, and all of EPIC-KITCHENS-100."""
    whole = random_tokens(count, int(np.prod(size.grid)), size.width)
    figures = []
    for grid, tokens in ((size.grid, whole), (size.kept, pool(whole, size.grid, size.kept))):
        for dtype in ("float16", "int8"):
            path = folder / f"{grid[1]}-{dtype}"
            write_clips(path, tokens, grid, dtype)
            per_clip = size_on_disk(path / "features" / "clips" / "clips") / count
            label = f"{'x'.join(map(str, grid))} tokens, {dtype}"
            for name, value, unit in (
                ("a clip", per_clip / 1e6, "MB"),
                ("EK100", SEGMENTS * per_clip / 1e9, "GB"),
            ):
                figure = f"disk: {name}, {label}"
                figures.append(Figure(figure=figure, value=round(value, 3), unit=unit))
            shutil.rmtree(path)
    return figures


def reading(folder: Path, size: Size, count: int, repeats: int) -> list[Figure]:
    """Clips per second in batches, as a training step gets them."""
    tokens, scale = quantise(random_tokens(count, int(np.prod(size.kept)), size.width))
    rows = windows_of(write_clips(folder / "read", tokens, size.kept, "int8", scale))
    ways: dict[str, WindowFeatures] = {
        "memory map": LazyFeatures.of([rows], CPU),
        "pack": PackedFeatures.gather([rows], CPU),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        order = torch.from_numpy(np.random.default_rng(turn).permutation(count))
        for name, features in ways.items():
            windows = Windows(random_labels(count), features)
            started = time.perf_counter()
            for positions, values in windows.batches(order, READ_BATCH):
                windows.batch(positions, values)
            if turn:  # the first warms up
                rates[name].append(count / (time.perf_counter() - started))
    shutil.rmtree(folder / "read")
    row_bytes = tokens[0].nbytes + scale[0].nbytes
    figures = []
    for name, values in rates.items():
        for unit, factor in (("clips/s", 1.0), ("GB/s", row_bytes / 1e9)):
            found = factor * np.array(values)
            figures.append(
                Figure(
                    figure=f"reading from the {name}, {unit}",
                    value=round(float(np.median(found)), 3),
                    unit=unit,
                    spread=round(float(found.std(ddof=1)), 3),
                    n=repeats,
                )
            )
    return figures


def encoder_steps(
    trainer: Trainer, encode: Callable[[Tensor], Tensor], pixels: Tensor
) -> Iterator[None]:
    """Trains a batch with each `next`, on tokens that are made of its pixels."""
    size, step = batch_size(trainer), 0
    trainer.model.train()
    while True:
        for rows in torch.split(trainer.order(), size):
            if len(rows) == size:
                trainer.set_rate(step)
                trainer._step(rows, encode(pixels[rows]).clone()[:, None], step)
                step += 1
                yield


CACHE, ENCODER = "cache, packed", "encoder for every sample"


def training(folder: Path, size: Size, turns: int) -> list[Figure]:
    """The probe with and without the cache."""
    backbone = make_backbone(size, folder / "encoder", "cpu")
    pixels, _ = made_up_clips(2 * BATCH, size)

    def whole(given: Tensor) -> Tensor:
        return backbone.tokens(given).clone()  # that it is no inference tensor

    def kept(given: Tensor) -> Tensor:
        return pooled(whole(given), size.grid, size.kept)

    tokens = torch.cat([whole(part) for part in pixels.split(BATCH)])
    means = pooled(tokens, size.grid, size.kept).numpy()
    cached = windows_of(write_clips(folder / "kept", means, size.kept, "int8"))
    every = windows_of(write_clips(folder / "whole", tokens.numpy(), size.grid, "float16"))

    def trainer(features: WindowFeatures) -> Trainer:
        return make_trainer(features, **SETTINGS)

    packed = PackedFeatures.gather([cached], CPU)
    sides = {
        CACHE: steps(trainer(packed)),
        "cache, streamed": steps(trainer(LazyFeatures.of([cached], CPU))),
        ENCODER: encoder_steps(trainer(packed), kept, pixels),
        f"{ENCODER}, whole tokens": encoder_steps(
            trainer(PackedFeatures.gather([every], CPU)), whole, pixels
        ),
    }
    seconds = race(sides, turns, CPU)
    figures = [
        Figure(
            figure=f"probe: {name}",
            value=round(BATCH / float(np.median(values)), 2),
            unit="samples/s",
            spread=round(float((BATCH / values).std(ddof=1)), 2),
            n=turns,
        )
        for name, values in seconds.items()
    ]
    own = float(np.median(seconds[CACHE]))
    for name, values in seconds.items():
        if name != CACHE:
            figures.append(
                Figure(
                    figure=f"probe: {CACHE} over {name}",
                    value=round(float(np.median(values)) / own, 2),
                    unit="x",
                    at_least=20.0 if name == ENCODER else None,
                    n=turns,
                )
            )
    return figures


def deviation(values: NDArray[np.float64]) -> float:
    """Root mean square."""
    return float(np.sqrt((values**2).mean()))


def errors(folder: Path, size: Size, count: int, epochs: int) -> list[Figure]:
    """How far the logits of a probe are off for clips that are kept in some form."""
    backbone = make_backbone(size, folder / "colours", "cpu")
    pixels, colour = made_up_clips(count, size)
    exact = backbone.tokens(pixels).numpy()
    rows = windows_of(write_clips(folder / "exact", exact, size.grid, "float32"))
    features = PackedFeatures.gather([rows], CPU)
    trainer = colour_trainer(features, colour, **SETTINGS, epochs=epochs)
    for epoch in range(1, epochs + 1):
        trainer.train_epoch(epoch)
    trainer.model.eval()

    def logits(tokens: NDArray[np.floating]) -> NDArray[np.float64]:
        with torch.no_grad():
            given = torch.from_numpy(tokens).float()[:, None]
            return trainer.model(given).logits.double().numpy()

    means = pool(exact, size.grid, size.kept)
    forms = {
        "float16": exact.astype(np.float16),
        "int8": dequantise(*quantise(exact)),
        "pooled": means,
        "pooled, int8": dequantise(*quantise(means)),
    }
    truth = logits(exact)
    between = deviation(truth - truth.mean(0))
    found = {name: logits(values) for name, values in forms.items()}
    off = {f"{name} over whole": found[name] - truth for name in forms}
    off["pooled, int8 over pooled"] = found["pooled, int8"] - found["pooled"]
    right = Figure(
        figure="logits: colours that the probe has learned",
        value=round(100 * float((truth.argmax(1) == colour).mean()), 1),
        unit="percent",
        n=count,
    )
    return [
        right,
        *(
            Figure(
                figure=f"logits: error of {name}",
                value=round(100 * deviation(values) / between, 4),
                unit="percent",
                n=count,
            )
            for name, values in off.items()
        ),
    ]


def on_cpu(folder: Path, turns: int, clips: int) -> list[Figure]:
    """All that a CPU measures."""
    figures = bytes_of_clips(folder, VIT_L, 4)
    figures += reading(folder, VIT_L, clips, turns)
    figures += training(folder, EIGHTH, turns)
    return figures + errors(folder, SHORT, 64, 10)


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side, from 2")
    parser.add_argument("--clips", type=int, default=1_024, help="that are read")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        if cuda:
            figures = on_gpu(folder, VIT_L, torch.device("cuda"))
        else:
            figures = on_cpu(folder, arguments.steps, arguments.clips)
            print("no GPU: extraction, epoch and memory at EK100's size are skipped")
    finally:
        shutil.rmtree(folder)
    for figure in figures:
        bound = f"  at least {figure.at_least}" if figure.at_least else ""
        print(f"{figure.figure:64}{figure.value:14,.3f} {figure.unit}{bound}")
    finish("tokens", figures, record=arguments.record)


if __name__ == "__main__":
    main()
