"""One HTML page with everything in it: figures and pictures to look at, in any browser, with no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

JPEG_QUALITY = 88

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; }
.pictures { display: grid; gap: .6rem; align-items: start; }
.several { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.several > div { min-width: 0; }
figure { margin: 0; background: var(--soft); border-radius: .4rem; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; }
figcaption { padding: .3rem .6rem; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture and what is said under it: (H, W, 3) uint8 RGB."""

    image: np.ndarray
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, then a table, then charts, then pictures; each may be missing.

    Attributes:
        charts: HTML of its own, as it is; what scripts it needs go to `html_page`.
        rows: a table's cells; the first row and the first cell of each row are headings.
        columns: pictures side by side; 0: as many as fit.
    """

    title: str
    paragraphs: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    columns: int = 3
    charts: Sequence[str] = ()


def html_page(title: str, sections: Sequence[Section], script: str = "") -> str:
    """The page as text. Pictures are inside it, as JPEG; it loads nothing, and runs `script` alone."""
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"{f'<script>{script}</script>' if script else ''}</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file's bytes."""
    written, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        raise ValueError(f"an image of {image.shape} {image.dtype} cannot be written as JPEG")
    return bytes(data)


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", *(f"<p>{escape(text)}</p>" for text in section.paragraphs)]
    if section.rows:
        head, rest = _row(section.rows[0], "th"), "".join(_row(row, "td") for row in section.rows[1:])
        parts.append(f'<div class="wide"><table><thead>{head}</thead><tbody>{rest}</tbody></table></div>')
    if section.charts:
        # not auto-fit: the first chart measures its room before the second is there
        kind = "several" if len(section.charts) > 1 else "one"
        parts.append(f'<div class="{kind}">{"".join(f"<div>{chart}</div>" for chart in section.charts)}</div>')
    if section.pictures:
        each = f"{section.columns}, 1fr" if section.columns else "auto-fill, minmax(9rem, 1fr)"
        columns = f"grid-template-columns: repeat({each})"
        parts.append(f'<div class="pictures" style="{columns}">{"".join(map(_figure, section.pictures))}</div>')
    return "\n".join(parts)


def _row(cells: Sequence[str], tag: str) -> str:
    first, *others = (escape(cell) for cell in cells)
    return f"<tr><th>{first}</th>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in others) + "</tr>\n"


def _figure(picture: Picture) -> str:
    height, width = picture.image.shape[:2]
    caption = escape(picture.caption)
    source = f"data:image/jpeg;base64,{b64encode(jpeg(picture.image)).decode()}"
    image = f'<img src="{source}" width="{width}" height="{height}" alt="{caption}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>\n"
