"""A film at its own speed, watched with untrained models of published sizes: from frame to answer.

The film is noise that wanders, 640 x 480 at 30 frames a second in H.264, with one decoder beside
the models on the same machine, as `antcache watch` has it. Four rows a second; the delay of an
answer begins when its newest row is due.

And the same with a teacher that listens (`antcache watch --teacher`): an untrained recogniser, and
a count teacher of made-up videos; also what a tick of it costs alone, recogniser and search
together, of rows of noise, after which no guess is like one before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from record import Figure

from antcache.annotations import Protocol, Segments
from antcache.annotations.taxonomy import Taxonomy
from antcache.devices import pick_device
from antcache.extract import ExtractConfig, load_backbone
from antcache.extract.engines.video import RowMaker
from antcache.extract.plan import RowRecipe
from antcache.predict import Anticipator
from antcache.predict.held import RowPlace
from antcache.predict.listening.hearing import ListenConfig, log_prior
from antcache.predict.listening.listener import KnownPast, Listener
from antcache.predict.live.history import LiveHistory
from antcache.predict.live.watching import Watch, WatchReport
from antcache.store import Stream
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import Predictor, build_student
from antcache.student.presets import find_preset
from antcache.student.runs.kept import KeptStudent
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig, Timeline

VIT = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
"""ViT-S/16, of pictures of 224 x 224."""
GRU = StudentConfig.of(head="gru")
PROTOCOL = Protocol(gap_s=1.0, num_frames=10, rate=1.0)
NOW = Protocol(gap_s=0.0, num_frames=10, rate=1.0, anchor=0.5)
SEGMENTS, VIDEOS = 23_493, 438
"""Training segments and videos of EPIC-KITCHENS-55, about."""
CLASSES = 2513
"""Actions of EPIC-KITCHENS-55."""
FPS, HEIGHT, WIDTH = 30, 480, 640
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": 224, "width": 224},
}


def published(name: str, share: float) -> StudentConfig:
    """A preset with a share of its width."""
    found = find_preset(name)
    return found.replace(width=round(share * found.model.width))


def write_film(path: Path, seconds: float) -> Path:
    """Noise that wanders."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    large = noise.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(round(seconds * FPS) + 1):
            picture = np.ascontiguousarray(np.roll(large, (number, 2 * number), axis=(0, 1)))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_backbone(folder: Path, sizes: dict[str, int]) -> Path:
    """A ViT with random weights."""
    from transformers import ViTConfig, ViTModel

    inner = 4 * sizes["hidden_size"]
    ViTModel(ViTConfig(**sizes, intermediate_size=inner)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def taxonomy() -> Taxonomy:
    """As many classes as EPIC-KITCHENS-55 has."""
    actions = tuple(f"action {i}" for i in range(CLASSES))
    numbers = tuple(range(CLASSES))
    return Taxonomy(
        dataset="none",
        verbs=actions,
        nouns=("thing",),
        actions=actions,
        action_verbs=numbers,
        action_nouns=(0,) * CLASSES,
    )


def student_of(
    config: StudentConfig, dim: int, device: torch.device, protocol: Protocol = PROTOCOL
) -> KeptStudent:
    """An untrained one."""
    shape = ModelShape(dims=(dim,), num_classes=CLASSES, num_frames=PROTOCOL.num_frames)
    model = build_student(config, shape)
    return KeptStudent(
        config=config,
        protocol=protocol,
        taxonomy=taxonomy(),
        streams=(),
        shape=shape,
        predictor=Predictor(model, config.runtime.precision, device),
    )


def listener_of(dim: int, device: torch.device) -> Listener:
    """An untrained recogniser, and a teacher that counted made-up videos."""
    rng = np.random.default_rng(0)
    action, lasted = rng.integers(0, CLASSES, SEGMENTS), rng.lognormal(1.0, 0.8, SEGMENTS)
    video = np.sort(rng.integers(0, VIDEOS, SEGMENTS))
    stop = np.cumsum(lasted)
    segments = Segments.of(
        uid=np.arange(SEGMENTS).astype(np.str_),
        video=video.astype(np.str_),
        start_s=stop - lasted,
        stop_s=stop,
        verb=action,
        noun=np.zeros_like(action),
        action=action,
    )
    teacher = make_teacher("count", taxonomy())
    timeline = Timeline.of({"train": segments}, taxonomy())
    teacher.fit(timeline.examples(HistoryConfig(), teacher.config.length))
    past = KnownPast.of(segments, log_prior(action, CLASSES))
    config = ListenConfig()
    return Listener(
        recogniser=student_of(GRU, dim, device, NOW),
        guessed=past.guessing(teacher, config, PROTOCOL.gap_s),
        past=past,
        config=config,
        weights=(0.5, 0.5),
        temperature=1.0,
        gap_s=PROTOCOL.gap_s,
        mark="",
    )


def tick_seconds(anticipator: Anticipator, listener: Listener, ticks: int) -> list[float]:
    """What each tick takes of a teacher that is told of noise."""
    stream, rng = anticipator.make.stream, np.random.default_rng(0)
    history = LiveHistory(anticipator, listener, "noise")
    history.warm_up()
    found = []
    for number in range(round(ticks * stream.fps) + 1):
        row = rng.standard_normal((1, *stream.row_shape)).astype(stream.dtype)
        history.take(RowPlace(number, 0.0), (row, None))
        if number and number % stream.fps == 0:
            began = time.perf_counter()
            history.expected(number / stream.fps)
            found.append(time.perf_counter() - began)
    assert history.heard.ticks == ticks
    return found


def watched(
    film: Path, make: RowMaker, large: StudentConfig, device: torch.device, listener: Listener
) -> Iterator[tuple[str, WatchReport]]:
    """What was seen, by head."""
    heads: dict[str, tuple[StudentConfig, Listener | None]] = {
        "gru": (GRU, None),
        "avth, ek55-tsn": (large, None),
        "gru, a teacher that listens": (GRU, listener),
    }
    for head, (config, teacher) in heads.items():
        student = student_of(config, make.stream.dim, device)
        watch = Watch(Anticipator(student=student, make=make, listener=teacher), film)
        for _ in watch.answers():
            pass
        yield f"ViT-S/16, {head}", watch.report()


def live_figures(folder: Path, seconds: float, share: float) -> list[Figure]:
    """Delay and dropped rows of each; printed as they come."""
    device = pick_device("auto")
    at = write_backbone(folder / "vit", VIT | {"hidden_size": round(share * VIT["hidden_size"])})
    recipe = RowRecipe.of(load_backbone(str(at), device=str(device)), ExtractConfig(fps=4.0))
    make = RowMaker(recipe=recipe, stream=Stream(**recipe.stream(None)))
    listener = listener_of(make.stream.dim, device)
    student = student_of(GRU, make.stream.dim, device)
    anticipator = Anticipator(student=student, make=make, listener=listener)
    took = 1000 * np.asarray(tick_seconds(anticipator, listener, max(2, round(4 * seconds))))
    tick, late = float(np.median(took)), float(np.quantile(took, 0.95))
    name = "a tick of a teacher that listens"
    print(f"{name:28}{tick:10.1f} ms{late:10.1f} ms (95th percentile)", flush=True)
    figures = [
        Figure(figure=f"live: {name}{part}", value=round(value, 2), unit="ms", n=len(took))
        for part, value in (("", tick), (", 95th percentile", late))
    ]
    film = write_film(folder / "film.mp4", seconds)
    for name, report in watched(film, make, published("ek55-tsn", share), device, listener):
        assert report.delay_s is not None
        assert report.delay_p95_s is not None
        dropped = 100 * report.dropped / report.rows
        median, p95 = 1000 * report.delay_s, 1000 * report.delay_p95_s
        print(
            f"{name:28}{median:10.0f} ms{p95:10.0f} ms (95th percentile) from frame to answer, "
            f"{dropped:.0f} % of {report.rows} rows dropped",
            flush=True,
        )
        for figure, value, unit in (
            (f"live: {name}", median, "ms"),
            (f"live: {name}, 95th percentile", p95, "ms"),
            (f"live: {name}, rows dropped", dropped, "%"),
        ):
            figures.append(Figure(figure=figure, value=round(value, 1), unit=unit, n=report.rows))
    return figures
