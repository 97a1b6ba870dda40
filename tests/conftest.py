"""Where tests find the repository, its benchmarks and the real data, and what they do to a disk.

Nothing is left to chance.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    # Before anything imports Triton, as transformers does: its interpreter runs the kernels on the
    # CPU. `auto` never takes it, only impl="triton" does.
    os.environ["TRITON_INTERPRET"] = "1"

from antcache.files import disk

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Write out bytes of paths that are no text: reports go to another process as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays: looking through it for garbage again and again
    takes a tenth of the time of all of them."""
    gc.collect()
    gc.freeze()


REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """A test that fails does so again: whatever draws without a seed of its own draws the same."""
    random.seed(0)
    torch.manual_seed(0)


FSYNC = os.fsync


def looked_at(file: Any) -> None:
    """In place of a sync: the file must be open, and the disk is not waited for."""
    os.fstat(file if isinstance(file, int) else file.fileno())


@pytest.fixture(autouse=True, scope="session")
def _quick_disk() -> Iterator[None]:
    """No sync but in processes of their own, and where a `trace` is kept of them: nothing else can
    be seen of one while the machine runs, and each takes milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", looked_at)
        yield


@pytest.fixture
def gradients() -> Iterator[list[list[Any]]]:
    """The gradients that each step of an optimizer is given, as they are then."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    seen: list[list[Any]] = []

    def look(optimizer: Any, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def copy_sources(repo: Path) -> Callable[[Path], Path]:
    """Function: makes a folder with the sources, so that building leaves nothing in the real ones.

    It gives the folder back.
    """
    made = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")

    def copied(folder: Path) -> Path:
        folder.mkdir()
        for name in ("antcache", "kernels", "cli", "antcache-kernels"):
            shutil.copytree(repo / name, folder / name, ignore=made, symlinks=True)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(repo / name, folder / name)
        return folder

    return copied


@pytest.fixture
def checkout(copy_sources: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A copy of the sources of its own."""
    return copy_sources(tmp_path / "checkout")


@pytest.fixture(scope="session")
def benchmark() -> Callable[[str], ModuleType]:
    """Imports a file of `benchmarks/` by its name, as these files import one another."""
    return importlib.import_module


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotations: `ANTCACHE_DATA`, else `../shared/data`; skipped without them."""
    folder = Path(os.environ.get("ANTCACHE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no annotation data at {folder}; set ANTCACHE_DATA")
    return folder


class Server:
    """An S3 server on loopback, of which several may show the same buckets.

    Attributes:
        options: fsspec's, for it.
        written: names of the objects that were written, in order, each as often as it was.
    """

    def __init__(self, *, listens: bool = True) -> None:
        """`listens`: it writes on condition; else it takes no notice of conditions."""
        from moto.moto_server import werkzeug_app as moto
        from werkzeug.serving import make_server

        class Handler(moto.MotoRequestHandler):
            protocol_version = "HTTP/1.1"  # one connection for many requests

        # As moto's ThreadedMotoServer does it, but for S3 alone: it would look through the folders
        # of all its services for each request.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs each request
        app = moto.create_backend_app("s3")
        self.written: list[str] = []

        def noting(environ: dict[str, Any], start: Any) -> Any:
            if not listens:
                environ.pop("HTTP_IF_NONE_MATCH", None)
                environ.pop("HTTP_IF_MATCH", None)

            def started(status: str, *rest: Any) -> Any:
                if environ["REQUEST_METHOD"] == "PUT" and status.startswith("200"):
                    self.written.append(environ["PATH_INFO"].lstrip("/"))
                return start(status, *rest)

            return app(environ, started)

        self._server = make_server("127.0.0.1", 0, noting, threaded=True, request_handler=Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.options = {"key": "tests", "secret": "tests", "endpoint_url": address}

    def environment(self) -> dict[str, str]:
        """What tells a process of its own where the server is."""
        return {f"FSSPEC_S3_{name.upper()}": value for name, value in self.options.items()}

    def close(self) -> None:
        """End it."""
        self._server.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server in this process, which has the bucket `kitchen`."""
    pytest.importorskip("moto.server", reason="moto is not installed: no S3 server")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: no s3:// URLs")
    server = Server()
    s3fs.S3FileSystem(**server.options).mkdir("kitchen")
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3_options(s3_server: Server) -> dict[str, Any]:
    """fsspec's options for it."""
    return s3_server.options


@pytest.fixture
def s3_deaf(s3_server: Server) -> Iterator[dict[str, Any]]:
    """Options for another server before the same buckets, which takes no notice of conditions."""
    server = Server(listens=False)
    yield server.options
    server.close()


HOLDER = """
import sys, time
from pathlib import Path
from antcache.files.locks import hold
with hold(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere() -> Callable[[Path], AbstractContextManager[subprocess.Popen[str]]]:
    """Function: a context in which a process of its own holds the lock at a path."""

    @contextmanager
    def held(path: Path) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", HOLDER, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout.readline() == "True\n"
            try:
                yield process
            finally:
                process.kill()

    return held


TOGETHER = """
import json, os, sys, traceback
sys.path.append(sys.argv[1])
import forked
from antcache.cli.main import main
forked.preload()
sys.path.pop()
for line in sys.stdin:
    codes, environment, folder = json.loads(line)
    ready, go = os.pipe(), os.pipe()
    children = []
    for code in codes:
        out, err = os.memfd_create("out"), os.memfd_create("err")
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(err, 2)
                os.environ.clear()
                os.environ.update(environment)
                os.chdir(folder)
                os.write(ready[1], b".")
                os.read(go[0], 1)  # all go on at once
                exec(code)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append((child, out, err))
    for _ in codes:
        os.read(ready[0], 1)
    os.write(go[1], b"." * len(codes))
    found = []
    for child, out, err in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [os.pread(each, 1 << 20, 0).decode() for each in (out, err)]
        found.append([status, *texts])
    for each in (*ready, *go, *(one for _, *both in children for one in both)):
        os.close(each)
    print(json.dumps(found), flush=True)
"""


@dataclass
class Ended:
    """What became of one of several processes: exit code, and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def refusal(self) -> str:
        """The one line that it ended with."""
        assert self.code == 2, self
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("Error: ")]
        assert "Traceback" not in self.stderr
        return line


class Parent:
    """A process that has imported all there is, and forks what it is told to run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, tasks: str) -> str:
        """Its answer to a line; it is killed where that takes minutes."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", TOGETHER, str(REPO / "benchmarks")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(tasks + "\n")
        self._process.stdin.flush()
        watch = threading.Timer(300, self._process.kill)
        watch.start()
        try:
            return self._process.stdout.readline()
        finally:
            watch.cancel()

    def end(self) -> None:
        """Nothing of it is left."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture(scope="session")
def _parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.end()


@pytest.fixture
def together(_parent: Parent) -> Callable[..., list[Ended]]:
    """Function: runs Python code, or `antcache` command lines, in processes that all begin at the
    same moment; everything that they may import is there."""

    def run(*tasks: str | list[Any]) -> list[Ended]:
        codes = [
            task
            if isinstance(task, str)
            else f"sys.argv = {['antcache', *map(str, task)]!r}\nmain()"
            for task in tasks
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = _parent.run(json.dumps([codes, environment, str(Path.cwd())]))
        return [Ended(*each) for each in json.loads(answer)]

    return run


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes on loopback, two of them with a CPU each, to which this process
    is connected. Who takes a node away calls `add` for another."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    quiet |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_enable_metrics_collection": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        ray = pytest.importorskip("ray", reason="Ray is not installed")
        from ray._private import services
        from ray.cluster_utils import Cluster

        # Else the driver looks for a cluster on loopback at this machine's other address.
        patch.setattr(services, "resolve_ip_for_localhost", lambda host: host)
        node = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
        head = node | {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add = partial(cluster.add_node, wait=False, num_cpus=1, num_gpus=0, **node)
        try:
            cluster.add()
            cluster.add()
            cluster.wait_for_nodes()
            ray.init(
                address=cluster.address,
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


CALLS = (
    *((os, name) for name in ("mkdir", "rename", "replace", "link", "fsync")),
    (io, "open"),
    (disk, "_renameat2"),
)
"""Calls by which something is written."""


@pytest.fixture
def failing() -> Callable[[int, int], AbstractContextManager[list[str]]]:
    """Function: a context in which the `number`th of the calls that write fails with `code`, and
    every one after it; it gives the names of those made."""

    @contextmanager
    def fail(number: int, code: int) -> Iterator[list[str]]:
        made: list[str] = []

        def shim(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **options: Any) -> Any:
                reading = name == "open" and "r" in (args[1] if len(args) > 1 else "r")
                if not reading:
                    made.append(name)
                    if len(made) > number:
                        named = () if isinstance(args[0], int) else (str(args[0]),)
                        raise OSError(code, os.strerror(code), *named)
                return call(*args, **options)

            return called

        with pytest.MonkeyPatch.context() as patch:
            for module, name in CALLS:
                patch.setattr(module, name, shim(name, getattr(module, name)))
            yield made

    return fail


STEPS = (
    *((os, name) for name in ("rename", "replace", "link")),
    (disk, "_renameat2"),
    (shutil, "rmtree"),
)
"""Calls between which nothing changes that could be seen."""


@pytest.fixture
def killed() -> Callable[[Callable[[], Any], int], bool]:
    """Function: does work in a process of its own, which is killed when it comes to the `number`th
    of `STEPS`; whether it came to it."""

    def run(work: Callable[[], Any], number: int) -> bool:
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, -signal.SIGKILL), status
            return status != 0
        status, made = 70, 0

        def shim(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **options: Any) -> Any:
                nonlocal made
                made += 1
                if made > number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)

            return called

        try:
            signal.alarm(60)
            for module, name in STEPS:
                setattr(module, name, shim(getattr(module, name)))
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    return run


@dataclass
class Trace:
    """What was done to a disk, in order.

    Attributes:
        events: `("sync", path, hash of the file as it was then)`, `("publish", old, new)` and
            `("remove", path)`.
    """

    events: list[tuple[str, ...]] = field(default_factory=list)

    def at(self, *event: str) -> int:
        """Place of the last event that begins so."""
        places = [i for i, e in enumerate(self.events) if e[: len(event)] == event]
        assert places, f"{event} is not among {self.events}"
        return places[-1]

    def published(self, target: Path) -> int:
        """Place of the event that gave something its name `target`."""
        places = [i for i, e in enumerate(self.events) if e[0] == "publish" and e[2] == str(target)]
        assert places, f"nothing became {target}: {self.events}"
        return places[-1]

    def check(self, target: Path) -> None:
        """What is at `target` was written, then synced with its folders, then renamed, and then the
        folder that it is in was synced."""
        place = self.published(target)
        source, before = Path(self.events[place][1]), self.events[:place]
        for path in (target, *target.rglob("*")):
            staged = str(source / path.relative_to(target))
            assert ("sync", staged, digest_of(path)) in before, f"{path} was not synced as it is"
        assert ("sync", str(target.parent), "") in self.events[place:], "the folder was not synced"


def digest_of(path: Path) -> str:
    """Hash of a file; empty for a folder."""
    return "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Records, at the lowest level, what is synced, renamed and removed."""
    found = Trace()
    renameat2, rmtree = disk._renameat2, shutil.rmtree

    def synced(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        FSYNC(handle)
        found.events.append(("sync", str(path), digest_of(path)))

    def renamed(old: Path, new: Path, flag: int) -> bool:
        done = renameat2(old, new, flag)
        if done:
            found.events.append(("publish", str(old), str(new)))
        return done

    def removed(path: Path, **options: Any) -> None:
        found.events.append(("remove", str(path)))
        rmtree(path, **options)

    def moved(call: Callable[..., None]) -> Callable[..., None]:
        def shim(old: Path, new: Path, **options: Any) -> None:
            call(old, new, **options)
            found.events.append(("publish", str(old), str(new)))

        return shim

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(disk, "_renameat2", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    for name in ("rename", "replace", "link"):
        monkeypatch.setattr(os, name, moved(getattr(os, name)))
    return found


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """A headless Chromium with a profile of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._command = [program, "--headless", "--no-sandbox", "--disable-gpu"]
        self._command += ["--disable-background-networking", "--disable-component-update"]
        self._command += ["--no-first-run", "--disable-extensions", f"--user-data-dir={folder}"]

    def run(self, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Open a file; what it prints, and what it says to its log."""
        return subprocess.run(
            [*self._command, *options, file.as_uri()],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser in which pages are looked at, where there is one."""
    program = next((p for p in map(shutil.which, BROWSERS) if p), None)
    if program is None:
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    return Browser(program, tmp_path_factory.mktemp("profile"))
