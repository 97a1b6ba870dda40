"""Videos: which files are some, and the pictures in them at regular times.

Promise: knows nothing of models and stores but what a video may be called there. `finding.py` and
`containers.py` need no PyAV; `decode.py` is where pictures come from.
"""
