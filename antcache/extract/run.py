"""The one-time pass: every video of a folder through a frozen backbone, into a stream of the store.

Promise: a video is in the store completely or not at all, so an interrupted run (Ctrl-C, a crash)
is resumed by running it again, which does just what is missing. Processes that run the same pass at
the same time share the videos. A stream that was made with other settings is refused before
anything is decoded. A video that can't be read goes into the ledger and the pass goes on; any other
error ends it. Decoding runs in a thread of its own and overlaps the backbone; at most `READ_AHEAD`
pictures wait between them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.checks import Count, Positive, Range, check_types
from antcache.errors import AlreadyExists, BadConfig, UnreadableVideo, WriteFailed
from antcache.extract.backbone import Backbone
from antcache.extract.ledger import Failure, Ledger
from antcache.extract.own import OwnBackbone, TriedBackbone, try_own
from antcache.extract.prefetch import prefetch
from antcache.extract.rows.sampling import Sampling, exact_rate
from antcache.extract.tally import ExtractionTally
from antcache.extract.turns import take_turns
from antcache.extract.videos.decode import CONVENTION, VideoSampler
from antcache.extract.videos.film import duration_s
from antcache.extract.videos.finding import Videos
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.format import check_name
from antcache.text import utf8

logger = logging.getLogger(__name__)

READ_AHEAD = 16
"""Pictures that are decoded ahead of the backbone."""

FRAMES_PER_BATCH = 32
"""Frames that go through the backbone at once, unless a batch size is given."""

Rate = Annotated[float, Range(0.01, 1000)]
"""Per second."""

Loaded = Backbone | TriedBackbone
AnyBackbone = Loaded | OwnBackbone
"""What a pass takes: one of one's own is tried first, if `load_backbone` hasn't."""


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Settings of a pass.

    Attributes:
        fps: rows per second.
        stream: name of the stream in the store.
        dtype: how rows are stored, float16 or float32.
        batch_size: rows that go through the backbone at once; None: about 32 frames' worth.
        clip_fps: frames per second within a clip; None: as the model's family was trained. Only
            for backbones that see clips.
        max_gap_s: how far apart two frames of a video may be, in seconds.
        allow_partial: accept videos that end before the end that they state.
    """

    fps: Rate = 4.0
    stream: str = "rgb"
    dtype: Literal["float16", "float32"] = "float16"
    batch_size: Count | None = None
    clip_fps: Rate | None = None
    max_gap_s: Positive = 2.0
    allow_partial: bool = False

    def __post_init__(self) -> None:
        check_name(self.stream, "stream")
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a pass will do.

    Attributes:
        done: videos that are complete in the stream.
        to_do: the others, with their stated lengths in seconds (None: not stated, or unreadable).
        failed_before: those among `to_do` that failed in an earlier pass, with the reason.
    """

    done: tuple[str, ...]
    to_do: dict[str, float | None]
    failed_before: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a pass did.

    Attributes:
        stream: name of the stream.
        written: videos that are new in the stream.
        skipped: videos that were in it before, or that another process wrote meanwhile.
        failed: videos that could not be read, or be called as they are.
        rows: rows written.
        seconds: how long it took.
    """

    stream: str
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]
    rows: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def check_settings(backbone: AnyBackbone, config: ExtractConfig) -> None:
    """Raise `BadConfig` if `config` does not suit the backbone."""
    _sampling(_loaded(backbone), config)


def make_plan(
    videos: Mapping[str, Path], store: Store | None, backbone: AnyBackbone, config: ExtractConfig
) -> Plan:
    """What `extract` would do; nothing is written. `store` is None where none exists yet.

    Raises:
        FingerprintMismatch: the stream was made with other settings.
        BadConfig: `config` does not suit the backbone.
        UnknownBackbone: a backbone of one's own is none.
    """
    backbone = _loaded(backbone)
    check_settings(backbone, config)
    done: list[str] = []
    reasons: dict[str, str] = {}
    if store is not None:
        if config.stream in store.streams():
            _create_stream(store, backbone, config)  # compares only: it exists
            done = [name for name in store.videos(config.stream) if name in videos]
        entries = Ledger(store.path).read()
        reasons = {f.video: f.error for f in entries if f.stream == config.stream}
    to_do = {name: duration_s(videos[name]) for name in sorted(videos.keys() - set(done))}
    return Plan(
        done=tuple(done),
        to_do=to_do,
        failed_before={name: reasons[name] for name in to_do if name in reasons},
    )


def extract(
    videos: Mapping[str, Path],
    store: Store,
    backbone: AnyBackbone,
    config: ExtractConfig | None = None,
    progress: Progress = silent,
) -> ExtractReport:
    """Write the features of `videos` (from `find_videos`) into a stream of the store.

    Row r of a video was seen at `start_s + r / fps`, and shows the last frame at or before that;
    `start_s` is the time of its first frame. `progress` is called with "videos" and "rows". Videos
    that another process is at are left to it, and waited for at the end.

    Raises:
        FingerprintMismatch: the stream was made with other settings; nothing was decoded.
        BadConfig: `config` does not suit the backbone, or features don't fit its `dtype`.
        UnknownBackbone: a backbone of one's own is none, or stops being one.
    """
    began = time.monotonic()
    config = config or ExtractConfig()
    backbone = _loaded(backbone)
    sampling = _sampling(backbone, config)
    plan = make_plan(videos, store, backbone, config)
    _create_stream(store, backbone, config)
    logger.info("extract: %d videos, %d are in %s", len(videos), len(plan.done), store.path)
    tally = ExtractionTally(
        progress=progress,
        expected={name: (s or 0.0) * config.fps for name, s in plan.to_do.items()},
    )
    ledger = Ledger(store.path)
    ledger.succeeded(config.stream, *plan.done)  # a killed process may not have come to say so
    ledger.clear_renamed(config.stream)
    written: list[str] = []
    skipped = list(plan.done)
    failed: list[Failure] = []
    for each in videos.refused if isinstance(videos, Videos) else ():
        failed.append(ledger.failed(config.stream, each.name, each.path, each.error))
        logger.error("failed: %s", each.error)
    tally.show()
    turns = take_turns(
        plan.to_do,
        claim=partial(store.claim_features, config.stream),
        is_done=partial(store.has_features, config.stream),
        waiting=tally.show,
    )
    with closing(turns):
        for name, ours in turns:
            before = tally.rows
            try:
                if ours:
                    _extract_one(name, videos[name], store, backbone, config, sampling, tally)
            except UnreadableVideo as error:
                failed.append(ledger.failed(config.stream, name, videos[name], error))
                logger.error("failed: %s", error)
                tally.rows = before
            except AlreadyExists as error:
                if not store.has_features(config.stream, name):
                    raise WriteFailed(  # at a URL: it may yet be killed, so this is no success
                        "another process is writing this video now",
                        where=f"{store.path}: features/{config.stream}/{name}",
                        hint="run the command again when it is done",
                    ) from error
                skipped.append(name)
                logger.warning("%s: another process wrote it meanwhile; its rows are kept", name)
                tally.rows = before
            else:
                (written if ours else skipped).append(name)
                ledger.succeeded(config.stream, name)
            tally.expected[name] = tally.rows - before
            tally.videos += 1
            tally.show()
    # Also after those whose videos were all done when they were killed.
    store.backend.remove_leftovers()
    report = ExtractReport(
        stream=config.stream,
        written=tuple(written),
        skipped=tuple(skipped),
        failed=tuple(failed),
        rows=tally.rows,
        seconds=time.monotonic() - began,
    )
    logger.info(
        "extract: %d written (%d rows), %d skipped, %d failed, %.1f s",
        *(len(written), report.rows, len(skipped), len(failed), report.seconds),
    )
    return report


def _extract_one(
    name: str,
    path: Path,
    store: Store,
    backbone: Loaded,
    config: ExtractConfig,
    sampling: Sampling,
    tally: ExtractionTally,
) -> None:
    """Decode, embed and publish one video."""
    sampler = VideoSampler(
        path,
        rate=sampling.rate,
        wanted=sampling.wanted,
        max_gap_s=config.max_gap_s,
        allow_partial=config.allow_partial,
    )
    rows: list[NDArray[Any]] = []
    with closing(_batches(sampler, backbone, config, sampling)) as batches:
        for batch in batches:
            stored = backbone(batch).to(getattr(torch, config.dtype)).cpu()
            if not stored.isfinite().all():
                raise BadConfig(
                    f"features that {config.dtype} can't hold (infinite or not a number)",
                    where=path,
                    hint="--dtype float32" if config.dtype == "float16" else "another backbone",
                )
            rows.append(stored.numpy())
            tally.add(len(stored))
    store.write_features(
        config.stream,
        name,
        np.concatenate(rows),
        start_s=sampler.start_s,
        attributes={
            "file": utf8(path.name),
            "frames": sampler.num_frames,
            "skipped_packets": sampler.skipped_packets,
            "skipped_frames": sampler.skipped_frames,
            "ended_early": sampler.ended_early,
            "pixel_aspect": float(sampler.pixel_aspect),
            "precision": backbone.precision,
        },
    )
    logger.info(
        "%s: %d rows from %d frames, %d packets and %d frames skipped%s",
        *(name, sum(map(len, rows)), sampler.num_frames),
        *(sampler.skipped_packets, sampler.skipped_frames),
        ", ended early" if sampler.ended_early else "",
    )


def _batches(
    sampler: VideoSampler, backbone: Loaded, config: ExtractConfig, sampling: Sampling
) -> Generator[Tensor, None, None]:
    """Pixels (B, T, 3, height, width) of consecutive rows; those of a batch have one shape.

    Pictures of a film may change their shape, and some backbones see them in it.
    """
    size = config.batch_size or max(1, FRAMES_PER_BATCH // sampling.num_frames)
    pixels: dict[int, Tensor] = {}  # by tick: what later rows may still look at
    clips: list[Tensor] = []
    with closing(prefetch(iter(sampler), READ_AHEAD)) as pictures:
        for tick, picture in pictures:
            on_device = torch.from_numpy(picture).to(backbone.device)
            pixels[tick] = backbone.preprocess(on_device[None])[0]
            ticks = sampling.clip_ending_at(tick)
            if ticks is not None:
                frames = [pixels[t] for t in ticks]
                if clips and clips[0].shape[1:] != frames[-1].shape:
                    yield torch.stack(clips)
                    clips = []
                clips.append(_clip(frames, sampler.path))
            oldest = sampling.oldest_needed_after(tick)
            pixels = {t: p for t, p in pixels.items() if t >= oldest}
            if len(clips) == size:
                yield torch.stack(clips)
                clips = []
        if clips:
            yield torch.stack(clips)


def _clip(frames: list[Tensor], path: Path) -> Tensor:
    """The frames (T, ...) of a clip, which have one shape."""
    shapes = [tuple(frame.shape) for frame in frames]
    if len(set(shapes)) > 1:
        raise UnreadableVideo(
            "its pictures change their shape within a clip",
            where=path,
            expected=shapes[0],
            found=shapes[-1],
            hint="a backbone of pictures, or one that brings all to one size, takes them",
        )
    return torch.stack(frames)


def _loaded(backbone: AnyBackbone) -> Loaded:
    """The backbone, tried if it is one's own."""
    return backbone if isinstance(backbone, Loaded) else try_own(backbone)


def _sampling(backbone: Loaded, config: ExtractConfig) -> Sampling:
    """Rows and clips as `config` and the backbone want them."""
    clips = backbone.num_frames > 1 or backbone.clip_fps is not None
    if not clips and config.clip_fps is not None:
        raise BadConfig(
            "`clip_fps` is for backbones that see clips",
            where=backbone.name,
            found=config.clip_fps,
            hint="leave it out; this one sees single frames",
        )
    clip_fps = config.clip_fps or backbone.clip_fps
    if clips and clip_fps is None:
        raise BadConfig(
            "`clip_fps` is needed: nothing says how far the "
            f"{backbone.num_frames} frames of a clip lie apart",
            where=backbone.name,
            hint="give `clip_fps`, or the object an attribute of that name",
        )
    return Sampling.of(config.fps, num_frames=backbone.num_frames, clip_fps=clip_fps)


def _create_stream(store: Store, backbone: Loaded, config: ExtractConfig) -> None:
    sampling = _sampling(backbone, config)
    clip = {"frames": sampling.num_frames, "fps": float(sampling.rate / sampling.clip_step)}
    store.create_stream(
        config.stream,
        dim=backbone.dim,
        dtype=config.dtype,
        fps=float(exact_rate(config.fps)),
        source=backbone.name,
        config={
            **backbone.config,
            "clip": clip if backbone.num_frames > 1 else None,
            "decoding": CONVENTION,
        },
    )
