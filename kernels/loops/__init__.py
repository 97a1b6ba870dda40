"""The distillation loss on the CPU: numba loops that visit each row while it is in the cache.

Promise: `run` gives the same value, parts and gradient as the reference, in float32, and holds next
to nothing beside the gradient. `blocks.py` brings tensors into the loops' form, block by block;
`rows.py` is the compiled loop over rows, `compiled.py` how it is compiled and kept.
"""

from antcache.errors import needs

with needs("numba", "cpu"):
    import numba  # noqa: F401

from antcache.kernels.loops.blocks import run

__all__ = ["run"]
