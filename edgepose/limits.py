"""How much edgepose takes from a file that it did not write. Each limit stands here, and in docs/reliability.md."""

from __future__ import annotations

LARGEST_PICTURE = 1 << 28  # px, 16384x16384 say; decoding takes six bytes a pixel: 1.5 GiB
LARGEST_INPUT = 1 << 30  # bytes of a picture or of JSON, which are read whole
LARGEST_DOWNLOAD = 4 << 30  # bytes of a checkpoint: a thousand million weights
LEFTOVER_AGE = 24 * 3600  # s; a temporary file that is older was left by a process that was killed
MOST_THREADS = 1024  # of a CPU runtime, which would make as many as it is told
LONGEST_MEASUREMENT = 3600.0  # s of each row of `benchmark`
LONGEST_RUN = 300.0  # s that one run of a graph may take while it is exported or imported
LEAST_ADDRESS_SPACE = 512 << 20  # bytes (ulimit -v) below which OpenBLAS or OpenVINO crashes while it is loaded
