"""Stores in a bucket and in memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bucket import BUCKET, S3

from antcache.store import Store
from antcache.testing import add_stream


@pytest.fixture
def s3(s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> S3:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", s3_options)
    for name, value in s3_options.items():
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    return S3(s3_options)


@pytest.fixture
def url(s3: S3) -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/toy.zarr"


@pytest.fixture
def store(s3: S3, url: str) -> Store:
    return s3.store(url, "a stream", lambda url: add_stream(Store.create(url)))


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield f"memory://{uuid.uuid4().hex}/toy.zarr"
    fsspec.filesystem("memory").store.clear()
