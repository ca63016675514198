"""How much edgepose takes from a file that it did not write. Each limit stands here, and in docs/reliability.md."""

from __future__ import annotations

LARGEST_PICTURE = 1 << 28  # px, 16384x16384 say; decoding takes six bytes a pixel: 1.5 GiB
LARGEST_INPUT = 1 << 30  # bytes of a picture or of JSON, which are read whole
LARGEST_DOWNLOAD = 4 << 30  # bytes of a checkpoint: a thousand million weights
