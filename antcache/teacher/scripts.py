"""Action scripts: sequences of actions that come from text, without any video.

Promise: a script file holds one script per line, its actions separated by a comma and a blank, each
as the taxonomy writes it (`take_pan, put_pan, open_tap`). Lines that are empty are passed over; an
action that the taxonomy does not have is an error that names file and line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.errors import BadAnnotations, NotFound
from antcache.teacher.histories import Examples
from antcache.untrusted import read_text

SEPARATOR = ", "


@dataclass(frozen=True, kw_only=True)
class Scripts:
    """S scripts, one after the other.

    Attributes:
        actions: (A,) int64 action ids.
        starts: (S + 1,) int64, script s is `actions[starts[s]:starts[s + 1]]`.
    """

    actions: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def examples(self, length: int) -> Examples:
        """Every action (A) with the last `length` actions of its script before it."""
        group = np.repeat(np.arange(len(self)), np.diff(self.starts))
        row = np.arange(len(self.actions))[:, None] + np.arange(-length, 0)[None, :]
        inside = row >= self.starts[group][:, None]
        return Examples(
            history=np.where(inside, self.actions[np.maximum(row, 0)], -1),
            target=self.actions,
            group=group,
        )


def read_scripts(path: Path, taxonomy: Taxonomy) -> Scripts:
    """The scripts in a text file.

    Raises:
        NotFound: there is no such file.
        BadAnnotations: it is not text, has no script, or names an action that is not in `taxonomy`.
    """
    if not path.is_file():
        raise NotFound("no script file here", where=path, expected="a text file, a script per line")
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise BadAnnotations("not a UTF-8 text file", where=path) from error
    except ValueError as error:
        raise BadAnnotations("the scripts can't be read", where=path, found=error) from error
    number = {name.strip(): i for i, name in enumerate(taxonomy.actions)}
    scripts: list[list[int]] = []
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split(SEPARATOR)]
        unknown = next((name for name in names if name not in number), None)
        if unknown is not None:
            raise BadAnnotations(
                "unknown action",
                where=f"{path}:{line_number}",
                expected=f"one of the {len(number)} actions of {taxonomy.dataset}, "
                f"e.g. {taxonomy.actions[0]!r}",
                found=repr(unknown[:80]),
                hint="actions are separated by a comma and a blank",
            )
        scripts.append([number[name] for name in names])
    if not scripts:
        raise BadAnnotations("the file holds no script", where=path)
    return Scripts(
        actions=np.array([a for s in scripts for a in s], dtype=np.int64),
        starts=np.cumsum([0, *map(len, scripts)], dtype=np.int64),
    )
