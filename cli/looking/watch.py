"""`antcache watch`: what comes next in a camera's picture, a stream, or a file at its own speed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import command, section
from antcache.cli.common import (
    PATH,
    json_option,
    live_bars,
    note,
    print_json_line,
    say,
    warn,
)
from antcache.cli.numbers import SPEED
from antcache.cli.options import (
    backbone_option,
    device_option,
    listener_option,
    max_gap_option,
    student_option,
    top_option,
)
from antcache.errors import BadConfig, needs

if TYPE_CHECKING:
    from antcache.predict.live.broadcast import Broadcast
    from antcache.predict.live.watching import LiveAnswer, Watch, WatchReport

PAGE = "127.0.0.1:8400"


@command(
    example="antcache watch 0 --student runs/distilled --serve 127.0.0.1:8400",
    then="`antcache predict` asks about a whole file at once.",
    goes_on="nothing was kept; give the same command again to watch on.",
)
@click.argument("source")
@section(
    "Student",
    student_option,
    listener_option,
    backbone_option("the one that the run names"),
    click.option(
        "--labels",
        type=PATH,
        metavar="STORE",
        help="Store with the classes of a run that is from before they were kept with it.",
    ),
    device_option,
)
@section(
    "Source",
    click.option("--speed", type=SPEED, default=1.0, help="Of a recording; 1 is its own speed."),
    max_gap_option,
)
@section(
    "Page",
    click.option(
        "--serve",
        metavar="[HOST:]PORT",
        show_default="no page",
        help=f"Show the answers on a page, too, as {PAGE}; port 0: any.",
    ),
    click.option(
        "--host", show_default="127.0.0.1, for this machine alone", help="Address to listen on."
    ),
)
@top_option
@json_option
def watch(
    source: str,
    student: Path,
    teacher: Path | None,
    backbone: str | None,
    labels: Path | None,
    device: str,
    speed: float,
    max_gap_s: float,
    serve: str | None,
    host: str | None,
    top: int,
    as_json: bool,
) -> None:
    """Say what comes next in SOURCE, while it is seen.

    SOURCE is the number of a camera (0 is the first), a URL (rtsp, http), or a file, which is
    played at its own speed. What there is no time for is left out. Ctrl-C ends it.
    """
    from antcache.predict.live.places import place_of

    place = place_of(source)
    with _listening(serve, host) as listening:
        taxonomy = None
        if labels is not None:
            from antcache.store import Store

            taxonomy = Store.open(labels).taxonomy
        from antcache.predict import Anticipator
        from antcache.predict.live.watching import Watch

        anticipator = Anticipator.load(
            student,
            teacher=teacher,
            backbone=backbone,
            device=device,
            taxonomy=taxonomy,
            max_gap_s=max_gap_s,
            allow_partial=True,
        )
        watched = Watch(anticipator, place, speed=speed, top=top)
        with _page(watched, listening) as broadcast:
            try:
                _answer(watched, broadcast, as_json)
            finally:
                _say_the_end(watched, broadcast, as_json)


def _say_the_end(watched: Watch, broadcast: Broadcast | None, as_json: bool) -> None:
    """What was seen, however it ended; nothing if nothing was."""
    report = watched.report()
    if broadcast is not None:
        broadcast.end({"text": _in_words(report)})
    if not report.frames:
        return
    if as_json:
        print_json_line({"summary": report.to_dict()})
    else:
        say(f"{watched.place}: {_in_words(report)}")
    if report.undecodable:
        warn(f"{report.undecodable} packets could not be decoded")
    if report.slowed_s:
        late = f"{report.slowed_s:.1f} s"
        warn(f"it was played {late} more slowly than asked for: decoding it takes longer")


def _answer(watched: Watch, broadcast: Broadcast | None, as_json: bool) -> None:
    with closing(watched.answers()) as answers, nullcontext() if as_json else live_bars() as show:
        for answer in answers:
            if broadcast is not None:
                from antcache.predict.live.server import for_page

                broadcast.tell(for_page(answer.to_dict()))
            if as_json:
                print_json_line(answer.to_dict())
            elif show is None:
                say(f"{answer.anticipation}; {_how(answer)}")
            else:
                found = answer.anticipation
                bars = [(each.name, each.probability) for each in found.top]
                show(f"{watched.place}, {found.time_s:.1f} s", bars, _how(answer))


def _how(answer: LiveAnswer) -> str:
    """How an answer came about."""
    text = f"delay {_ms(answer.delay_s)}, frames {answer.frames}, dropped rows {answer.dropped}"
    text += f", stand-ins {answer.stand_ins}" if answer.stand_ins else ""
    return text + (f"; {answer.history}" if answer.history is not None else "")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _in_words(report: WatchReport) -> str:
    """What was seen."""
    text = f"{report.answers} answers in {report.seconds:.1f} s"
    if report.seen_s is not None and report.delay_s is not None and report.delay_p95_s is not None:
        text += f", the last at {report.seen_s:.1f} s"
        text += f"; delay {_ms(report.delay_s)} (95 %: {_ms(report.delay_p95_s)})"
    text += f"; {report.frames} frames, {report.dropped} of {report.rows} rows dropped"
    return text + (f"; history begun anew: {report.begun_anew}" if report.begun_anew else "")


@contextmanager
def _listening(serve: str | None, host: str | None) -> Iterator[socket.socket | None]:
    """Where the page will be served, if there is to be one; a port in use is said at once."""
    if serve is None:
        if host is not None:
            raise BadConfig("--host is for the page", expected="--serve as well")
        yield None
        return
    with needs("starlette", "serve"):
        import starlette  # noqa: F401  # before anything is loaded
    with needs("uvicorn", "serve"):
        import uvicorn  # noqa: F401
    from antcache.predict.live.addresses import address
    from antcache.serving.listening import listen

    with closing(listen(*address(serve, host))) as listening:
        yield listening


@contextmanager
def _page(watched: Watch, listening: socket.socket | None) -> Iterator[Broadcast | None]:
    if listening is None:
        yield None
        return
    from antcache.predict.live.broadcast import Broadcast
    from antcache.predict.live.server import about, serving

    broadcast = Broadcast(about(watched))
    with serving(broadcast, listening) as url:
        note(f"the page is at {url}")
        yield broadcast
