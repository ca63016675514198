"""The newest picture of each source in a browser: MJPEG over HTTP and a small page around it."""

from __future__ import annotations

import hmac
import html
import json
import threading
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np

from edgepose.errors import InputError
from edgepose.io.html import jpeg

BOUNDARY = "edgepose-frame"
MOST_CLIENTS = 16  # at once; each has a thread
_SPACE_SCRIPT = Path(__file__).with_name("serve_space.js")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>edgepose</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ margin: 0; background: #16181d; color: #e8e8e8; font: 15px system-ui, sans-serif }}
header {{ padding: 10px 16px; background: #23262d }}
main {{ display: flex; flex-wrap: wrap; gap: 12px; padding: 12px }}
figure {{ margin: 0 }}
img {{ display: block; max-width: 100%; background: #000 }}
figcaption {{ padding: 4px 0 }}
</style></head><body>
<header>edgepose</header>
<main>{figures}</main>
<script>
{script}
async function tell() {{
  let wait = 500;
  try {{
    const answer = await fetch("status" + location.search);
    for (const [index, source] of (await answer.json()).sources.entries()) {{
      document.getElementById("told" + index).textContent =
        `${{source.people}} people, ${{source.fps.toFixed(1)}} frames/s, frame ${{source.frame}}`;
      keepSpace(index, source.space);
      if (source.space) wait = 100;
    }}
  }} catch {{ document.querySelector("header").textContent = "edgepose: the stream has ended"; return }}
  setTimeout(tell, wait);
}}
tell();
</script></body></html>
"""
_FIGURE = (
    '<figure><img src="stream?source={index}{token}" alt="people in {name}">'
    '<figcaption>{name}: <span id="told{index}"></span></figcaption>'
    '<canvas id="space{index}" width="640" height="360" hidden></canvas></figure>'
)


class PictureServer:
    """Serves pictures until it is closed: `/` the page, `/stream?source=0` MJPEG, `/status` JSON.

    A browser that is slow skips pictures; none are kept for it.

    Args:
        names: of the sources.
        host, port: where to listen; port 0 takes a free one.
        token: wanted as `?token=` or as `Authorization: Bearer`. On an address that others reach there must be one.

    Raises:
        InputError: the address is others' to reach and there is no token, or it cannot be listened on.
    """

    def __init__(self, names: list[str], host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> None:
        if not token and not _is_loopback(host):
            raise InputError(
                f"--serve on {host} lets others watch: give a --token that they must know, or use 127.0.0.1"
            )
        self.names, self._token = names, token
        self._jpegs: list[bytes] = [b""] * len(names)
        self._counts = [0] * len(names)
        self._status: list[dict[str, Any]] = [{"name": name, "people": 0, "fps": 0.0, "frame": 0} for name in names]
        self._changed = threading.Condition()
        self._closed = False
        self.clients = threading.BoundedSemaphore(MOST_CLIENTS)
        try:
            self._server = ThreadingHTTPServer((host, port), _handler_of(self))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"cannot listen on {host}:{port}: {why}; --serve takes another port") from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = (
            f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{f'?token={quote(token)}' if token else ''}"
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="edgepose-serve", daemon=True
        )
        self._thread.start()

    def show(self, source: int, image: np.ndarray, status: Mapping[str, Any]) -> None:
        """Make (H, W, 3) uint8 RGB the newest picture of a source; `status`: people, fps and frame.

        With `space`, as `space.for_page` gives it, positions turn below the picture.
        """
        data = jpeg(image)
        with self._changed:
            self._jpegs[source] = data
            self._counts[source] += 1
            self._status[source] = {"name": self.names[source], **status}
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening, and end every stream; a second call does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)

    def page(self) -> str:
        """The page around the streams."""
        token = f"&amp;token={quote(self._token)}" if self._token else ""
        figures = [_FIGURE.format(index=i, name=html.escape(n), token=token) for i, n in enumerate(self.names)]
        return _PAGE.format(figures="".join(figures), script=_SPACE_SCRIPT.read_text(encoding="utf-8"))

    def status(self) -> str:
        """JSON of what was shown last."""
        with self._changed:
            return json.dumps({"sources": self._status})

    def next_jpeg(self, source: int, seen: int) -> tuple[bytes, int] | None:
        """Wait for a newer picture than number `seen`; None when the server closes."""
        with self._changed:
            while self._counts[source] <= seen and not self._closed:
                self._changed.wait(1.0)
            return None if self._closed else (self._jpegs[source], self._counts[source])

    def allows(self, query: Mapping[str, list[str]], headers: Message) -> bool:
        """Whether a request knows the token; or, where there is none, asks for this machine by its own name.

        A web page elsewhere may have its name lead to 127.0.0.1 and then read what it finds there; but the name that
        the browser asks for is still the page's.
        """
        if not self._token:
            try:
                return _is_loopback(urlsplit(f"//{headers.get('Host', '')}").hostname or "")
            except ValueError:  # half an IPv6 address, say
                return False
        given = query.get("token", [headers.get("Authorization", "").removeprefix("Bearer ")])[0]
        return hmac.compare_digest(given.encode(), self._token.encode())


def _handler_of(server: PictureServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # seconds until a client that says nothing is let go

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
            if not server.allows(query, self.headers):
                self.send_error(403, "the token is missing or wrong, or the host is another's")
            elif address.path == "/":
                self._send("text/html; charset=utf-8", server.page().encode())
            elif address.path == "/status":
                self._send("application/json", server.status().encode())
            elif address.path == "/stream":
                self._stream(query.get("source", ["0"])[0])
            else:
                self.send_error(404)

        def _send(self, kind: str, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, source: str) -> None:
            if source not in map(str, range(len(server.names))):
                self.send_error(404, "no such source")
                return
            if not server.clients.acquire(blocking=False):
                self.send_error(503, "too many watch already")
                return
            try:
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                seen = 0
                while (newer := server.next_jpeg(int(source), seen)) is not None:
                    data, seen = newer
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
            except OSError:  # the browser has gone
                pass
            finally:
                server.clients.release()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: stderr is the user's."""

    return Handler


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may be anybody's
