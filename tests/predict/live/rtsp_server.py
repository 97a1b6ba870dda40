"""A small RTSP server on loopback: one client, H.264 over TCP (RFC 2326, 3550 and 6184)."""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import count
from typing import BinaryIO

import av
import numpy as np

FPS, CLOCK = 20, 90_000
LONGEST = 1200
"""Bytes of a packet's payload; larger units are sent in fragments (FU-A)."""


def units(frames: int) -> list[list[bytes]]:
    """NAL units of each frame, a key frame every ten; the first carries the stream's parameters."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 80, 48, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    encoder.options = {"tune": "zerolatency", "x264-params": "keyint=10:annexb=1"}
    found = []
    for number in range(frames):
        noise = np.random.default_rng(number).integers(0, 256, (48, 80, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
        frame.pts = number
        found += [re.split(b"\0\0\0?\1", bytes(packet))[1:] for packet in encoder.encode(frame)]
    return found


def payloads(unit: bytes) -> Iterator[bytes]:
    """A unit in one packet, or in fragments."""
    if len(unit) <= LONGEST:
        yield unit
        return
    head, body = unit[0], unit[1:]
    parts = [body[i : i + LONGEST] for i in range(0, len(body), LONGEST)]
    for i, part in enumerate(parts):
        mark = (i == 0) << 7 | (i == len(parts) - 1) << 6
        yield bytes([head & 0xE0 | 28, mark | head & 0x1F]) + part


def _head(lines: BinaryIO) -> str:
    """Lines of a request; none where whoever asked has gone, in its middle too."""
    said = []
    while (line := lines.readline()) != b"\r\n":
        if not line:
            return ""
        said.append(line)
    return b"".join(said).decode()


class RtspServer:
    """Serves frames to whoever asks for the path /live."""

    def __init__(self, frames: int) -> None:
        self.frames = units(frames)
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; whoever watched has gone, and nothing goes on behind the tests that follow."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines, suppress(OSError):
                self._talk(client, lines)  # until whoever watches goes

    def _talk(self, client: socket.socket, lines: BinaryIO) -> None:
        while head := _head(lines):
            method, url = head.split()[:2]
            self.asked.append(method)
            number = re.search(r"CSeq: *(\d+)", head, re.I)
            assert number is not None
            reply, body = f"RTSP/1.0 200 OK\r\nCSeq: {number[1]}\r\n", ""
            if method == "OPTIONS":
                reply += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE" and "/live" in url:
                body = self._description()
                reply += f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n"
                reply += f"Content-Length: {len(body)}\r\n"
            elif method == "DESCRIBE":
                reply = reply.replace("200 OK", "404 Not Found")
            elif method == "SETUP":
                reply += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            else:
                reply += "Session: 1\r\n"
            client.sendall(f"{reply}\r\n{body}".encode())
            if method == "PLAY":
                self._play(client)
                return

    def _description(self) -> str:
        parameters = [unit for unit in self.frames[0] if unit[0] & 31 in (7, 8)]
        sets = ",".join(base64.b64encode(unit).decode() for unit in parameters)
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=live\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\na=control:track\r\n"
        )

    def _play(self, client: socket.socket) -> None:
        sequence = count()
        for number, frame in enumerate(self.frames):
            sent = [payload for unit in frame for payload in payloads(unit)]
            for i, payload in enumerate(sent):
                last = i == len(sent) - 1
                stamp = 1_000_000 + number * CLOCK // FPS
                head = struct.pack("!BBHII", 0x80, last << 7 | 96, next(sequence), stamp, 7)
                packet = head + payload
                client.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
            time.sleep(1 / FPS)


@contextmanager
def rtsp(frames: int) -> Iterator[RtspServer]:
    """A server of so many frames, after which it hangs up."""
    server = RtspServer(frames)
    try:
        yield server
    finally:
        server.close()
