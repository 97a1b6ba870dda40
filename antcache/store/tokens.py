"""What a row of tokens is like: its grid, its predicted future, the times that it is kept for.

Promise: what comes out of a check is in one form, however it was given (a tuple, JSON's lists), and
names rows that a machine can hold; everything else is one `BadConfig`. Nothing is computed with a
number before it is known to be small.
Letters: K tokens of a row, D width of a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from antcache.checks import Range
from antcache.errors import BadConfig

Grid = tuple[int, int, int]
"""Tokens of a row: how many in time, in height, in width."""

MOST_TOKENS = 1 << 20
"""A side, and a number of tokens, beyond which a row is none. The largest video models of today
have 18,432."""

ROW_BYTES = 64 << 20
"""Longest row: what may lie in one compressed chunk (see `pieces.LONGEST_CHUNK_BYTES`)."""

SAME_S = 1e-6
"""Seconds, or parts of a segment, that differ by less are one."""

MOST_GAPS = 1024
"""More gaps, anchors or predicted futures than that are no list that somebody wrote."""

SHARE = Range(0, 1)
SECONDS = Range(0, 3600)
AFTER = Range(0, 3600, above=True)


def as_grid(name: str, value: object) -> Grid:
    """A grid out of a list or tuple of three whole numbers.

    Raises:
        BadConfig: it is none.
    """
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or not all(type(side) is int and 1 <= side <= MOST_TOKENS for side in value)
        or math.prod(value) > MOST_TOKENS
    ):
        raise BadConfig(
            f"impossible {name}",
            expected=f"tokens in time, height and width, at most {MOST_TOKENS} in all",
            found=f"{value!r:.80}",
        )
    return value[0], value[1], value[2]


def as_numbers(name: str, value: object, span: Range) -> tuple[float, ...]:
    """Distinct numbers of a range out of a list or tuple.

    Raises:
        BadConfig: they are none.
    """
    if not isinstance(value, list | tuple) or len(value) > MOST_GAPS:
        raise BadConfig(f"impossible {name}", expected="a list of numbers", found=f"{value!r:.80}")
    for each in value:
        if each not in span:
            raise BadConfig(f"impossible {name}", expected=span, found=f"{each!r:.80}")
    found = tuple(float(each) for each in value)
    if len(set(found)) < len(found):
        raise BadConfig(f"impossible {name}", expected="different numbers", found=f"{found!r:.80}")
    return found


def as_windows(value: object) -> dict[str, list[float]]:
    """Which times of a segment rows are kept for: `anchors` (0: its start, 1: its end) and `gaps`
    (seconds before an anchor).

    Raises:
        BadConfig: they are none.
    """
    if not isinstance(value, Mapping) or value.keys() != {"anchors", "gaps"}:
        raise BadConfig("impossible at", expected="anchors and gaps", found=f"{value!r:.80}")
    found: dict[str, Any] = {
        "anchors": list(as_numbers("anchors", value["anchors"], SHARE)),
        "gaps": list(as_numbers("gaps", value["gaps"], SECONDS)),
    }
    if not all(found.values()):
        raise BadConfig("impossible at", expected="an anchor and a gap at least", found=found)
    return found


def count_tokens(grid: Grid, num_future: int) -> int:
    """K: the grid's tokens, and after them those of one point in time for each predicted future."""
    return math.prod(grid) + num_future * grid[1] * grid[2]


def check_row(num_tokens: int, dim: int, itemsize: int) -> None:
    """Raise `BadConfig` if a row of so many tokens is longer than a row may be."""
    if num_tokens > MOST_TOKENS or dim > ROW_BYTES or num_tokens * dim * itemsize > ROW_BYTES:
        raise BadConfig(
            "a row of more tokens than a store holds",
            expected=f"at most {ROW_BYTES >> 20} MiB a row",
            found=f"{num_tokens} tokens of {dim!r:.20} numbers",
            hint="pool them to a smaller grid, or keep them in int8",
        )
