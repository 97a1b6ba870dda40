"""How near does a pass of extraction come to what its slowest part allows?

    python benchmarks/extraction.py [--record] [--videos N] [--seconds S] [--repeats N] [--size W H]
        [--long S] [--backbones light heavy] [--edge E] [--ffmpeg FILE]

1080p60 H.264 of real clips, 1 to N videos at once, for a light and a heavy backbone with random
weights (ViT-Ti/16 and ViT-B/16 at `--edge` pixels), 4 rows a second. In one run, in turn, over and
over, medians:
  - decoding alone: as many decoders as videos, pictures made where rows need them, thrown away;
  - preprocessing alone: those pictures, resized by as many threads, as bytes and in float32;
  - backbone alone: its batches, from pixels to rows in host memory;
  - the whole: `extract` into a new store.
What the cores allow is the rate of the slowest part, or, where parts share the cores, the number of
cores over the sum of the CPU times of all parts, if that is less. The whole must reach 0.9 of it.

Against: a loop as feature extractors have it, which turns every frame into RGB and runs the
backbone on one row at a time, one video after another (the whole must be 3 times as fast);
torchcodec's decoder asked for the frames of the rows alone, with all cores, in the same batches,
one video after another, where torchcodec can be imported; and `ffmpeg -vf fps=4` alone, as many at
once, where there is an ffmpeg: the floor. All of one number of videos in one process; if they are
several, one in which threads that wait for others sleep, as in `antcache extract`. Of the first
backbone also a pass in processes of their own where they do and where they don't, in turn.

Memory: the most that a process holds during a pass with 4 decoders over 4 videos of `--long`
seconds beside what it held with the model loaded (at most 2 GB), and the same of videos a quarter
as long: it must not grow with the length. (`--videos 0` measures memory alone.)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import av
import torch
from extraction_videos import write_videos
from reads import memory_status
from record import DATA, Figure, finish

from antcache.devices import ASLEEP, usable_cores
from antcache.extract import ExtractConfig, extract, load_backbone
from antcache.extract.engines.decoders import Clip, Decoders
from antcache.extract.plan import RowRecipe
from antcache.extract.preprocess import Preprocessing
from antcache.extract.videos.decode import source_of
from antcache.store import Store

ROWS_PER_S, BATCH = 4.0, 32
BACKBONES = {"light": (192, 3), "heavy": (768, 12)}
"""Width and heads of a ViT of 12 layers."""
MOST_MEMORY = 2.0
IN_FLOAT32 = "preprocessing in float32"
Videos = dict[str, Path]


def save_backbone(folder: Path, kind: str, edge: int) -> None:
    """A ViT at `edge` pixels with random weights."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    width, heads = BACKBONES[kind]
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, image_size=edge
    )
    ViTModel(config).save_pretrained(folder)
    size = {"height": edge, "width": edge}
    ViTImageProcessor(resample=3, size=size).save_pretrained(folder)


def videos_in(folder: Path) -> Videos:
    """The videos of a folder by name."""
    return {path.stem: path for path in sorted(folder.iterdir())}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of some work, its threads included."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def decode(recipe: RowRecipe, videos: Videos, keep: list[torch.Tensor] | None = None) -> None:
    """Pictures of all rows, one decoder a video; `keep` gets the first ones."""
    plain = replace(recipe.pixels, prepare=lambda pictures: pictures)
    turns = ((name, ExitStack()) for name in videos)
    decoders = Decoders(
        len(videos),
        plain,
        lambda name: (source_of(videos[name]), None),
        lambda _: turns,
        cores=usable_cores(),
    )
    with decoders:
        for message in decoders:
            if keep is not None and isinstance(message, Clip) and len(keep) < BATCH:
                keep.append(message.frames[0])


class InFloat32(Preprocessing):
    """Makes pictures smaller as GPUs do it."""

    def _as_bytes(self, pixels: torch.Tensor) -> bool:
        return False


def prepare(
    smaller: Callable[[torch.Tensor], torch.Tensor],
    pictures: list[torch.Tensor],
    rows: int,
    threads: int,
) -> None:
    """Resize as many pictures as there are rows."""

    def work(mine: range) -> None:
        torch.set_num_threads(max(1, usable_cores() // threads))
        for row in mine:
            smaller(pictures[row % len(pictures)][None])

    workers = [
        threading.Thread(target=work, args=(range(k, rows, threads),)) for k in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def embed(recipe: RowRecipe, batch: torch.Tensor, rows: int) -> None:
    """Rows of full batches, on the host."""
    for _ in range(-(-rows // len(batch))):
        recipe.make(batch).cpu()


def loop(recipe: RowRecipe, videos: Videos) -> None:
    """Every frame to RGB, one row at a time, one video after another."""
    backbone = recipe.backbone
    for path in videos.values():
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            step = round(float(stream.average_rate or 1) / ROWS_PER_S)
            for number, frame in enumerate(file.decode(stream)):
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                if number % step == 0:
                    pixels = backbone.preprocess(picture[None].to(backbone.device))
                    backbone(pixels[:, None]).cpu()


def has_torchcodec() -> bool:
    """Can it be imported? Its libraries want an FFmpeg and a torch of their own."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def torchcodec(recipe: RowRecipe, videos: Videos) -> None:
    """The frames of all rows by their numbers, in batches, one video after another."""
    from torchcodec.decoders import VideoDecoder

    backbone = recipe.backbone
    for path in videos.values():
        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
        step = round(float(decoder.metadata.average_fps or 1) / ROWS_PER_S)
        wanted = list(range(0, len(decoder), step))
        for start in range(0, len(wanted), BATCH):
            pictures = decoder.get_frames_at(wanted[start : start + BATCH]).data
            backbone(backbone.preprocess(pictures.to(backbone.device))[:, None]).cpu()


def ffmpeg(program: str, videos: Videos) -> None:
    """FFmpeg's own decoding at the rate of the rows, a process a video."""
    options = ["-v", "error", "-nostdin"]
    processes = [
        subprocess.Popen(
            [program, *options, "-i", str(path), "-vf", f"fps={ROWS_PER_S}", "-f", "null", "-"]
        )
        for path in videos.values()
    ]
    if any(process.wait() for process in processes):
        raise SystemExit(f"{program} failed")


def measure(
    kind: str, folder: Path, videos: Videos, repeats: int, program: str | None
) -> list[Figure]:
    """All parts, the whole and the others, for one backbone and so many videos at once."""
    count, cores = len(videos), usable_cores()
    recipe = RowRecipe.of(load_backbone(folder / kind), ExtractConfig(batch_size=BATCH))
    pictures: list[torch.Tensor] = []
    decode(recipe, videos, pictures)
    batch = torch.stack([recipe.pixels.prepare(each[None]) for each in pictures])
    batch = batch[torch.arange(BATCH) % len(batch)]
    in_float32 = InFloat32(**vars(recipe.backbone.preprocessing)).levels
    stores = iter(range(1_000))

    def whole() -> None:
        path = folder / f"{next(stores)}.zarr"
        config = ExtractConfig(batch_size=BATCH, decoders=count)
        report = extract(videos, Store.create(path), recipe.backbone, config)
        assert not report.failed
        made.append(report.rows)
        shutil.rmtree(path)

    made: list[int] = []
    whole()
    rows = made[0]
    works: dict[str, Callable[[], object]] = {
        "decoding alone": lambda: decode(recipe, videos),
        "preprocessing alone": lambda: prepare(recipe.pixels.prepare, pictures, rows, count),
        IN_FLOAT32: lambda: prepare(in_float32, pictures, rows, count),
        "backbone alone": lambda: embed(recipe, batch, rows),
        "whole": whole,
        "loop": lambda: loop(recipe, videos),
    }
    if has_torchcodec():
        works["torchcodec"] = lambda: torchcodec(recipe, videos)
    if program is not None:
        works["ffmpeg"] = lambda: ffmpeg(program, videos)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(timed(work))
    wall = {name: median(w for w, _ in each) for name, each in times.items()}
    cpu = {name: median(c for _, c in each) for name, each in times.items()}
    parts = [name for name in works if name.endswith("alone")]
    allowed = max(max(wall[part] for part in parts), sum(cpu[part] for part in parts) / cores)
    of = f"{kind}, {count} at once"
    figures = [
        Figure(figure=f"{of}: {name}, rows/s", value=rows / wall[name], unit="rows/s", n=repeats)
        for name in works
    ]
    bounds = {
        "whole over what the cores allow": (allowed / wall["whole"], 0.9),
        "whole over the loop": (wall["loop"] / wall["whole"], 3.0),
        "preprocessing as bytes over float32": (
            wall[IN_FLOAT32] / wall["preprocessing alone"],
            None,
        ),
    }
    if "torchcodec" in works:
        bounds["whole over torchcodec"] = (wall["torchcodec"] / wall["whole"], None)
    if program is not None:
        bounds["decoding alone over ffmpeg"] = (wall["ffmpeg"] / wall["decoding alone"], None)
    figures += [
        Figure(figure=f"{of}: {name}", value=value, unit="x", at_least=least, n=repeats)
        for name, (value, least) in bounds.items()
    ]
    return figures


def in_a_process(folder: Path, videos: Path, options: argparse.Namespace) -> list[Figure]:
    """What is measured of the videos of a folder with each backbone, in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--parts-of", str(videos)]
    command += ["--repeats", str(options.repeats), "--backbones", *options.backbones]
    command += ["--ffmpeg", options.ffmpeg] if options.ffmpeg else []
    environment = {**ASLEEP, **os.environ} if len(videos_in(videos)) > 1 else None
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return [Figure(**each) for line in done.stdout.splitlines() for each in json.loads(line)]


def seconds_of(backbone: Path, folder: Path) -> None:
    """How long a pass over the videos of a folder takes a fresh process, as one line."""
    loaded, videos = load_backbone(backbone, device="cpu"), videos_in(folder)
    store = Store.create(folder.with_suffix(f".{os.getpid()}.zarr"))
    config = ExtractConfig(batch_size=BATCH, decoders=len(videos))
    wall, _ = timed(lambda: extract(videos, store, loaded, config))
    shutil.rmtree(store.path)
    print(wall)


def asleep_over_awake(backbone: Path, folder: Path, repeats: int) -> Figure:
    """How much faster a pass is where threads that wait for others sleep at once (GNU's OpenMP)."""
    command = [sys.executable, __file__, "--folder", str(backbone), "--seconds-of", str(folder)]
    # How often they look before they sleep: 300,000 times where nothing is said.
    wall: dict[str, list[float]] = {"0": [], "300000": []}
    for _ in range(repeats):
        for looks, taken in wall.items():
            environment = {**os.environ, **ASLEEP, "GOMP_SPINCOUNT": looks}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            taken.append(float(done.stdout.splitlines()[-1]))
    count = len(videos_in(folder))
    return Figure(
        figure=f"{backbone.name}, {count} at once: whole, waiting threads asleep over awake",
        value=median(wall["300000"]) / median(wall["0"]),
        unit="x",
        n=repeats,
    )


def peaks(backbone: Path, folders: list[Path]) -> None:
    """What a fresh process holds at most beside the model, in bytes, as one JSON line: in a pass
    over the videos of each of these folders."""
    loaded = load_backbone(backbone, device="cpu")
    before, held = memory_status()["VmRSS"], []
    for folder in folders:
        videos = videos_in(folder)
        store = Store.create(folder.with_suffix(".zarr"))
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from now
        extract(videos, store, loaded, ExtractConfig(decoders=4, batch_size=BATCH))
        held.append(memory_status()["VmHWM"] - before)
    print(json.dumps(held))


def memory(
    folder: Path, backbone: Path, clips: Path, seconds: float, size: tuple[int, int]
) -> list[Figure]:
    """Of a pass with 4 decoders over 4 videos a quarter as long, and over 4 long ones."""
    folders = []
    for length in (seconds / 4, seconds):
        folders.append(folder / f"{length:g}-seconds")
        write_videos(clips, folders[-1], count=4, seconds=length, size=size)
    command = [
        sys.executable,
        __file__,
        "--folder",
        str(backbone),
        "--peaks-of",
        *map(str, folders),
    ]
    environment = {**ASLEEP, **os.environ}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    short, long = (size / 1e9 for size in json.loads(done.stdout.splitlines()[-1]))
    return [
        Figure(
            figure="memory beside the model, 4 decoders, GB",
            value=long,
            unit="GB",
            at_most=MOST_MEMORY,
        ),
        Figure(
            figure="memory of long videos over that of videos a quarter as long",
            value=long / short,
            unit="x",
            at_most=1.2,
        ),
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1080))
    parser.add_argument("--long", type=float, default=3600.0)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[*BACKBONES])
    parser.add_argument("--edge", type=int, default=224)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peaks-of", type=Path, nargs="+")
    parser.add_argument("--seconds-of", type=Path)
    parser.add_argument("--parts-of", type=Path)
    options = parser.parse_args()
    if options.seconds_of is not None:
        seconds_of(options.folder, options.seconds_of)
        return
    if options.peaks_of is not None:
        peaks(options.folder, options.peaks_of)
        return
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if options.parts_of is not None:
        paths = videos_in(options.parts_of)
        for kind in options.backbones:
            found = measure(kind, options.folder, paths, options.repeats, options.ffmpeg)
            print(json.dumps([asdict(each) for each in found]))
        return
    clips, size = DATA / "clips", tuple(options.size)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for kind in options.backbones:
            save_backbone(folder / kind, kind, options.edge)
        for count in range(1, options.videos + 1):
            videos = folder / f"{count}-videos"
            write_videos(clips, videos, count=count, seconds=options.seconds, size=size)
            figures += in_a_process(folder, videos, options)
            first = folder / options.backbones[0]
            figures.append(asleep_over_awake(first, videos, options.repeats))
        figures += memory(folder, folder / options.backbones[0], clips, options.long, size)
    for figure in figures:
        print(f"{figure.figure:60}{figure.value:10.2f} {figure.unit}")
    finish("extraction", figures, record=options.record)


if __name__ == "__main__":
    main()
