"""What the doctor says of a store, by video.

Promise: the examination is the doctor's own, for the store's windows, without reading rows; where
there can be none, the reason stands in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from antcache.annotations import locate
from antcache.browse.catalog import Catalog
from antcache.doctor import DoctorConfig, examine
from antcache.errors import AntcacheError
from antcache.text import plain


def notes_of(catalog: Catalog) -> dict[str, Any]:
    """Findings, and which segments lack rows, JSON-ready.

    `findings` have `missing`, `where`, `text` and `videos` (positions); `lacking` says by stream
    which segments have a window that lacks features, as pairs of a video and a segment of it; `why`
    stands in place of both.
    """
    try:
        report = examine(catalog.store, DoctorConfig(quick=True))
    except AntcacheError as error:
        return {"why": plain(error)}
    place = {name: number for number, name in enumerate(catalog.videos)}
    lacking: dict[str, list[list[int]]] = {}
    video = catalog.video
    for part in report.windows:
        if not part.lacking or part.split not in catalog.splits:
            continue
        rows = locate(catalog.uid, np.array(part.lacking))
        rows = rows[rows >= 0]
        pairs = [[int(video[r]), int(r - catalog.bounds[video[r]])] for r in rows]
        lacking.setdefault(plain(part.stream), []).extend(pairs)
    return {
        "ok": report.ok,
        "findings": [
            {
                "missing": each.missing,
                "where": plain(each.where),
                "text": plain(each.text),
                "videos": [place[name] for name in each.videos if name in place],
            }
            for each in report.findings
        ],
        "lacking": lacking,
    }
