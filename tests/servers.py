"""What tests talk to: an S3 server, a Ray cluster on loopback, and a browser."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


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
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer is sent as a whole: its second part would wait for the first

            def run_wsgi(self) -> None:
                """One connection for many requests, which werkzeug closes after each."""
                environ, said = self.make_environ(), []
                environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(self._length()))
                answer = noting(environ, lambda *status: said.extend(status))
                body = b"".join(answer)
                answer.close()
                code, _, reason = said[0].partition(" ")
                self.send_response(int(code), reason)
                for name, value in said[1]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def handle_expect_100(self) -> bool:
                super().handle_expect_100()
                self.wfile.flush()
                return True

            def _length(self) -> int:
                return int(self.headers.get("Content-Length", 0))

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
    from botocore import useragent, utils

    # What a client makes anew for each request, and comes to the same.
    dates = functools.cache(utils._parse_timestamp_with_tzinfo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_parse_timestamp_with_tzinfo", dates)
        patch.setattr(useragent.UserAgentString, "to_string", lambda _: "tests")
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


class RayCluster:
    """Three nodes on loopback, two of them with a CPU each, to which this process is connected."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._nodes = ray, None
        self._patch = pytest.MonkeyPatch()
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
        quiet |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_enable_metrics_collection": "0"}
        for name, value in quiet.items():
            self._patch.setenv(name, value)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        from ray._private import services
        from ray.cluster_utils import Cluster

        # Else the driver looks for a cluster on loopback at this machine's other address.
        self._patch.setattr(services, "resolve_ip_for_localhost", lambda host: host)
        self._node = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
        head = self._node | {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        with contextlib.chdir("/"):
            self._nodes = Cluster(initialize_head=True, head_node_args=head)
        self.add()
        self.add()
        self._nodes.wait_for_nodes()
        self._ray.init(
            address=self._nodes.address,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )

    def add(self) -> None:
        """Another node, for one that was lost."""
        with contextlib.chdir("/"):  # it outlives the test, whose folder will be gone
            self._nodes.add_node(wait=False, num_cpus=1, num_gpus=0, **self._node)

    def lose(self, node_id: str) -> None:
        """A node ends, and what runs there, as when a machine goes."""
        (node,) = (each for each in self._nodes.worker_nodes if each.node_id == node_id)
        self._nodes.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End it."""
        with contextlib.ExitStack() as last:
            last.callback(self._patch.undo)
            if self._nodes is not None:
                last.callback(self._nodes.shutdown)
            self._ray.shutdown()


CLUSTERS: list[RayCluster] = []
"""The one that there is, from the first test that asks for it to the last."""


def end_clusters() -> None:
    """End the one that there is, if there is one."""
    while CLUSTERS:
        CLUSTERS.pop().close()


@pytest.fixture
def ray_cluster(request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    """A Ray cluster, begun by whoever asks first. Who takes a node away adds another."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    if not CLUSTERS:
        CLUSTERS.append(RayCluster(ray))
    failed = request.session.testsfailed
    yield CLUSTERS[0]
    if request.session.testsfailed > failed:
        end_clusters()  # what a test that failed has left there is not for others


def asks_for_cluster(test: Any) -> bool:
    """Is this a test that needs the cluster?"""
    return "ray_cluster" in getattr(test, "fixturenames", ())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begun and ended, it costs as much as a dozen tests: those that need it come together."""
    items.sort(key=asks_for_cluster, reverse=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """The cluster ends with the last of them: its processes are never idle."""
    try:
        yield
    finally:
        if not asks_for_cluster(nextitem):
            end_clusters()


def pytest_sessionfinish() -> None:
    """Nor does it outlive tests that were interrupted."""
    end_clusters()


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """A headless Chromium with a profile of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._command = [program, "--headless", "--no-sandbox", "--disable-gpu"]
        self._command += ["--disable-background-networking", "--disable-component-update"]
        self._command += ["--no-first-run", "--disable-extensions", f"--user-data-dir={folder}"]

    def run(self, page: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
        """Open a file or a URL; what it prints, and what it says to its log."""
        address = page if isinstance(page, str) else page.as_uri()
        return subprocess.run(
            [*self._command, *options, address],
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
