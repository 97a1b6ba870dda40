"""The store: chunked Zarr or HDF5 with labels, features and soft targets of one dataset."""

from antcache.store.features import Features, Stream
from antcache.store.soft_targets import SoftTargets
from antcache.store.store import Store

__all__ = ["Features", "SoftTargets", "Store", "Stream"]
