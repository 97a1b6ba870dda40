"""What does V-JEPA 2's recipe cost with tokens from a cache, and what without?

    python benchmarks/tokens.py [--record] [--steps N] [--clips N] [--folder FOLDER]

The recipe (docs/tokens.md) trains a probe on the tokens of a frozen encoder, which it runs again
for every sample of every epoch. Weights are random and clips made up, since none are at hand;
neither time nor bytes depend on them. Pixels lie ready in memory: nobody decodes a video here.

Bytes: those on the disk of clips at ViT-L's size (16 x 16 x 16 tokens of 1,024), whole and pooled
to 4 x 4 tokens a tubelet, float16 and int8; for EPIC-KITCHENS-100, one clip for each segment.
Reading: the smallest of these, as stored and in batches as a training step gets them, in float32;
page cache warm. Beside a raw memory map it stands in `reads.py`.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
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
    Batches,
    Size,
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
from training import race, timed

from antcache.extract.token_rows import pooled
from antcache.store.pooling import pool
from antcache.store.quantise import dequantise, quantise
from antcache.student.training.loop import Trainer
from antcache.windows.dataset import Windows
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.reading.pack import PackedFeatures

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
    forms = {
        "whole": (size.grid, whole),
        "pooled": (size.kept, pool(whole, size.grid, size.kept)),
    }
    figures = []
    for (form, (grid, tokens)), dtype in product(forms.items(), ("float16", "int8")):
        path = folder / f"{form}-{dtype}"
        write_clips(path, tokens, grid, dtype)
        per_clip = size_on_disk(path / "features" / "clips" / "clips") / count
        for name, value, unit in (
            ("a clip", per_clip / 1e6, "MB"),
            ("EK100", SEGMENTS * per_clip / 1e9, "GB"),
        ):
            figure = f"disk: {name}, {form}, {dtype}"
            figures.append(Figure(figure=figure, value=round(value, 4), unit=unit))
        shutil.rmtree(path)
    return figures


def reading(folder: Path, size: Size, count: int, repeats: int) -> list[Figure]:
    """Clips per second: as they are stored, and in batches as a training step gets them."""
    tokens, scale = quantise(random_tokens(count, int(np.prod(size.kept)), size.width))
    rows = windows_of(write_clips(folder / "read", tokens, size.kept, "int8", scale))
    lazy = LazyFeatures.of([rows], CPU)
    buffers = [np.empty((READ_BATCH, 1, *each.shape[1:]), each.dtype) for each in (tokens, scale)]

    def stored(order: Tensor) -> None:
        for positions in order.split(READ_BATCH):
            parts = (buffer[: len(positions)] for buffer in buffers)
            lazy.streams[0].read(positions.numpy(), *parts)

    def batches(order: Tensor, windows: Windows) -> None:
        for positions, values in windows.batches(order, READ_BATCH):
            windows.batch(positions, values)

    labels = random_labels(count)
    packed = PackedFeatures.gather([rows], CPU)
    ways = {
        "memory map, as stored": stored,
        "memory map, batches": partial(batches, windows=Windows(labels, lazy)),
        "pack, batches": partial(batches, windows=Windows(labels, packed)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        order = torch.from_numpy(np.random.default_rng(turn).permutation(count))
        for name, way in ways.items():
            seconds = timed(CPU, way, order)
            if turn:  # the first warms up
                rates[name].append(count / seconds)
    shutil.rmtree(folder / "read")
    gigabytes = (tokens[0].nbytes + scale[0].nbytes) / 1e9
    figures = []
    for name, values in rates.items():
        for unit, factor in (("clips/s", 1.0), ("GB/s", gigabytes)):
            found = factor * np.array(values)
            figures.append(
                Figure(
                    figure=f"reading: {name}, {unit}",
                    value=round(float(np.median(found)), 3),
                    unit=unit,
                    spread=round(float(found.std(ddof=1)), 3),
                    n=repeats,
                )
            )
    return figures


CACHE, ENCODER = "cache, packed", "encoder for every sample"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those that take turns.

    Attributes:
        trainer: of the probe.
        batches: where it gets tokens from; None: from its windows.
    """

    trainer: Trainer
    batches: Batches | None = None


def make_sides(folder: Path, size: Size) -> dict[str, Side]:
    """The probe with and without the cache: the same clips, labels and initial weights."""
    backbone = make_backbone(size, folder / "encoder", "cpu")
    pixels, _ = made_up_clips(2 * BATCH, size)

    def whole(given: Tensor) -> Tensor:
        return backbone.tokens(given).clone()  # that it is no inference tensor

    def kept(given: Tensor) -> Tensor:
        return pooled(whole(given), size.grid, size.kept)

    def encoded(encode: Callable[[Tensor], Tensor]) -> Batches:
        def batches(order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            for rows in order.split(BATCH):
                yield rows, encode(pixels[rows])[:, None]

        return batches

    tokens = torch.cat([whole(part) for part in pixels.split(BATCH)])
    means = pooled(tokens, size.grid, size.kept).numpy()
    few = windows_of(write_clips(folder / "kept", means, size.kept, "int8"))
    every = windows_of(write_clips(folder / "whole", tokens.numpy(), size.grid, "float16"))
    packed = PackedFeatures.gather([few], CPU)
    packed_whole = PackedFeatures.gather([every], CPU)
    streamed = LazyFeatures.of([few], CPU)
    return {
        CACHE: Side(trainer=make_trainer(packed, **SETTINGS)),
        "cache, streamed": Side(trainer=make_trainer(streamed, **SETTINGS)),
        ENCODER: Side(trainer=make_trainer(packed, **SETTINGS), batches=encoded(kept)),
        f"{ENCODER}, whole tokens": Side(
            trainer=make_trainer(packed_whole, **SETTINGS), batches=encoded(whole)
        ),
    }


def training(folder: Path, size: Size, turns: int) -> list[Figure]:
    """Samples per second of each side."""
    sides = make_sides(folder, size).items()
    running = {name: steps(side.trainer, side.batches) for name, side in sides}
    seconds = race(running, turns, CPU)
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
                at_most=1.0 if name.startswith("int8") else None,
                n=count,
            )
            for name, values in off.items()
        ),
    ]


def on_cpu(
    folder: Path,
    turns: int,
    clips: int,
    *,
    full: Size = VIT_L,
    small: Size = EIGHTH,
    short: Size = SHORT,
) -> list[Figure]:
    """All that a CPU measures.

    Args:
        folder: where data goes.
        turns: of each race.
        clips: that are read.
        full: whose bytes are counted and read.
        small: which are trained on.
        short: which a probe learns from.
    """
    figures = bytes_of_clips(folder, full, 4)
    figures += reading(folder, full, clips, turns)
    figures += training(folder, small, turns)
    return figures + errors(folder, short, 4 * BATCH, 10)


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
        bound += f"  at most {figure.at_most}" if figure.at_most else ""
        print(f"{figure.figure:64}{figure.value:14,.3f} {figure.unit}{bound}")
    finish("tokens", figures, record=arguments.record)


if __name__ == "__main__":
    main()
