"""Runs test files in a copy of the tree, each time in a new process: a part of `mutation.py`.

Promise: a run starts from a parent that has imported what is large and nothing of ours, so that it
begins within a second and sees the copy as it is now, as do the processes that it starts; it is
killed, with all of them, when its time is over. Jobs come as JSON lines and are answered in order.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not gpu", "--tb=line")
HUNG = "hung"
SITE = '''
"""The packages of a copy of the tree, before any that is installed."""
import importlib.util, sys
import mutation_lines
FOLDERS = {folders!r}

class Copied:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in FOLDERS:
            return None
        return importlib.util.spec_from_file_location(
            name, FOLDERS[name] + "/__init__.py", submodule_search_locations=[FOLDERS[name]]
        )

sys.meta_path.insert(0, Copied)
mutation_lines.start()
'''


def prepare(copy: Path, packages: dict[str, str]) -> Path:
    """Folder that makes Python import `packages` (name to folder) from the copy."""
    site = copy / ".site"
    site.mkdir(exist_ok=True)
    folders = {name: str(copy / folder) for name, folder in packages.items()}
    (site / "sitecustomize.py").write_text(SITE.format(folders=folders))
    lines = Path(__file__).with_name("mutation_lines.py")
    (site / lines.name).write_bytes(lines.read_bytes())
    return site


def run(copy: Path, site: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run a job's tests; what became of them.

    Args:
        copy: the tree.
        site: see `prepare`.
        job: `tests`, files relative to the copy; `limit_s`; `environment`, variables to set.
    """
    output = copy.with_name(f"{copy.name}.out")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_pytest(copy, site, job, output)
    hung, status = False, None
    while status is None:
        time.sleep(0.02)
        pid, code = os.waitpid(child, os.WNOHANG)
        status = code if pid else None
        if status is None and not hung and time.monotonic() - began > job["limit_s"]:
            hung = True
            os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # whatever it left running
    text = output.read_text(errors="replace")
    return {
        "code": HUNG if hung else os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "output": text[-4000:],
    }


def _be_pytest(copy: Path, site: Path, job: dict[str, Any], output: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(copy)
        with output.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ |= {"PYTHONPATH": str(site), **job["environment"]}
        sys.dont_write_bytecode = bool(os.environ["PYTHONDONTWRITEBYTECODE"])
        sys.path[:] = [str(site), *sys.path[1:]]  # in place of this file's folder
        importlib.import_module("sitecustomize")
        import pytest

        temporary = copy.with_name(f"{copy.name}.tmp")
        code = int(pytest.main([*OPTIONS, f"--basetemp={temporary}", *job["tests"]]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """`mutation_worker.py COPY PACKAGES MODULES`: modules to import; jobs on standard input."""
    copy = Path(sys.argv[1])
    site = prepare(copy, json.loads(sys.argv[2]))
    sys.modules.pop("sitecustomize", None)
    for name in json.loads(sys.argv[3]):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(run(copy, site, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
