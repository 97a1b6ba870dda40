"""What a pass will do, before anything is decoded: which rows, of which videos, into which stream.

Promise: what does not suit the backbone, the stream or the labels is refused here, in one line. A
video that is complete stays as it is; if it was made for other labels, so that rows are lacking
now, it is named, and a pass is refused until it is removed or other splits are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from antcache.annotations import Segments
from antcache.annotations.protocols import protocol_for
from antcache.errors import BadConfig, MissingKey
from antcache.extract.backbone import Backbone
from antcache.extract.config import ExtractConfig
from antcache.extract.own import OwnBackbone, TriedBackbone, try_own
from antcache.extract.rows.moments import Times, lacking, window_times, within
from antcache.extract.rows.pixels import FRAMES_PER_BATCH, PixelRecipe
from antcache.extract.rows.sampling import exact_rate
from antcache.extract.shards import VideoShard
from antcache.extract.token_rows import TokenRows
from antcache.extract.videos.changed import changed_files
from antcache.extract.videos.decode import CONVENTION, source_of
from antcache.extract.videos.nvdec import check_decoder
from antcache.extract.videos.source import VideoSource
from antcache.store import Store
from antcache.store.features import Stream
from antcache.store.local.ledger import Ledger
from antcache.text import listed

Loaded = Backbone | TriedBackbone
AnyBackbone = Loaded | OwnBackbone
"""What a pass takes: one of one's own is tried first, if `load_backbone` hasn't."""

LAST_S = "last_s"
"""Attribute of a video's rows: the time of its last frame, in seconds."""


@dataclass(frozen=True, kw_only=True)
class RowRecipe:
    """A backbone and settings that suit it: how rows are made.

    Attributes:
        backbone: what makes them.
        config: settings of the pass.
        clip_fps: frames per second within a clip; None for single frames.
        tokens: rows of tokens, or None.
    """

    backbone: Loaded
    config: ExtractConfig
    clip_fps: float | None
    tokens: TokenRows | None

    @classmethod
    def of(cls, backbone: AnyBackbone, config: ExtractConfig) -> RowRecipe:
        """Raises `BadConfig` if `config` does not suit the backbone or this machine,
        `UnknownBackbone` if that is none."""
        check_decoder(config.decoder)
        loaded = backbone if isinstance(backbone, Loaded) else try_own(backbone)
        clip_fps = _clip_fps(loaded, config)
        tokens = None
        if config.tokens is not None:
            tokens = TokenRows.of(loaded, config.tokens, config.future, clip_fps)
        return cls(backbone=loaded, config=config, clip_fps=clip_fps, tokens=tokens)

    @property
    def pixels(self) -> PixelRecipe:
        """How a video becomes what `make` takes."""
        config, frames = self.config, self.backbone.num_frames
        return PixelRecipe(
            prepare=self.backbone.prepare,
            num_frames=frames,
            clip_fps=self.clip_fps,
            fps=config.fps,
            batch_size=config.batch_size or max(1, FRAMES_PER_BATCH // frames),
            max_gap_s=config.max_gap_s,
            allow_partial=config.allow_partial,
        )

    def make(self, prepared: Tensor) -> Tensor:
        """Rows (B, D) or (B, K, D) float32 of a batch (B, T, ...) as `pixels` gives it."""
        return (self.tokens or self.backbone)(self.backbone.finish(prepared))

    def stream(self, at: Mapping[str, list[float]] | None) -> dict[str, Any]:
        """Settings of the stream, as `Store.create_stream` takes them.

        Args:
            at: anchors and gaps of rows at windows, None for a uniform rate.
        """
        fps = self.config.fps if at is None else self.clip_fps or 1.0
        rate = float(exact_rate(fps))
        clip = {"frames": self.backbone.num_frames, "fps": float(exact_rate(self.clip_fps or 1.0))}
        about = {
            **self.backbone.config,
            "clip": clip if self.backbone.num_frames > 1 else None,
            "decoding": CONVENTION,
        }
        settings: dict[str, Any] = {
            "name": self.config.stream,
            "dim": self.backbone.dim,
            "dtype": self.config.dtype,
            "fps": rate,
            "source": self.backbone.name,
            "config": about,
        }
        if self.tokens is None:
            return settings
        own = self.tokens
        return {
            **settings,
            "config": about | {"pooling": "tokens"},
            "grid": own.grid,
            "future": own.future,
            "at": at,
            "pooled_from": None if own.full == own.grid else own.full,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a pass will do.

    Attributes:
        done: videos that are complete in the stream, as far as is known from the files of now.
        to_do: the others, with their stated lengths in seconds (None: not stated, or unreadable).
        failed_before: those among `to_do` that failed in an earlier pass, with the reason.
        row_bytes: what a row takes.
        rows: rows of each video to do, where they are at windows; fewer if some lie outside of it.
        unlabelled: videos in which no window ends, so that there is nothing to do.
        outdated: videos that are complete and lack rows that the labels now ask for, with how many.
        changed: videos that are complete, but from another file than is given now, with what to do;
            the pass lists them as failed.
        shard: which part of the videos this is, as `2/4`; None: all.
    """

    done: tuple[str, ...]
    to_do: dict[str, float | None]
    failed_before: dict[str, str]
    row_bytes: int
    rows: dict[str, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    outdated: dict[str, int] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    shard: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class WindowTimes:
    """Where rows at windows are needed.

    Attributes:
        at: anchors and gaps, as the stream states them.
        times: by video, in seconds.
    """

    at: dict[str, list[float]]
    times: dict[str, Times]

    @classmethod
    def of(
        cls, store: Store | None, config: ExtractConfig, listed: Segments | None = None
    ) -> WindowTimes | None:
        """Of the labels in the store, or of segments without labels; None if rows are elsewhere.

        Raises:
            MissingKey: it has no labels, or none of such a split.
            BadConfig: `config` does not ask for rows at windows of a list.
        """
        if listed is not None and (config.at != "windows" or config.splits):
            raise BadConfig(
                "a list of segments stands in for splits of labels, with `at` windows only",
                expected="`at` windows, and no `splits`",
                found=f"`at` {config.at}, `splits` {', '.join(config.splits) or 'none'}",
            )
        if config.at != "windows":
            return None
        splits = [] if store is None else list(config.splits or store.splits())
        if listed is not None:
            segments: Iterable[Segments] = [listed]
        elif store is not None and splits:
            segments = map(store.labels, splits)
        else:
            raise MissingKey(
                "rows at windows need labels in the store",
                where="" if store is None else store.path,
                hint="antcache annotations import writes them",
            )
        usual = protocol_for("") if store is None else store.protocol
        gaps, anchors = config.gaps or (usual.gap_s,), config.anchors or (usual.anchor,)
        at = {"anchors": sorted(anchors), "gaps": sorted(gaps)}
        return cls(at=at, times=window_times(segments, **at))


def check_settings(
    backbone: AnyBackbone,
    config: ExtractConfig,
    store: Store | None = None,
    segments: Segments | None = None,
) -> None:
    """Raise `BadConfig` if `config` does not suit the backbone or segments of a list, or asks for
    rows that no store holds, `MissingKey` if it needs labels that the store (None: there is none
    yet) lacks."""
    windows = WindowTimes.of(store, config, segments)
    Stream(**RowRecipe.of(backbone, config).stream(None if windows is None else windows.at))


def make_plan(
    videos: Mapping[str, Path | VideoSource],
    store: Store | None,
    backbone: AnyBackbone,
    config: ExtractConfig,
    segments: Segments | None = None,
    shard: VideoShard | None = None,
) -> Plan:
    """What `extract` would do; nothing is written. `store` is None where none exists yet.

    Raises:
        FingerprintMismatch: the stream was made with other settings.
        BadConfig: `config` does not suit the backbone, or no video has a labelled segment.
        MissingKey: the store has no labels, which rows at windows need.
        UnknownBackbone: a backbone of one's own is none.
    """
    recipe = RowRecipe.of(backbone, config)
    windows = WindowTimes.of(store, config, segments)
    return plan_of(recipe, videos, store, windows, shard)


def plan_of(
    recipe: RowRecipe,
    videos: Mapping[str, Path | VideoSource],
    store: Store | None,
    windows: WindowTimes | None,
    shard: VideoShard | None = None,
    *,
    by_index: bool = True,
) -> Plan:
    """`make_plan`, of what is known by then; without `by_index`, the store's videos are listed."""
    stream = recipe.config.stream
    settings = recipe.stream(None if windows is None else windows.at)
    ours = set(videos if shard is None else shard.part(videos))
    done: list[str] = []
    reasons: dict[str, str] = {}
    outdated: dict[str, int] = {}
    changed: dict[str, str] = {}
    if store is not None:
        if stream in store.streams():
            store.create_stream(**settings)  # compares only: it exists
            done = [name for name in store.videos(stream, listed=not by_index) if name in ours]
            changed = changed_files(store, stream, {name: videos[name] for name in done})
            done = [name for name in done if name not in changed]
            if windows is not None:
                outdated = _outdated(store, stream, done, windows)
        entries = Ledger(store.path).read()
        reasons = {f.video: f.error for f in entries if f.stream == stream}
    to_do = sorted(ours - set(done) - changed.keys())
    unlabelled = [] if windows is None else [name for name in to_do if name not in windows.times]
    if windows is not None and not windows.times.keys() & videos.keys():
        raise BadConfig(
            "none of the videos has a labelled segment",
            expected=f"such as {listed(list(windows.times))}",
            found=listed(sorted(videos)),
        )
    to_do = [name for name in to_do if name not in unlabelled]
    return Plan(
        done=tuple(done),
        to_do={name: source_of(videos[name]).duration_s() for name in to_do},
        failed_before={name: reasons[name] for name in to_do if name in reasons},
        row_bytes=_row_bytes(settings),
        rows={} if windows is None else {name: len(windows.times[name]) for name in to_do},
        unlabelled=tuple(unlabelled),
        outdated=outdated,
        changed=changed,
        shard=None if shard is None else str(shard),
    )


def _outdated(store: Store, stream: str, done: list[str], windows: WindowTimes) -> dict[str, int]:
    """How many rows each complete video lacks, of those that it would have if it were made now."""
    found = {}
    settings = store.stream(stream)
    for name in done:
        features = store.features(stream, name, settings=settings)
        attributes = store.backend.open(f"features/{stream}/{name}")[1]
        last_s = float(attributes.get(LAST_S, np.inf))
        asked = windows.times.get(name, np.empty(0))
        needed, _, _ = within(asked, features.start_s, last_s)
        if count := len(lacking(needed, features.seconds)):
            found[name] = count
    return found


def _row_bytes(settings: Mapping[str, Any]) -> int:
    stream = Stream(**settings)
    token = stream.dim * np.dtype(stream.dtype).itemsize
    scale = np.dtype(np.float16).itemsize if stream.dtype == "int8" else 0
    return stream.num_tokens * (token + scale)


def _clip_fps(backbone: Loaded, config: ExtractConfig) -> float | None:
    """Frames per second within a clip; None where a backbone sees single frames."""
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
    return clip_fps
