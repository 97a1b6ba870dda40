"""What the tests of this folder share: its modules by their names, and an S3 server on loopback."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# So that test_remote.py can subclass the contract, and workers can unpickle what tests define.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """fsspec's options for a real S3 server in this process, which has the bucket `kitchen`."""
    pytest.importorskip("moto.server", reason="moto is not installed: no S3 server")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: no s3:// URLs")
    from moto.moto_server import werkzeug_app as moto
    from werkzeug.serving import make_server

    class Handler(moto.MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for many requests

    # As moto's ThreadedMotoServer does it, but for S3 alone: it would look through the folders of
    # all its services for each request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs each request
    app = moto.create_backend_app("s3")
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    options = {"key": "tests", "secret": "tests", "endpoint_url": address}
    s3fs.S3FileSystem(**options).mkdir("kitchen")
    yield options
    server.shutdown()
