"""Draws who imports whom, read from the imports themselves, as docs/architecture.svg.

    python docs/architecture.py            # draws it anew
    python docs/architecture.py --check    # exit 1 if the picture is out of date

Promise: a box for each part of the package (small modules at its top are one), an arrow for each
import of another part but those that a longer way says as well; whoever imports stands higher.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PICTURE = REPO / "docs" / "architecture.svg"
FOLDERS = {"antcache": "antcache", "antcache.kernels": "kernels", "antcache.cli": "cli"}
SMALL = "errors, files, text, timebase, ..."
"""The modules that lie in antcache/ itself, under all others."""
WIDTH, HEIGHT, GAP, STEP, MARGIN = 150, 42, 26, 100, 16

Graph = dict[str, set[str]]


def modules() -> Iterator[tuple[str, Path]]:
    """Import name and file of every module."""
    for name, folder in FOLDERS.items():
        for file in sorted((REPO / folder).rglob("*.py")):
            parts = file.relative_to(REPO / folder).with_suffix("").parts
            yield ".".join([name, *(part for part in parts if part != "__init__")]), file


def part_of(module: str, parts: set[str]) -> str:
    """The part that a module, or a name in one, belongs to; "" for the package's own name."""
    pieces = module.split(".")
    if pieces[0] != "antcache" or len(pieces) < 2:
        return ""
    return pieces[1] if pieces[1] in parts else SMALL


def imported(file: Path) -> Iterator[str]:
    """Absolute names that a file imports."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_and_imports() -> Graph:
    """Each part of the package, and the others that it imports."""
    folders = {p.parent.name for p in (REPO / "antcache").glob("*/__init__.py")}
    parts = folders | {"kernels", "cli"}
    graph: Graph = {part: set() for part in sorted(parts)} | {SMALL: set()}
    for module, file in modules():
        mine = part_of(module, parts)
        if not mine or module in ("antcache.api", "antcache.__main__"):
            continue  # the front door opens on all of them
        for name in imported(file):
            theirs = part_of(name, parts)
            if theirs and theirs != mine and name != "antcache.__version__":
                graph[mine].add(theirs)
    return graph


def below(graph: Mapping[str, set[str]], part: str) -> set[str]:
    """All that a part reaches by one step or more."""
    found: set[str] = set()
    todo = list(graph[part])
    while todo:
        if (next_ := todo.pop()) not in found:
            found.add(next_)
            todo += graph[next_]
    return found


def heights(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Steps of the longest way down from each part.

    Raises:
        SystemExit: there is a circle.
    """
    for part in graph:
        if part in below(graph, part):
            raise SystemExit(f"a circle of imports through {part}")
    known: dict[str, int] = {}

    def height(part: str) -> int:
        if part not in known:
            known[part] = 1 + max((height(other) for other in graph[part]), default=-1)
        return known[part]

    return {part: height(part) for part in graph}


def drawn(graph: Graph) -> str:
    """The picture."""
    level = heights(graph)
    rows = [sorted(p for p in graph if level[p] == h) for h in range(max(level.values()) + 1)]
    width = max(map(len, rows)) * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = (len(rows) - 1) * STEP + HEIGHT + 2 * MARGIN
    place: dict[str, tuple[float, float]] = {}
    for h, row in enumerate(rows):
        start = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for i, part in enumerate(row):
            place[part] = start + i * (WIDTH + GAP), height - MARGIN - HEIGHT - h * STEP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Who imports whom" font-family="sans-serif" font-size="14">',
        "<style>rect{fill:#eef3fb;stroke:#4a6fa5}text{fill:#1b2a41}path{fill:none;stroke:#7d8ca3}"
        "@media(prefers-color-scheme:dark){rect{fill:#22304a;stroke:#8fb0e0}text{fill:#e6edf7}"
        "path{stroke:#8a97ab}}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8"/></marker></defs>',
    ]
    for part, others in graph.items():
        said = set().union(*(below(graph, other) for other in others))
        for other in sorted(others - said):
            (x, y), (u, v) = place[part], place[other]
            x, u, y = x + WIDTH / 2, u + WIDTH / 2, y + HEIGHT
            bend = (v - y) / 2
            lines.append(
                f'<path marker-end="url(#tip)" d="M{x:g},{y:g} C{x:g},{y + bend:g} '
                f'{u:g},{v - bend:g} {u:g},{v:g}"><title>{escape(part)} imports '
                f"{escape(other)}</title></path>"
            )
    for part, (x, y) in sorted(place.items()):
        lines.append(f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        size = ' font-size="9"' if part == SMALL else ""
        lines.append(
            f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 5:g}" text-anchor="middle"{size}>'
            f"{escape(part)}</text>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Draw, or check."""
    picture = drawn(parts_and_imports())
    if "--check" in sys.argv[1:]:
        if not PICTURE.is_file() or PICTURE.read_text("utf-8") != picture:
            raise SystemExit(f"{PICTURE} is out of date: python docs/architecture.py")
        return
    PICTURE.write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
