"""How fast are students trained: antcache against a loop of common parts, in one run?

    python benchmarks/training.py [--record] [--share S] [--steps N] [--size NAME]
                                  [--batch N] [--folder FOLDER]

Features: random, float16, 1,024 wide, at the lengths and with the segments of EPIC-KITCHENS-55
(`ek55.py`), 30 rows per second for LMDB as RULSTM and AVT keep them (that part of them that the
timed windows need), 4 per second in antcache's store; dense soft targets of 2,513 classes. Both
sides train the light head's architecture with AdamW and clipping, on one thread of a CPU. The
reference: transformers' `GPT2Model` between two linear layers, a `DataLoader` with 0 and 2 workers
over float32 features in LMDB, read by 10 gets per window in one transaction, or by 150 of which
every 15th is kept, as AVT reads them. Its loss is PyTorch's cross-entropy and `kl_div`. It computes
in bfloat16 on a GPU and in float32 on a CPU, where antcache by default takes bfloat16 if the CPU
computes in it; the other pairs stand beside these. Sides take turns step by step; a figure is a
median over the steps, and a ratio one of medians.

The parts of antcache's step are timed where they lie: data (the batch's features and labels, made
float32) and loss (objective, forward and backward down to the logits, by itself).
Memory: peak while training over pack + parameters + gradients + optimizer + what one step saves for
its backward pass; on a CPU the peak is that of resident memory.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ek55
import numpy as np
import torch
from numpy.typing import NDArray
from record import Figure, finish
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training_reference import (
    BATCH,
    CLASSES,
    TIME,
    LmdbWindows,
    Reference,
    for_workers,
    reference_steps,
    write_lmdb,
)

from antcache.annotations import Protocol
from antcache.devices import uses_bfloat16
from antcache.kernels import DenseTargets
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.presets import find_preset
from antcache.student.training.loop import Trainer
from antcache.student.training.objective import losses
from antcache.student.training.stack import Stack
from antcache.windows.dataset import Batch, Windows
from antcache.windows.index import WindowIndex, stream_features
from antcache.windows.labels import WindowLabels
from antcache.windows.reading.pack import PackedFeatures, PackedStream
from antcache.windows.reading.stream_rows import StreamRows
from antcache.windows.teacher_targets import TeacherTargets

DEFAULT = "2 layers, 256 wide (default)"
SIZES = {"1 layer, 128 wide": (1, 128), DEFAULT: (2, 256), "4 layers, 512 wide": (4, 512)}
"""Layers and widths of the light head."""
PRECISIONS = ("float32", "bfloat16")


def make_pack(folder: Path, share: float, device: torch.device) -> Windows:
    """The windows of a share of EK55's segments, with random labels and soft targets."""
    path = folder / "store"
    ek55.write(path)
    store = Store.open(path)
    segments, _ = ek55.segments_and_seconds()
    keep = np.random.default_rng(5).permutation(len(segments))[: int(share * len(segments))]
    segments = segments[np.sort(keep)]
    protocol = Protocol(gap_s=1.0, num_frames=TIME, rate=2.0)
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol)
    count = len(index)
    random = torch.Generator().manual_seed(1)
    action = torch.randint(0, CLASSES, (count,), generator=random).numpy()
    teachers = TeacherTargets(
        targets=DenseTargets(logits=torch.randn(1, count, CLASSES, generator=random)),
        row=torch.arange(count),
    )
    pack = PackedFeatures.gather([StreamRows.of(features, index)], device)
    return Windows(replace(index.labels, action=action), pack, teachers)


def random_windows(count: int) -> Windows:
    """Windows of random frames, with random labels and soft targets."""
    random = torch.Generator().manual_seed(0)
    label = torch.randint(0, CLASSES, (count,), generator=random).numpy()
    labels = WindowLabels(
        uid=np.arange(count).astype(str),
        video=np.full(count, "v"),
        padded=np.zeros((count, TIME), dtype=bool),
        action=label,
        verb=label,
        noun=label,
        frame_action=np.full((count, TIME), -100),
    )
    rows = PackedStream(
        values=torch.randn(count * TIME, ek55.DIM, generator=random).half(),
        places=torch.arange(count * TIME).view(count, TIME),
    )
    features = PackedFeatures(streams=(rows,), shape=(count, TIME, ek55.DIM))
    soft = DenseTargets(logits=torch.randn(1, count, CLASSES, generator=random))
    return Windows(labels, features, TeacherTargets(targets=soft, row=torch.arange(count)))


def batch_of(trainer: Trainer) -> int:
    """Windows of a step."""
    return trainer.config.optimization.batch_size


def antcache_steps(trainer: Trainer) -> Iterator[None]:
    """Trains a batch with each `next`, as `Trainer.train_epoch` does."""
    step, size = 0, batch_of(trainer)
    trainer.model.train()
    while True:
        for rows, features in trainer.windows.batches(trainer.order(), size):
            if len(rows) == size:
                trainer.set_rate(step)
                trainer._step(rows, features, step)
                step += 1
                yield


def timed(device: torch.device, run: Callable[..., object], *given: object) -> float:
    """Seconds of a call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run(*given)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def parts_of_step(trainer: Trainer, repeats: int) -> dict[str, float]:
    """Median seconds of a step's data and loss."""
    device, windows, size = trainer.device, trainer.windows, batch_of(trainer)
    found: dict[str, list[float]] = {"data": [], "loss": []}

    def data(kept: list[Batch]) -> None:
        rows, features = next(windows.batches(torch.randperm(len(windows))[:size], size))
        kept.append(windows.batch(rows, features))

    def loss(output: HeadOutput, batch: Batch) -> None:
        losses(output, batch, windows.targets, trainer.config).loss.backward()

    for _ in range(repeats + 2):
        kept: list[Batch] = []
        found["data"].append(timed(device, data, kept))
        with torch.no_grad(), trainer.autocast():
            output = trainer.model(kept[0].features)
        scores = output.scores.detach().requires_grad_()
        logits = scores[:, : output.logits.shape[1]]
        output = output._replace(logits=logits, padded_logits=scores)
        found["loss"].append(timed(device, loss, output, kept[0]))
    return {name: float(np.median(values[2:])) for name, values in found.items()}


def race(
    sides: dict[str, Iterator[None]], steps: int, device: torch.device
) -> dict[str, NDArray[np.float64]]:
    """Seconds of each step of each side, in turns; the first two of each warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(steps + 2):
        for name, side in sides.items():
            took = timed(device, next, side)
            if turn > 1:
                seconds[name].append(took)
    return {name: np.array(values) for name, values in seconds.items()}


def make_trainer(pack: Windows, batch: int, **settings: Any) -> Trainer:
    """A trainer of the pack's windows."""
    config = StudentConfig.of(targets=("random",), batch_size=batch, **settings)
    shape = ModelShape(dims=(ek55.DIM,), num_classes=CLASSES, num_frames=TIME, num_teachers=1)
    return Trainer(config, pack, shape)


def compare(
    pack: Windows, folder: Path, steps: int, sizes: Iterable[str], batch: int
) -> list[Figure]:
    """Antcache against the reference, for each of some `SIZES`."""
    device, count = pack.device, min(len(pack), 8 * batch)
    write_lmdb(folder / "frames.lmdb", pack, count)
    figures = []
    usual = PRECISIONS[uses_bfloat16("auto", device)]
    plain = "bfloat16" if device.type == "cuda" else "float32"
    for label in sizes:
        layers, width = SIZES[label]
        trainers = {
            f"antcache, {precision}": make_trainer(
                pack, batch, layers=layers, width=width, device=str(device), precision=precision
            )
            for precision in PRECISIONS
        }
        antcache = f"antcache, {usual}"
        sides = {name: antcache_steps(trainer) for name, trainer in trainers.items()}
        frames = folder / "frames.lmdb"
        for gets, workers, precision in itertools.product((10, 150), (0, 2), PRECISIONS):
            path = for_workers(frames) if workers else frames
            data = LmdbWindows(path, pack, count, gets == 150)
            name = f"{gets} gets, {workers} workers, {precision}"
            model, bfloat16 = Reference(layers, width), precision == "bfloat16"
            if precision == plain or not workers:
                sides[name] = reference_steps(model, data, batch, workers, device, bfloat16)
        seconds = race(sides, steps, device)
        own = float(np.median(seconds[antcache]))
        parts = parts_of_step(trainers[antcache], steps + 2)
        for name, values in seconds.items():
            rate = batch / values
            figures.append(
                Figure(
                    figure=f"{label}: {name}",
                    value=round(batch / float(np.median(values)), 1),
                    unit="samples/s",
                    spread=round(float(rate.std(ddof=1)), 1),
                    n=steps,
                )
            )
            if name != antcache:
                # Workers of the reference take cores of their own.
                bounded = label == DEFAULT and name == f"150 gets, 0 workers, {plain}"
                ratio = float(np.median(values)) / own
                figures.append(
                    Figure(
                        figure=f"{label}: {antcache} over {name}",
                        value=round(ratio, 2),
                        unit="x",
                        at_least=3.0 if bounded else None,
                        n=steps,
                    )
                )
        for name, value in (*parts.items(), ("data and loss", sum(parts.values()))):
            bounded = label == DEFAULT and name == "data and loss" and device.type == "cpu"
            figures.append(
                Figure(
                    figure=f"{label}: {name} of antcache's step",
                    value=round(100 * value / own, 2),
                    unit="percent",
                    at_most=10.0 if bounded else None,
                    n=steps,
                )
            )
    return figures


def resident(name: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def saved_bytes(trainer: Trainer, rows: Tensor, features: Tensor) -> int:
    """What a step keeps for its backward pass, parameters and the pack's soft targets left out."""
    assert trainer.windows.targets is not None
    assert isinstance(trainer.windows.targets.targets, DenseTargets)
    there = [*trainer.model.parameters(), trainer.windows.targets.targets.logits]
    own = {tensor.untyped_storage().data_ptr() for tensor in there}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer._step(rows, features, 1)
    return sum(seen.values())


def memory(pack: Windows, steps: int, batch: int) -> list[Figure]:
    """Peak of several steps over what they can't do without."""
    cuda = pack.device.type == "cuda"
    next(antcache_steps(make_trainer(pack, batch, width=64, device=str(pack.device))))  # libraries
    before = torch.cuda.memory_allocated() if cuda else resident("VmRSS")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from now
    trainer = make_trainer(pack, batch, device=str(pack.device), compile="off")
    side = antcache_steps(trainer)
    for _ in range(steps):
        next(side)
    peak = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM")
    parameters = sum(p.nbytes for p in trainer.model.parameters())
    state = [v for values in trainer.optimizer.state.values() for v in values.values()]
    sizes = {
        "pack": pack.num_bytes,
        "parameters": parameters,
        "gradients": sum(p.grad.nbytes for p in trainer.model.parameters() if p.grad is not None),
        "optimizer": sum(v.nbytes for v in state if isinstance(v, Tensor)),
        "activations of a step": saved_bytes(trainer, *next(pack.batches(trainer.order(), batch))),
    }
    sizes["peak"] = pack.num_bytes + peak - before
    found = [
        Figure(figure=f"memory: {name}", value=round(size / 1e6, 1), unit="MB")
        for name, size in sizes.items()
    ]
    ratio = sizes["peak"] / (sum(sizes.values()) - sizes["peak"])
    name = "memory: peak over the sum of the others"
    return [*found, Figure(figure=name, value=round(ratio, 3), unit="x", at_most=1.2)]


def epochs_of(trainers: list[Trainer], epoch: int) -> None:
    """Train an epoch of each, one after the other."""
    for trainer in trainers:
        trainer.train_epoch(epoch)


def stacking(pack: Windows, counts: tuple[int, ...], width: int | None, batch: int) -> list[Figure]:
    """Students trained at once over the same one after the other."""
    assert isinstance(pack.features, PackedFeatures)
    assert pack.targets is not None
    few = np.arange(min(len(pack), 4 * batch))
    (stream,) = pack.features.streams
    features = PackedFeatures(
        streams=(replace(stream, places=stream.places[: len(few)]),),
        shape=(len(few), *pack.features.shape[1:]),
    )
    targets = replace(pack.targets, row=pack.targets.row[: len(few)])
    small = Windows(pack.labels[few], features, targets)
    figures = []
    for count in counts:
        trainers = [
            make_trainer(small, batch, width=width, seed=s, device=str(pack.device))
            for s in range(count)
        ]
        alone = [timed(pack.device, epochs_of, trainers, epoch) for epoch in (1, 2)]
        stack = Stack(trainers)
        once = [timed(pack.device, stack.train_epoch, [epoch] * count) for epoch in (3, 4)]
        figures.append(
            Figure(
                figure=f"light, {width or 256} wide: {count} at once over one after the other",
                value=round(alone[1] / once[1], 2),
                unit="x",
            )
        )
    return figures


def step_flops(trainer: Trainer) -> int:
    """Floating-point operations of the matrix products and attention of one step of `BATCH`."""
    rows, features = next(trainer.windows.batches(trainer.order(), BATCH))
    batch = trainer.windows.batch(rows, features)
    trainer.model.train()
    with FlopCounterMode(display=False) as counter, trainer.autocast():
        outputs = trainer.config.losses.frame_outputs
        output = trainer.model(batch.features, **outputs)  # never the compiled one
        losses(output, batch, trainer.windows.targets, trainer.config).loss.backward()
    return int(counter.get_total_flops())


def on_gpu(pack: Windows, published: StudentConfig, side: int = 8192) -> list[Figure]:
    """Bounds that only mean something on a GPU; not measured yet.

    Args:
        pack: the windows.
        published: settings of AVT-h, for the rate that it reaches.
        side: of the square matrices whose product sets the rate to be reached.
    """
    device = pack.device
    trainer = make_trainer(pack, BATCH, device=str(device), epochs=20)
    for epoch in (1, 2):
        trainer.train_epoch(epoch)
    light = min(timed(device, trainer.train_epoch, epoch) for epoch in (3, 4, 5))
    figures = [Figure(figure="EK55 epoch, light", value=round(light, 3), unit="s", at_most=0.5)]
    count = 16
    stack = Stack(
        [make_trainer(pack, BATCH, seed=s, device=str(device), epochs=20) for s in range(count)]
    )
    stack.train_epoch([1] * count)
    once = min(timed(device, stack.train_epoch, [epoch] * count) for epoch in (2, 3))
    figures.append(
        Figure(figure="16 seeds over one", value=round(once / light, 2), unit="x", at_most=4.0)
    )
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = min(timed(device, torch.matmul, a, a) for _ in range(10))
    rate = 2 * side**3 / product
    config = published.replace(device=str(device), batch_size=BATCH)
    shape = ModelShape(dims=(ek55.DIM,), num_classes=CLASSES, num_frames=TIME)
    avth = Trainer(config, Windows(pack.labels, pack.features), shape)
    avth.train_epoch(1)
    seconds = timed(device, avth.train_epoch, 2)
    reached = step_flops(avth) / BATCH * len(pack) / seconds
    figures.append(
        Figure(
            figure="avth: share of the matrix-product rate",
            value=round(100 * reached / rate, 1),
            unit="percent",
            at_least=70.0,
        )
    )
    return figures


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--share", type=float, default=1.0, help="of EK55's segments")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each side, from 2")
    parser.add_argument("--batch", type=int, default=BATCH, help="windows of a step")
    parser.add_argument("--size", choices=list(SIZES), help="only this head")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        pack = make_pack(folder, arguments.share, device)
        figures = memory(pack, 3, arguments.batch)
        sizes = [arguments.size] if arguments.size else SIZES
        figures += compare(pack, folder, arguments.steps, sizes, arguments.batch)
        figures += stacking(pack, (1, 4, 8) if cuda else (1, 4), None, arguments.batch)
        figures += stacking(pack, (1, 4, 8), 128, arguments.batch)
        if cuda:
            figures += on_gpu(pack, find_preset("ek55-tsn"))
        else:
            print("no GPU: epoch of light, rate of avth and sweep of 16 seeds are skipped")
    finally:
        shutil.rmtree(folder)
    for figure in figures:
        bound = f"  at least {figure.at_least}" if figure.at_least else ""
        bound += f"  at most {figure.at_most}" if figure.at_most else ""
        print(f"{figure.figure:58}{figure.value:14,.2f} {figure.unit}{bound}")
    finish("training", figures, record=arguments.record)


if __name__ == "__main__":
    main()
