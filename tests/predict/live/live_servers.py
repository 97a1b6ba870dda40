"""Servers on loopback that have something to watch: files, a camera of JPEGs, and nonsense."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

FPS = 20
JPEGS = 60
"""Pictures of the camera, after which it ends."""

PAUSE_S = 2.6
"""How long a camera that pauses has no picture: longer than frames may be apart."""

PIECES = 40
"""In which a stream without a length is sent, in two seconds."""


def jpeg(number: int, side: int = 48) -> bytes:
    """A picture with the colour of its number."""
    picture = np.full((side, 80, 3), (4 * number) % 256, np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def _handler(folder: Path, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            asked.append(self.path)
            name = self.path.partition("?")[0].lstrip("/")
            if name == "camera":
                self._camera(time.sleep)
            elif name == "pausing":
                pause = iter([*[1 / FPS] * (JPEGS // 2), PAUSE_S])
                self._camera(lambda wait_s: time.sleep(next(pause, wait_s)))
            elif name == "restarting":
                self._restarting()
            elif name == "broken":
                self._broken()
            elif name == "half":
                self._half()
            elif name == "elsewhere":
                self._elsewhere()
            elif (folder / name).is_file():
                self._file((folder / name).read_bytes())
            else:
                self.send_error(404)

        def _file(self, data: bytes) -> None:
            """As a whole, or from where it is asked for."""
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
            first = int(found[1]) if found else 0
            self.send_response(206 if found else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - first))
            if found:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self._write(data[first:])

        def _camera(self, wait: Callable[[float], None]) -> None:
            """Pictures one by one, as cameras in a network have them."""
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Connection", "close")
            self.end_headers()
            for number in range(JPEGS):
                data = jpeg(number)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                if not self._write(head.encode() + data + b"\r\n"):
                    return
                wait(1 / FPS)
            self.close_connection = True

        def _restarting(self) -> None:
            """A stream without a length that shows a film, and then shows it again."""
            data = (folder / "film.ts").read_bytes()
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            for first in [*range(0, len(data), len(data) // PIECES)] * 2:
                if not self._write(data[first : first + len(data) // PIECES]):
                    return
                time.sleep(2 / PIECES)
            self.close_connection = True

        def _broken(self) -> None:
            """Half of a film, of which the whole was promised."""
            data = (folder / "film.mkv").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self._write(data[: len(data) // 2])
            self.close_connection = True

        def _half(self) -> None:
            """A camera that breaks off within a picture, of which the whole was promised."""
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Connection", "close")
            self.end_headers()
            for share in (1.0, 1.0, 0.5):
                data = jpeg(len(asked), side=800)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                end = b"\r\n" if share == 1.0 else b""
                self._write(head.encode() + data[: round(share * len(data))] + end)
            self.close_connection = True

        def _elsewhere(self) -> None:
            """Another URL, of the same server."""
            self.send_response(302)
            self.send_header("Location", "/film.mkv")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _write(self, data: bytes) -> bool:
            try:
                self.wfile.write(data)
            except OSError:  # whoever watched has gone
                return False
            return True

    return Handler


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The URL of a server of a folder's files, of `camera` and others; what it was asked."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, asked))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
