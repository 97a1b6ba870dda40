"""What comes next in what is seen now: a camera, a stream at a URL, or a file at its own speed.

Promise: answers are about the newest row that there is; what there is no time for is left out and
counted, never queued up. Memory does not grow with the length of the source, nothing is written,
and what came from elsewhere is bounded before it is used.
"""
