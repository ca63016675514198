"""A server of one MPEG-4 stream over RTSP, RTP in the same connection (RFC 2326, RFC 6416), for tests."""

from __future__ import annotations

import socketserver
import struct
import threading
from typing import Any

import numpy as np

CLOCK = 90_000  # RTP ticks a second
RATE = 25


def mpeg4(grey: int, frames: int = 5) -> list[bytes]:
    """Packets of a plain grey video of 96x64, each one a key frame with its headers."""
    import av

    codec: Any = av.CodecContext.create("mpeg4", "w")
    codec.width, codec.height, codec.pix_fmt = 96, 64, "yuv420p"
    codec.framerate, codec.gop_size = RATE, 1
    pictures = [av.VideoFrame.from_ndarray(np.full((64, 96, 3), grey, np.uint8), "rgb24") for _ in range(frames)]
    return [bytes(packet) for picture in [*pictures, None] for packet in codec.encode(picture)]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True


class RtspServer:
    """Gives whoever asks a grey video without an end, until it is cut.

    Attributes:
        port: of 127.0.0.1; 0 asks for a free one.
    """

    def __init__(self, grey: int, port: int = 0) -> None:
        packets, stop = mpeg4(grey), threading.Event()

        class Client(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline().decode():
                    number = ""
                    while text := self.rfile.readline().decode().strip():
                        name, _, value = text.partition(":")
                        number = value.strip() if name.lower() == "cseq" else number
                    method, url = line.split()[:2]
                    self.answer(method, url, number)
                    if method == "PLAY":
                        return self.play()

            def answer(self, method: str, url: str, number: str) -> None:
                more, body = "", ""
                if method == "DESCRIBE":
                    lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=grey", "t=0 0", "m=video 0 RTP/AVP 96")
                    body = "\r\n".join([*lines, f"a=rtpmap:96 MP4V-ES/{CLOCK}", "a=control:0", ""])
                    more = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                elif method == "PLAY":
                    more = "Session: 1\r\n"
                self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())

            def play(self) -> None:
                number = 0
                try:
                    while not stop.wait(1 / RATE):
                        packet = packets[number % len(packets)]
                        about = struct.pack(">BBHII", 0x80, 0x80 | 96, number % 65536, number * CLOCK // RATE, 1)
                        self.wfile.write(struct.pack(">cBH", b"$", 0, len(about) + len(packet)) + about + packet)
                        number += 1
                except OSError:
                    return  # whoever watched has gone

        self._server, self._stop = _Server(("127.0.0.1", port), Client), stop
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and take no more."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
