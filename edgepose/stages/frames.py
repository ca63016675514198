"""Frames as cameras and video decoders give them: the GPU crops from them without a conversion pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.errors import FrameError

FORMATS = ("rgb", "bgr", "nv12")  # as crop.cu numbers them
MEMORIES = ("copied", "mapped", "managed")  # where a GPU reads a frame of the CPU's; see cuda/frame_memory.py


@dataclass(frozen=True)
class Frame:
    """One picture. A GPU takes it as it is; for a CPU it is converted first.

    Attributes:
        pixels: uint8. "rgb" and "bgr": (H, W, 3). "nv12": (H + H / 2, pitch), the luma's rows and then those of u and
            v in turns (BT.601, video range), both halves rounded up; what lies beyond the width is not looked at.
        format: one of FORMATS.
        size_hw: height and width of the picture, px; "nv12" with a pitch or an odd size needs it.

    Raises:
        FrameError: the pixels are not of that format and size.
    """

    pixels: np.ndarray
    format: str = "rgb"
    size_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise FrameError(f"a frame's format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if not isinstance(self.pixels, np.ndarray) or self.pixels.dtype != np.uint8 or self.pixels.size == 0:
            found = f"{self.pixels.shape} {self.pixels.dtype}" if hasattr(self.pixels, "dtype") else type(self.pixels)
            raise FrameError(f"image must be a uint8 array of at least one pixel, got {found}")
        shape = self.pixels.shape
        if self.format != "nv12":
            if len(shape) != 3 or shape[2] != 3:
                raise FrameError(f"image must be (H, W, 3) uint8, got {shape}")
            if self.size_hw not in (None, shape[:2]):
                raise FrameError(f"size_hw must be that of the pixels, {shape[:2]}, got {self.size_hw}")
            return
        if len(shape) != 2 or (self.size_hw is None and (shape[0] % 3 or shape[1] % 2)):
            raise FrameError(f"an NV12 frame must be (H + H / 2, W) uint8, or say its size_hw; got {shape}")
        height, width = self.hw
        if not (height > 0 and width > 0 and shape[0] == height + (height + 1) // 2 and shape[1] >= width + width % 2):
            raise FrameError(f"an NV12 frame of {height} x {width} must be (H + H / 2, W or more), got {shape}")

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width, px."""
        if self.size_hw is not None:
            return self.size_hw
        rows, columns = self.pixels.shape[:2]
        return (rows * 2 // 3 if self.format == "nv12" else rows), columns

    def to_rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB: OpenCV's conversion, within a grey level of the crop kernel's."""
        if self.format == "rgb":
            return self.pixels
        if self.format == "bgr":
            return self.pixels[..., ::-1]
        import cv2  # not with `import edgepose`

        height, width = self.hw
        even_hw = (height + height % 2, width + width % 2)
        luma = np.pad(self.pixels[:height, :width], ((0, height % 2), (0, width % 2)), mode="edge")
        chroma = np.ascontiguousarray(self.pixels[height:, : even_hw[1]]).reshape(even_hw[0] // 2, even_hw[1] // 2, 2)
        rgb = cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12)
        return np.asarray(rgb)[:height, :width]
