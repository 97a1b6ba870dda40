"""Action anticipation without the wait: features and soft targets once, students in seconds.

Promise: importing `antcache` is cheap. Nothing here loads torch, transformers or a video decoder;
each part is imported where it is used (`antcache.store`, `antcache.extract`, `antcache.teacher`,
`antcache.student`, `antcache.evaluation`, `antcache.kernels`).
"""

__version__ = "0.1.0"
