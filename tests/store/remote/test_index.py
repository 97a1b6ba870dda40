"""The index of a stream at a URL: it says what a list would, or is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bucket import ROWS, S3

from antcache.store import Store
from antcache.store.integrity.indexes import write_index

STREAM = "features/rgb"
NAME = ".staging/features,rgb.index"


@pytest.fixture
def many(store: Store, s3: S3, url: str) -> Store:
    """A stream of 400 videos, 1,200 objects: two lists."""
    store.write_features("rgb", "v000", ROWS)
    files = {n: v for n, v in s3.objects(url).items() if n.startswith(f"{STREAM}/v000/")}
    at = url.removeprefix("s3://")
    for number in range(1, 400):
        name = f"v{number:03}"
        s3.fs.pipe({f"{at}/{n.replace('v000', name)}": v for n, v in files.items()})
    return store


def test_indexed(many: Store, url: str) -> None:
    assert write_index(many, "rgb") == 400
    print(many.backend.files.read(NAME)[:300])
    assert many.backend.has_index(STREAM)
    assert many.videos("rgb") == many.videos("rgb", listed=True)
    assert len(many.row_counts("rgb")) == 400
