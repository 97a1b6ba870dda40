"""The benchmark of the kernel: cases, contenders, clock, and the run that measures them."""
