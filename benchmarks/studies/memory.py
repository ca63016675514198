"""How much memory `edgepose infer` holds while it watches looped videos as streams, minute by minute.

    python -m edgepose.benchmarks.studies.memory --engine POSE --video VIDEO --minutes 60

The video is served over HTTP on this machine as motion JPEG, from its start again at its end, to each of some sources;
the second starts in its middle. It prints the resident set size at every minute that it was asked for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import click
import cv2

from edgepose.io.video import VideoReader

BOUNDARY = "frame"


def looped(video: Path, skipped: int) -> Iterator[bytes]:
    """JPEGs of a video's frames without end, those of its first pass from the frame number `skipped` on."""
    for lap in count():
        reader = VideoReader(video)
        for index, image in enumerate(reader):
            if lap or index >= skipped:
                yield cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        reader.close()


def serve(video: Path, fps: float) -> ThreadingHTTPServer:
    """A server on a free port of this machine; `/N` is the video from frame N on, in real time."""

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.end_headers()
            for jpeg in looped(video, int(self.path.strip("/") or 0)):
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:  # whoever watched has gone
                    return
                time.sleep(1 / fps)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def resident_mib(pid: int) -> float:
    """A process's resident set size (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def watch(process: subprocess.Popen[bytes], moments: Sequence[float], shown: Path) -> None:
    """Print the process's memory and how many records it has written at each moment, seconds from now."""
    start = time.monotonic()
    for moment in moments:
        while time.monotonic() - start < moment:
            if process.poll() is not None:
                raise click.ClickException(f"edgepose ended with status {process.returncode}")
            time.sleep(0.5)
        with shown.open("rb") as file:
            records = sum(1 for _ in file)
        click.echo(f"| {moment / 60:g} | {records} | {resident_mib(process.pid):.0f} |")


@click.command()
@click.option("--engine", type=click.Path(path_type=Path), required=True)
@click.option("--detector", type=click.Path(path_type=Path), help="[default: the embedded one]")
@click.option("--video", type=click.Path(path_type=Path), required=True)
@click.option("--minutes", type=float, default=60.0, show_default=True)
@click.option("--fps", type=float, default=1.0, show_default=True, help="Frames a second of each source.")
@click.option("--sources", type=click.IntRange(1), default=2, show_default=True)
def main(engine: Path, detector: Path | None, video: Path, minutes: float, fps: float, sources: int) -> None:
    """Watch looped videos with `edgepose infer` and print its memory over time."""
    reader = VideoReader(video)
    length = reader.length
    reader.close()
    port = serve(video, fps).server_address[1]
    urls = [f"http://127.0.0.1:{port}/{number * length // sources}" for number in range(sources)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgepose", "infer", "--engine", str(engine), "--threads", "1", "-o", folder]
        command += ["--format", "jsonl", "--no-save-overlay"]
        command += [] if detector is None else ["--detector", str(detector)]
        for url in urls:
            command += ["--source", url]
        lines = Path(folder) / "lines"
        with lines.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        try:
            click.echo("| minutes | frames | RSS, MiB |\n| --- | --- | --- |")
            watch(process, [60 * m for m in (0.5, 1, 2, 3, 5, *range(10, 1000, 5)) if m <= minutes], lines)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
