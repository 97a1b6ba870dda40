"""Runs `antcache` command lines fast enough to run thousands: forked, with everything imported.

Promise: what a command prints, its exit code, its time and its peak memory are those of a process
of its own, which starts from a parent that has imported every command; one that takes too long is
killed and said to hang. Used by benchmarks and tests that try many inputs, and by those that run
a benchmark.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pkgutil
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import antcache
from antcache.cli.lazy import LazyGroup
from antcache.cli.main import cli
from antcache.cli.main import main as antcache_main

HEAVY = ("torch", "transformers", "h5py", "zarr", "av", "lmdb", "pyarrow", "safetensors.torch")
HEAVY += ("torch._dynamo", "torch.utils.tensorboard", "pandas", "scipy.stats", "s3fs")
KERNELS = ("antcache.kernels.op", "antcache.kernels.loops", "antcache.kernels.linear_op")
"""In a clone they do not lie in the package's folder; half a second where a loss is computed."""
POLL_S = 0.005
PROGRESS = "progress: "
SAID = ("Warning: ", "note: ")
"""How lines on stderr begin that are no errors."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one command.

    Attributes:
        code: its exit code; the negative number of the signal that ended it.
        stdout: what it printed.
        stderr: what it complained of.
        seconds: how long it ran.
        peak_bytes: its largest resident size, the parent's share included.
        hung: it ran into the time limit and was killed.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    hung: bool

    @property
    def traceback(self) -> bool:
        """Whether it ended as only a mistake of ours may end: a traceback, or a crash."""
        crashed = self.code < 0 and not self.hung
        return crashed or "Traceback (most recent call last)" in self.stderr

    @property
    def remarks(self) -> list[str]:
        """The lines on stderr that are no progress."""
        lines = (line for line in self.stderr.splitlines() if line.strip())
        return [line for line in lines if not line.startswith(PROGRESS)]

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr that are neither warnings, notes nor progress."""
        return [line for line in self.remarks if not line.startswith(SAID)]


def preload() -> None:
    """Import every command and what they import where they need it.

    PyTorch is told to use one thread, here and so in every child: a pool of threads does not come
    along when a process is forked, and whoever waits for it waits for ever.
    """
    for name in HEAVY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(antcache.__path__, "antcache."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    for name in KERNELS:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    target = importlib.import_module("numba.core.registry").cpu_target
    for context in (target.typing_context, target.target_context):
        context.refresh()  # as before the first compiled function
    _preload(cli)


def _preload(command: click.Command) -> None:
    if isinstance(command, LazyGroup):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            _preload(found)


def run(
    arguments: Sequence[str],
    *,
    folder: Path,
    timeout_s: float = 10.0,
    environment: Mapping[str, str] | None = None,
    script: Path | None = None,
) -> Outcome:
    """Run `antcache ARGUMENTS` in `folder`.

    Args:
        arguments: the command line behind `antcache`.
        folder: the working directory.
        timeout_s: seconds after which it is killed.
        environment: variables set on top of this process's.
        script: a file that is run instead of `antcache`, as by `python SCRIPT ARGUMENTS`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.setsid()  # what it starts is killed with it
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _become(list(map(str, arguments)), folder, environment or {}, script)
        hung = False
        while True:
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid:
                break
            if not hung and time.perf_counter() - started > timeout_s:
                hung = True
                os.killpg(child, signal.SIGKILL)
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        return Outcome(
            code=os.waitstatus_to_exitcode(status),
            stdout=out.read().decode(errors="replace"),
            stderr=err.read().decode(errors="replace"),
            seconds=seconds,
            peak_bytes=usage.ru_maxrss << 10,
            hung=hung,
        )


def _become(
    arguments: list[str], folder: Path, environment: Mapping[str, str], script: Path | None
) -> None:
    """Be the command, and end as it ends."""
    # Garbage of the parent is not ours: a decoder in it would wait for threads that did not come
    # along, which is a crash.
    gc.freeze()
    code = 1
    try:
        os.environ.update(environment)
        os.chdir(folder)
        logging.getLogger().handlers.clear()  # the parent's, which may print
        # Of their own: pytest and CliRunner put other objects in their place.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        sys.argv = [str(script or "antcache"), *arguments]
        if script is None:
            antcache_main()
        else:
            _run_script(script, environment)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _run_script(script: Path, environment: Mapping[str, str]) -> None:
    """Whatever lies beside it is imported anew: it may look at the environment then."""
    beside = script.parent
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == beside:
            del sys.modules[name]
    sys.path[:0] = [str(beside), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(str(script), run_name="__main__")
