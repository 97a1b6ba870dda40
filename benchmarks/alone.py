"""A function in a process of its own, forked from this one: what it holds and keeps is its own.

Promise: the parent is as it was before; a child that fails ends the parent, and says why itself.
Forked before this process has held anything large, it is as good as a fresh one, without the
seconds that PyTorch's import takes.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def alone(work: Callable[[], Any], environment: Mapping[str, str] | None = None) -> Any:
    """What the function returns, as JSON holds it.

    Args:
        work: is called in the child, in which PyTorch must have one thread.
        environment: variables set there on top of this process's.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.environ.update(environment or {})
            with os.fdopen(writing, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a process that did its work alone ended with {status}")
    return json.loads(said)
