"""How processes that extract into one store share the videos, without knowing of one another.

Promise: each video comes up once. Before it is worked on it is claimed; one that another process
has claimed is looked at again later, until it is done or free again, for a claim ends with its
process (of another machine at a URL: a minute later). Nobody waits while there is anything else to
do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack

logger = logging.getLogger(__name__)

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
"""How long to wait between two looks at what others are doing; each wait is twice the last. A look
at a URL is a few requests, of each process that waits."""


def take_turns(
    names: Iterable[str],
    *,
    claim: Callable[[str], AbstractContextManager[bool]],
    is_done: Callable[[str], bool],
    waiting: Callable[[], None] = lambda: None,
) -> Generator[tuple[str, ExitStack | None], None, None]:
    """Each name once: with this process's claim, which whoever gets it ends; None if it is done.

    Args:
        names: what is to be done.
        claim: says that this process does it; false if another one does.
        is_done: whether it is done, by whomever.
        waiting: is called now and then while only others have something to do.
    """
    to_do = list(names)
    pause = SHORTEST_WAIT_S
    postponed: set[str] = set()
    while to_do:
        taken = []
        for name in to_do:
            if is_done(name):
                yield name, None
                continue
            with ExitStack() as held:
                if not held.enter_context(claim(name)):
                    taken.append(name)
                    if name not in postponed:
                        logger.info("%s: another process is at it", name)
                    continue
                if is_done(name):  # it may have become so since we looked
                    yield name, None
                    continue
                if name in postponed:
                    logger.info("%s: the other process has left it undone; taken over", name)
                yield name, held.pop_all()
        if taken == to_do:
            waiting()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT_S)
        else:
            pause = SHORTEST_WAIT_S
        postponed.update(taken)
        to_do = taken
