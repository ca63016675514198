"""Frames as cameras and video decoders give them: the GPU crops from them without a conversion pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.errors import FrameError

FORMATS = ("rgb", "bgr", "nv12")  # as crop.cu numbers them
YUVS = ("bt601", "bt601-full", "bt709", "bt709-full")  # what the levels of NV12 mean
MEMORIES = ("copied", "mapped", "managed")  # where a GPU reads a frame of the CPU's; see cuda/frame_memory.py


@dataclass(frozen=True)
class Frame:
    """One picture. A GPU takes it as it is; for a CPU it is converted first.

    Attributes:
        pixels: uint8. "rgb" and "bgr": (H, W, 3). "nv12": (H + H / 2, pitch), the luma's rows and then those of u and
            v in turns, both halves rounded up; what lies beyond the width is not looked at.
        format: one of FORMATS.
        size_hw: height and width of the picture, px; "nv12" with a pitch or an odd size needs it.
        yuv: one of YUVS, of "nv12": the standard, and "-full" where black and white are 0 and 255, not 16 and 235.
            Cameras and standard definition are mostly BT.601, high definition is mostly BT.709.

    Raises:
        FrameError: the pixels are not of that format and size.
    """

    pixels: np.ndarray
    format: str = "rgb"
    size_hw: tuple[int, int] | None = None
    yuv: str = "bt601"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise FrameError(f"a frame's format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.yuv not in YUVS:
            raise FrameError(f"a frame's yuv must be one of {', '.join(YUVS)}, got {self.yuv!r}")
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
        """(H, W, 3) uint8, RGB, within a grey level of what the crop kernel sees."""
        if self.format == "rgb":
            return self.pixels
        import cv2  # not with `import edgepose`

        if self.format == "bgr":
            return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_BGR2RGB))
        height, width = self.hw
        even_hw = (height + height % 2, width + width % 2)
        luma = np.pad(self.pixels[:height, :width], ((0, height % 2), (0, width % 2)), mode="edge")
        chroma = np.ascontiguousarray(self.pixels[height:, : even_hw[1]]).reshape(even_hw[0] // 2, even_hw[1] // 2, 2)
        if self.yuv == "bt601":  # the one that OpenCV knows, and faster than the matrix
            rgb = cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12)
        else:
            floor, scale, red_v, green_u, green_v, blue_u = yuv_factors(self.yuv)
            matrix = np.array([[scale, 0, red_v], [scale, green_u, green_v], [scale, blue_u, 0]])
            offset = -matrix @ [floor, 128, 128]
            chroma = cv2.resize(chroma, even_hw[::-1], interpolation=cv2.INTER_NEAREST)
            yuv = cv2.merge([np.maximum(luma, np.uint8(floor)), *cv2.split(chroma)])
            rgb = cv2.transform(yuv, np.column_stack([matrix, offset]))
        return np.asarray(rgb)[:height, :width]


def hw_of(image: np.ndarray | Frame) -> tuple[int, int]:
    """Height and width of an image (H, W, ...) or a Frame, px."""
    return image.hw if isinstance(image, Frame) else (image.shape[0], image.shape[1])


def yuv_factors(yuv: str) -> tuple[float, float, float, float, float, float]:
    """How NV12's levels become colours: floor, scale, red_v, green_u, green_v, blue_u.

    With y = max(Y - floor, 0) * scale, u = U - 128 and v = V - 128, red is y + red_v * v, green
    y + green_u * u + green_v * v and blue y + blue_u * u, each cut to 0..255 (ITU-R BT.601-7, BT.709-6).
    """
    red, blue = (0.299, 0.114) if yuv.startswith("bt601") else (0.2126, 0.0722)
    green = 1 - red - blue
    floor, scale, colour = (0.0, 1.0, 1.0) if yuv.endswith("-full") else (16.0, 255 / 219, 255 / 224)
    red_v, blue_u = 2 * (1 - red) * colour, 2 * (1 - blue) * colour
    return floor, scale, red_v, -blue_u * blue / green, -red_v * red / green, blue_u
