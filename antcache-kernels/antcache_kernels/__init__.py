"""The distillation loss alone: what `antcache.kernels` has, with nothing but PyTorch beside it."""

from antcache_kernels.kernels import *  # noqa: F403
from antcache_kernels.kernels import __all__ as __all__
