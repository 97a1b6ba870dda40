"""The Triton kernels: rows that fit the registers of a program, and in `long` all others."""
