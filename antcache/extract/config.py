"""Settings of a pass.

Promise: what can't be together is refused here; what does not suit a backbone or a store is refused
before anything is decoded (`plan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from antcache.annotations.protocols import Anchor, Gap
from antcache.checks import Count, Positive, Range, check_types
from antcache.devices import usable_cores
from antcache.errors import BadConfig
from antcache.store.format import check_name

Rate = Annotated[float, Range(0.01, 1000)]
"""Per second."""
Ahead = Annotated[float, Range(0, 3600, above=True)]
"""Seconds after a row."""


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Settings of a pass.

    Attributes:
        fps: rows per second, where they are at a uniform rate.
        stream: name of the stream in the store.
        dtype: how rows are stored: float16 or float32; tokens also in int8, with a scale each.
        batch_size: rows that go through the backbone at once; None: about 32 frames' worth.
        decoders: how many videos are decoded at once; None: one per core but one.
        clip_fps: frames per second within a clip; None: as the model's family was trained. Only
            for backbones that see clips.
        max_gap_s: how far apart two frames of a video may be, in seconds.
        allow_partial: accept videos that end before the end that they state.
        decoder: what decodes: `cpu`; `nvdec`: a GPU of NVIDIA.
        tokens: None: a row is one vector; `full`: all tokens of the backbone's last layer; a grid
            (time, height, width): their means over cells.
        future: seconds after a row, in each of which the backbone predicts tokens that are kept
            after the others.
        at: `uniform`: rows at `fps`; `windows`: rows only where windows of labelled segments end.
        gaps: seconds before an anchor at which windows end; empty: the gap of the dataset.
        anchors: parts of a segment that gaps are counted from, 0 its start and 1 its end; empty:
            the start.
        splits: of the labels, whose segments count; empty: all.
    """

    fps: Rate = 4.0
    stream: str = "rgb"
    dtype: Literal["float16", "float32", "int8"] = "float16"
    batch_size: Count | None = None
    decoders: Annotated[int, Range(1, 1024)] | None = None
    clip_fps: Rate | None = None
    max_gap_s: Positive = 2.0
    allow_partial: bool = False
    decoder: Literal["cpu", "nvdec"] = "cpu"
    tokens: Literal["full"] | tuple[Count, Count, Count] | None = None
    future: tuple[Ahead, ...] = ()
    at: Literal["uniform", "windows"] = "uniform"
    gaps: tuple[Gap, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    splits: tuple[str, ...] = ()

    def decoders_for(self, videos: int) -> int:
        """How many of so many videos are decoded at once."""
        return max(1, min(self.decoders or usable_cores() - 1, videos))

    def __post_init__(self) -> None:
        check_name(self.stream, "stream")
        check_types(self)
        for name in ("future", "gaps", "anchors", "splits"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise BadConfig(f"impossible {name}", expected="different ones", found=values)
        if self.tokens is None:
            needing = {
                "`dtype` int8": self.dtype == "int8",
                "`future`": bool(self.future),
                "`at` windows": self.at == "windows",
            }
            if asked := [name for name, given in needing.items() if given]:
                raise BadConfig(
                    f"{' and '.join(asked)} only with tokens",
                    hint="give `tokens`: full, or a grid; 1x1x1 is the mean of all",
                )
        if self.at == "uniform":
            given = [f"`{n}`" for n in ("gaps", "anchors", "splits") if getattr(self, n)]
            if given:
                raise BadConfig(f"{', '.join(given)} only with `at` windows")
