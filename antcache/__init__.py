"""Action anticipation without the wait: features and soft targets once, students in seconds.

Promise: importing `antcache` is cheap. Nothing here loads torch, transformers or a video decoder;
each part is imported where it is used (`antcache.store`, `antcache.extract`, `antcache.teacher`,
`antcache.windows`, `antcache.student`, `antcache.evaluation`, `antcache.predict`,
`antcache.kernels`).
"""

from typing import TYPE_CHECKING

from antcache.clone import find_folders_beside
from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.api import Store
    from antcache.predict.anticipator import Anticipator

__version__ = "0.1.0"
__all__ = ["Anticipator", "Store", "__version__"]

find_folders_beside()
__getattr__, __dir__ = lazy_exports(
    __name__, {"api": "Store", "predict.anticipator": "Anticipator"}
)
