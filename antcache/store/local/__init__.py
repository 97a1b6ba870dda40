"""Stores in a local folder, as Zarr or HDF5: staged, and published by one rename."""
