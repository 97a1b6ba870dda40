"""Puts the page together and writes it.

Promise: every number on the page is the comparison's; the page is one file that loads nothing,
hides no character of a name, and appears whole or not at all. Its one script sorts tables: the
page's own policy lets no other run, and without it nothing is missing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.annotations import Taxonomy
from antcache.annotations.protocols import Protocol, before, protocol_for
from antcache.checks import Count, check_types
from antcache.errors import NotFound, needs
from antcache.evaluation.comparing.compare import ClassChange, CompareConfig, Comparison, compare
from antcache.evaluation.comparing.draws import MetricChange
from antcache.evaluation.report import classes, curves, sureness, video_bars, words
from antcache.evaluation.report.films import MOST, Film, Films, Moment
from antcache.evaluation.report.timeline import timeline
from antcache.files import atomic_file, check_file
from antcache.store import Store, Stream
from antcache.text import plain

TEMPLATE = "page.html"


@dataclass(frozen=True, kw_only=True)
class ReportLayout:
    """What a report shows of a comparison."""

    title: str | None = None
    """Of the page; None: that the one is compared with the other."""
    classes: Count = 15
    """Action classes that are drawn, of those gained and of those lost."""
    video: str | None = None
    """Of the timeline; None: one whose gain is the closest to that of the whole split."""

    def __post_init__(self) -> None:
        check_types(self)


def write_report(
    store: Store,
    a: Sequence[str],
    b: Sequence[str],
    path: Path,
    *,
    names: Sequence[str] | None = None,
    teacher: str | None = None,
    split: str | None = None,
    config: CompareConfig | None = None,
    layout: ReportLayout | None = None,
    films: Films | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Compare the runs `b` with the runs `a` and write the page to `path`.

    Args:
        store: where the labels are.
        a: see `compare.compare`, as for `b`, `names`, `teacher` and `split`.
        b: paired with `a` by order.
        path: of the HTML file.
        names: what A and B are called.
        teacher: by which fixed and broken segments are sorted.
        split: of the labels.
        config: how they are compared.
        layout: what is shown.
        films: gives the examples film strips; None: they have none.
        overwrite: replace a file that is there.

    Returns:
        The comparison that the page shows.

    Raises:
        AlreadyExists: `path` is there and `overwrite` is false, or it is a folder.
        NotFound: there is no folder to write it in.
        MissingExtra: jinja2 is not installed, or what `films` needs.
        BadConfig, BadCheckpoint, FingerprintMismatch, MissingKey, MissingTarget: see
            `compare.compare`, `curves.read_history` and `timeline.timeline`.
    """
    config = config or CompareConfig()
    check_page(path, overwrite=overwrite)
    found = compare(store, a, b, names=names, teacher=teacher, split=split, config=config)
    streams = [store.stream(name) for name in store.streams()]
    page = render(
        found, store.taxonomy, config, layout, streams, films=films, protocol=store.protocol
    )
    with atomic_file(path, overwrite=overwrite) as staged:
        staged.write_text(page, "utf-8")
    return found


def check_page(path: Path, *, overwrite: bool = False) -> None:
    """Whether `write_report` can write to `path`, before any work; raises as it does."""
    page_environment()
    check_file(path, overwrite=overwrite)
    if not path.parent.is_dir():
        raise NotFound("no folder to write the report in", where=path.parent)


def render(
    found: Comparison,
    taxonomy: Taxonomy,
    config: CompareConfig | None = None,
    layout: ReportLayout | None = None,
    streams: Sequence[Stream] = (),
    *,
    films: Films | None = None,
    protocol: Protocol | None = None,
) -> str:
    """The page of a comparison.

    Args:
        found: the comparison.
        taxonomy: its actions.
        config: how it was made, which the page says.
        layout: what is shown.
        streams: features that the store holds; the page says where they come from.
        films: gives the examples film strips.
        protocol: the windows that were seen, of which strips are; None: the dataset's.

    Raises:
        MissingExtra: jinja2 is not installed, or what `films` needs.
        BadConfig, BadCheckpoint: see `write_report`.
    """
    config, layout = config or CompareConfig(), layout or ReportLayout()
    environment = page_environment()
    environment.filters |= {
        "signed": words.signed,
        "amount": words.amount,
        "clock": words.clock,
        "label": words.metric_label,
        "verdict": words.verdict,
        "p_value": words.p_value,
    }
    page: str = environment.get_template(TEMPLATE).render(
        title=layout.title or f"{found.names[1]} compared with {found.names[0]}",
        name_a=found.names[0],
        name_b=found.names[1],
        version=__version__,
        found=found,
        before=before,
        sampling=config.sampling,
        level=words.percent(config.sampling.level),
        taxonomy=taxonomy,
        streams=streams,
        summary=words.summary(found),
        headlines=[n for n in words.HEADLINES if n in found.metrics and n not in found.same],
        interval=_interval_scale(found.metrics.values()),
        frequency_interval=_interval_scale(g.change for g in found.frequency if g.change),
        change_names=words.CHANGE_NAMES,
        teacher_names=words.TEACHER_NAMES,
        buckets=[_groups(found, number) for number in range(len(found.buckets))],
        timeline=timeline(found, taxonomy, layout.video),
        films=None
        if films is None
        else _films(found, films, protocol or protocol_for(taxonomy.dataset)),
        film_notes={} if films is None else films.notes,
        all_classes=_by_kind(found),
        video_words=video_bars.words(found),
        video_drawing=video_bars.draw(found),
        calibration_drawing=sureness.draw(found),
        calibration_rows=sureness.rows(found),
        reliability=sureness.bins(found),
        headings=_headings(found),
        **_script(),
        **_curves(found),
        **_classes(found, layout.classes),
    )
    return page


def page_environment(*templates: tuple[str, str]) -> Any:
    """Jinja2's environment of a page in the style of reports.

    Args:
        templates: package and folder of further templates, which `{% include "style.css" %}`.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    with needs("jinja2", "report"):
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    places = (("antcache.evaluation", "report"), *templates)
    return Environment(
        loader=ChoiceLoader([PackageLoader(*place) for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """What stands in the page for a value: text as `plain` has it, and drawings as they are."""
    return plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _interval_scale(changes: Iterable[MetricChange]) -> Any:
    """Places in a box 100 wide, zero at 50: a function from a metric to (low, value, high)."""
    ends = [max(abs(m.difference.low), abs(m.difference.high)) for m in changes]
    widest = max(ends, default=0.0) or 1.0

    def places(change: MetricChange) -> tuple[float, float, float]:
        d = change.difference
        low, value, high = (round(50 + 48 * x / widest, 2) for x in (d.low, d.value, d.high))
        return low, value, high

    return places


def _script() -> dict[str, Any]:
    """The script that sorts tables, and what the page's policy knows it by."""
    from markupsafe import Markup

    text = files("antcache.evaluation").joinpath("report/sort.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"script": Markup(text), "script_hash": f"sha256-{digest}"}


def _headings(found: Comparison) -> Any:
    """Style rules that name each cell of a large table on a phone: in the cells themselves, the
    names of thousands of rows would make most of the page."""
    from markupsafe import Markup

    a, b = found.names
    tables = {
        "by-class": ("segments", a, b, "difference", "many-shot"),
        "by-video": (
            *("segments", a, b, "difference"),
            *(f"{name}, 5 best" for name in (a, b, "difference")),
        ),
    }
    rules = [
        f".{table} td:nth-of-type({column})::before {{ content: {_css_string(name)}; }}"
        for table, names in tables.items()
        for column, name in enumerate(names, start=1)
    ]
    return Markup("\n".join(rules))


def _css_string(text: str) -> str:
    """Any text as a string of a style sheet: all but letters and digits of ASCII by number."""
    plainly = (c if c.isascii() and c.isalnum() else f"\\{ord(c):x} " for c in plain(text))
    return f'"{"".join(plainly)}"'


def _by_kind(found: Comparison) -> list[tuple[str, list[ClassChange]]]:
    """Every class that is present, actions first."""
    kinds = dict.fromkeys(change.kind for change in found.classes)
    return [(kind, [c for c in found.classes if c.kind == kind]) for kind in kinds]


def _films(
    found: Comparison, films: Films, protocol: Protocol
) -> Mapping[str, tuple[Film | None, str]]:
    """By the id of an example: its strip, or None and the id of the example that has it already.

    Of the examples, the first `MOST` segments have strips; the others are not among the ids.
    """
    gap_s = protocol.gap_s if found.task.gap_s is None else found.task.gap_s
    at = protocol.at(found.anchor)
    moments: dict[str, Moment] = {}
    firsts: dict[str, str] = {}
    places: dict[str, str] = {}
    for buckets in found.buckets:
        for cell in buckets.cells:
            for number, e in enumerate(cell.examples):
                place = f"e-{buckets.k}-{cell.teacher}-{cell.change}-{number}"
                if e.uid not in moments and len(moments) < MOST:
                    zero_s = float(at.reference_s(e.start_s, e.stop_s))
                    moments[e.uid] = Moment(video=e.video, end_s=zero_s - gap_s, zero_s=zero_s)
                    firsts[e.uid] = place
                if e.uid in moments:
                    places[place] = e.uid
    made = films.of(moments, (protocol.num_frames - 1) / protocol.rate)
    return {
        place: (made[uid], "") if firsts[uid] == place else (None, firsts[uid])
        for place, uid in places.items()
    }


def _groups(found: Comparison, number: int) -> dict[str, Any]:
    """The cells of one k by what the teacher knew; those without any segment left out."""
    buckets = found.buckets[number]
    groups: dict[str, list[Any]] = {}
    for cell in buckets.cells:
        groups.setdefault(cell.teacher, []).append(cell)
    kept = {
        name: cells
        for name, cells in groups.items()
        if name != "absent" or found.teacher is None or any(cell.count for cell in cells)
    }
    shown = [cell for cells in kept.values() for cell in cells if cell.examples]
    return {"k": buckets.k, "groups": kept, "shown": shown}


def _curves(found: Comparison) -> dict[str, Any]:
    sides = [[(s.name, curves.read_history(s.name)) for s in side] for side in (found.a, found.b)]
    without = [name for side in sides for name, history in side if history is None]
    a, b = ([history for _, history in side if history is not None] for side in sides)
    panels = curves.panels_of(a, b, found.names)
    drawn = [(panel, curves.draw(panel, f"curve-{i}")) for i, panel in enumerate(panels)]
    return {"curves": drawn, "without_curves": without}


def _classes(found: Comparison, count: int) -> dict[str, Any]:
    everything = {"gained": found.gained(), "lost": found.lost()}
    shown = {name: classes.largest(own, count) for name, own in everything.items()}
    scale = max((abs(classes.segments(c)) for own in shown.values() for c in own), default=1.0)
    sides = []
    for name, changes in shown.items():
        total = len(everything[name])
        title = f"Action classes that {'gain' if name == 'gained' else 'lose'} most"
        drawing = ""
        if changes:
            drawing = classes.draw(changes, f"classes-{name}", title, found.names, scale=scale)
        sides.append({"name": name, "rows": changes, "total": total, "drawing": drawing})
    return {"class_counts": classes.counts(found), "class_sides": sides}
