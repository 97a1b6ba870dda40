"""The command line: parse, build a config, call one library function, print.

A command looks at its paths before it imports what it needs for its work, so that a wrong one is
answered at once; that is why imports stand in the functions, behind `Store.open`.
"""
