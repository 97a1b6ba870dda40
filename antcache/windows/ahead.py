"""Streams whose rows have seen what comes after their own time, which anticipation may not.

Promise: nothing is trained on such features, and no window is made of them, unless that is asked
for; what is trained then says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from antcache.errors import BadConfig
from antcache.store.features import Stream

log = logging.getLogger(__name__)


def refuse_future(streams: Sequence[Stream], *, allowed: bool) -> dict[str, float]:
    """How many seconds ahead rows see, by stream; streams that see nothing ahead are left out.

    Raises:
        BadConfig: there are any, and that is not allowed.
    """
    ahead = {stream.name: stream.sees_ahead_s for stream in streams if stream.sees_ahead_s > 0}
    if not ahead:
        return ahead
    if not allowed:
        name, seconds = next(iter(ahead.items()))
        raise BadConfig(
            "features that have seen the future",
            where=f"features/{name}",
            expected="rows that have seen nothing after their own time",
            found=f"rows that have seen {seconds:.4g} s more",
            hint="import them with --time end, or `allow_future`: results are then no anticipation",
        )
    said = ", ".join(f"{name} by {seconds:.4g} s" for name, seconds in ahead.items())
    log.warning("no anticipation: features have seen the future (%s)", said)
    return ahead
