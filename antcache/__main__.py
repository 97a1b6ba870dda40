"""`python -m antcache`: the console script where no script is on the path.

Promise: the same commands, words and exit codes as `antcache`.
"""

from __future__ import annotations

from antcache.cli.main import main

if __name__ == "__main__":
    main()
