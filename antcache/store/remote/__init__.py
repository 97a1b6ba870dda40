"""Stores at URLs: Zarr through fsspec, published without a rename."""
