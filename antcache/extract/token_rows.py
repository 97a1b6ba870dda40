"""What of a backbone's tokens becomes a row: its grid, or the means over cells, and futures.

Promise: pooling runs where the tokens are, in float32, and gives what `store.pooling` gives; what a
backbone can't give is refused in one line.
Letters: B rows, K tokens of a row, D width of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, prod
from typing import Literal, Protocol

import torch
from torch import Tensor

from antcache.errors import BadConfig
from antcache.extract.rows.sampling import exact_rate
from antcache.store.pooling import check_pooling
from antcache.store.tokens import Grid, count_tokens


class TokenBackbone(Protocol):
    """What of a backbone is asked here."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""

    @property
    def grid(self) -> Grid | None:
        """Its tokens in time, height and width."""

    @property
    def no_grid(self) -> str:
        """Why it has none."""

    @property
    def predicts(self) -> bool:
        """Whether it predicts tokens of the future."""

    def tokens(self, pixels: Tensor, ahead: Sequence[int] = ()) -> Tensor:
        """Tokens (B, K, D) float32 of pixels (B, T, ...)."""


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Rows of tokens.

    Attributes:
        backbone: what makes them.
        full: the backbone's own grid.
        grid: that of a row.
        future: gaps in seconds of predicted futures, ascending: their order is no setting.
        ahead: for each of them, how many tokens of time it lies after the grid's last.
    """

    backbone: TokenBackbone
    full: Grid
    grid: Grid
    future: tuple[float, ...]
    ahead: tuple[int, ...]

    @classmethod
    def of(
        cls,
        backbone: TokenBackbone,
        tokens: Literal["full"] | Grid,
        future: tuple[float, ...],
        clip_fps: float | None,
    ) -> TokenRows:
        """Rows as they are asked for; `clip_fps` is that of a backbone that sees clips.

        Raises:
            BadConfig: the backbone has no grid, or another one, or predicts nothing, or one and the
                same for two futures.
        """
        full = backbone.grid
        if full is None:
            raise BadConfig(
                "the backbone has no grid of tokens", where=backbone.name, found=backbone.no_grid
            )
        if future and not backbone.predicts:
            raise BadConfig(
                "`future` is for backbones that predict tokens",
                where=backbone.name,
                expected="a vjepa2 model, which has a predictor",
            )
        if tokens != "full":
            check_pooling(full, tokens)
        future, rate = tuple(sorted(future)), exact_rate(clip_fps or 1.0)
        frames = backbone.num_frames // full[0]  # of a token
        ahead = tuple(floor(exact_rate(gap) * rate / frames) for gap in future)
        _check_apart(future, ahead, float(frames / rate))
        return cls(
            backbone=backbone,
            full=full,
            grid=full if tokens == "full" else tokens,
            future=future,
            ahead=ahead,
        )

    @property
    def count(self) -> int:
        """K."""
        return count_tokens(self.grid, len(self.future))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Tokens (B, K, D) float32 of pixels (B, T, ...)."""
        return pooled(self.backbone.tokens(pixels, self.ahead), self.full, self.grid)


def _check_apart(future: tuple[float, ...], ahead: tuple[int, ...], step_s: float) -> None:
    """Refuse futures of which the predictor has the same tokens, which would be stored twice."""
    for one, other, first, second in zip(future, future[1:], ahead, ahead[1:], strict=False):
        if first == second:
            raise BadConfig(
                "`future` has two times for which the backbone predicts the same tokens",
                expected=f"times in different steps of {step_s:g} s",
                found=f"{one:g} and {other:g} s",
                hint="leave one out, or raise `clip_fps`, which shortens the steps",
            )


def pooled(tokens: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Tokens (B, K, D) of a grid, and of futures after them, as those of a smaller one."""
    if grid == to:
        return tokens
    present, plane = prod(grid), grid[1] * grid[2]
    sides = (to[1], grid[1] // to[1], to[2], grid[2] // to[2])

    def means(part: Tensor, times: int, cell: int) -> Tensor:
        cells = part.reshape(len(part), times, cell, *sides, part.shape[2])
        return cells.mean((2, 4, 6)).flatten(1, 3)

    parts = [means(tokens[:, :present], to[0], grid[0] // to[0])]
    if futures := (tokens.shape[1] - present) // plane:
        parts.append(means(tokens[:, present:], futures, 1))
    return torch.cat(parts, dim=1)
