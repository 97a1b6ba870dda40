"""Inline SVG with a title and a description, coloured by the page's style sheet.

Promise: every drawing has a text alternative, all text is escaped and none of it hidden, and no
colour is written into it: classes are, so that one drawing serves light and dark pages and print.
Coordinates are units of the drawing's own box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape as escape_markup
from xml.sax.saxutils import quoteattr

from antcache.text import plain

TICK_STEPS = (1, 2, 2.5, 5, 10)


class Drawing:
    """One SVG element that is filled shape by shape.

    Args:
        name: unique on the page; the ids of title and description begin with it.
        width: of the box, units.
        height: of the box, units.
        title: what it shows, in a few words.
        description: what can be seen in it, for readers who can't.
    """

    def __init__(
        self, name: str, width: float, height: float, *, title: str, description: str
    ) -> None:
        self._parts = [
            f'<svg viewBox="0 0 {_n(width)} {_n(height)}" role="img" '
            f'aria-labelledby="{name}-t {name}-d">'
            f'<title id="{name}-t">{escape(title)}</title>'
            f'<desc id="{name}-d">{escape(description)}</desc>'
        ]

    def __str__(self) -> str:
        return "".join(self._parts) + "</svg>"

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, title: str = ""
    ) -> None:
        """A rectangle with rounded corners; `title` is shown on hover."""
        box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="2"'
        self._shape("rect", box, style, title)

    def line(self, points: Iterable[tuple[float, float]], style: str, title: str = "") -> None:
        """A line through points."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._shape("polyline", f'points="{path}"', style, title)

    def text(self, x: float, y: float, text: str, style: str = "") -> None:
        """Text whose baseline begins at (x, y); classes `mid` and `end` move it."""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{_class(style)}>{escape(text)}</text>')

    def _shape(self, element: str, attributes: str, style: str, title: str) -> None:
        inner = f"><title>{escape(title)}</title></{element}>" if title else "/>"
        self._parts.append(f"<{element} {attributes}{_class(style)}{inner}")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`, both inclusive.

    Args:
        low: finite.
        high: finite and above `low`.
        count: from 1.
    """
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(s * unit for s in TICK_STEPS if s * unit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def shorten(text: str, length: int) -> str:
    """`text`, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def escape(text: str) -> str:
    """Text that is neither markup nor hidden."""
    return escape_markup(plain(text))


def _class(style: str) -> str:
    return f" class={quoteattr(style)}" if style else ""


def _n(value: float) -> str:
    """A coordinate with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
