"""What the two sides of a comparison are called: after their runs, unless names are given.

Promise: the two names differ, and neither is empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from antcache.errors import BadConfig
from antcache.evaluation.predictions import FILE_NAME, HELD_OUT


def side_names(
    a: Sequence[str], b: Sequence[str], given: Sequence[str] | None = None
) -> tuple[str, str]:
    """Names of A and B: the last parts of their runs' paths, as many as tell them apart.

    Of several seeds it is what their names begin with: `plain` for `plain-0` and `plain-1`.

    Args:
        a: runs of A, at least one.
        b: runs of B.
        given: both names, in place of these; None or empty: none are given.

    Raises:
        BadConfig: another number of names than two, equal ones, or an empty one.
    """
    if given:
        if len(given) != 2 or not all(given) or given[0] == given[1]:
            raise BadConfig(
                "impossible names", expected="two different ones, of A and B", found=list(given)
            )
        return given[0], given[1]
    paths = [[_parts(run) for run in side] for side in (a, b)]
    deepest = max(len(path) for side in paths for path in side)
    for depth in range(1, deepest + 1):
        first, second = (_common(["/".join(path[-depth:]) for path in side]) for side in paths)
        if first != second:
            return first, second
    alike = _common([path[-1] for path in paths[0]])
    return f"{alike} (A)", f"{alike} (B)"


def _parts(run: str) -> tuple[str, ...]:
    """Parts of a run's path without what every run's has."""
    path = Path(os.path.abspath(run))  # noqa: PTH100  `resolve` would follow links
    if path.name in (FILE_NAME, HELD_OUT):
        path = path.parent
    return path.with_name(path.name.removesuffix(".safetensors")).parts[1:] or (run,)


def _common(names: Sequence[str]) -> str:
    """What the names of several seeds have in common, or the first of them."""
    if len(set(names)) == 1:
        return names[0]
    letters = takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    shared = "".join(column[0] for column in letters)
    if any(name[len(shared) : len(shared) + 1].isdigit() for name in names):
        shared = shared.rstrip("0123456789")  # plain-1 of plain-10 and plain-11
    shared = re.sub(r"[\W_]+$", "", shared)
    return shared or f"{names[0]} and {len(names) - 1} more"
