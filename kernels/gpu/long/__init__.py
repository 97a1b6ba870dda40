"""Rows that do not fit the registers of a program."""
