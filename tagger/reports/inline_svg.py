"""Make matplotlib's SVG part of a page: without styles of its own, which the page's policy forbids, and in the page's colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from markupsafe import Markup

INK = "#010203"  # drawn in this colour is what takes the colour of the text around the picture

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_DROPPED = (f"{_SVG}metadata", f"{_SVG}style")
_FONT = ("font-family",)  # the page's own is taken


def inline_svg(svg: str, name: str, title: str) -> Markup:
    """Return an svg element. name: a word that no other picture of the page has. title: what a screen reader says."""
    root = ElementTree.fromstring(svg)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in [one for one in root.iter() if one.tag in _DROPPED]:
        parents[element].remove(element)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _take_style(element)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key == _XLINK:
                del element.attrib[key]
                element.set("href", value.replace("#", f"#{name}-", 1))
            elif value.startswith("url(#"):
                element.set(key, value.replace("#", f"#{name}-", 1))
            elif value == INK:
                element.set(key, "currentColor")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": title, "class": "plot", "stroke-linejoin": "round"}
    return Markup(re.sub(r"\s*\n\s*", " ", ElementTree.tostring(root, encoding="unicode")))


def _take_style(element: ElementTree.Element) -> None:
    """Write what the style attribute says as attributes of SVG."""
    for item in element.attrib.pop("style", "").split(";"):
        key, _, value = item.partition(":")
        if key.strip() and key.strip() not in _FONT:
            element.set(key.strip(), value.strip())
