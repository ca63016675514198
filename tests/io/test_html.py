from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from edgepose.io.html import Picture, Section, html_page, jpeg
from tests.makers import smooth_image

VOID = {"meta", "img"}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and keeps what matters."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_carries_its_pictures_and_loads_nothing():
    image = smooth_image(60, 40)

    page = html_page("Demo", [Section("Seen", pictures=[Picture(image, "a person")])])

    outline = Outline(page)
    assert len(outline.sources) == 1
    assert outline.sources[0].startswith("data:image/jpeg;base64,")
    assert not {"script", "link", "iframe"} & set(outline.tags)
    assert not re.search(r"https?:|url\(|@import", page)
    shown = cv2.imdecode(np.frombuffer(b64decode(outline.sources[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert (
        np.abs(shown[..., ::-1].astype(int) - image).mean() < 8
    )  # JPEG; with red and blue changed over it would be tens


def test_names_cannot_break_the_page():
    name = "<script>alert('1')</script> & \"co\""
    section = Section(name, [name], [["", name], [name, name]], pictures=[Picture(smooth_image(8, 8), name)])

    outline = Outline(html_page(name, [section]))

    assert "script" not in outline.tags
    assert outline.text.count(name) == 8  # title, h1, h2, paragraph, two headings, cell, caption


def test_a_table_has_headings_and_cells():
    outline = Outline(html_page("t", [Section("s", rows=[["", "A", "B"], ["x", "1", "2"]])]))

    assert (outline.tags.count("th"), outline.tags.count("td"), outline.tags.count("tr")) == (4, 2, 2)


def test_a_page_fits_a_phone():
    assert '<meta name="viewport" content="width=device-width' in html_page("t", [])


def test_what_is_no_image_is_refused():
    with pytest.raises((ValueError, cv2.error)):
        jpeg(np.empty((0, 0, 3), np.uint8))


def test_a_chart_stands_as_it_is_and_its_script_once_before_it():
    page = html_page("t", [Section("s", charts=["<b>one</b>", "<b>two</b>"])], script="let x = 1 < 2;")

    assert page.count("let x = 1 < 2;") == 1
    assert page.index("let x") < page.index("<b>one</b>") < page.index("<b>two</b>")
    assert "<script" not in html_page("t", [Section("s")])


def test_the_first_of_several_charts_has_no_more_room_than_the_others():
    one, two = (html_page("t", [Section("s", charts=["<b>chart</b>"] * count)]) for count in (1, 2))

    assert '<div class="several">' in two
    assert '<div class="several">' not in one
    assert ".several { display: grid; grid-template-columns: repeat(auto-fill" in two  # auto-fit takes a whole row
