"""A trained student with the backbone of its stream: ask it about a video, or while it is seen.

Promise: what is said of a file is what `antcache student predict` says of a store that was made of
it: rows are made, rounded and put into windows by the same code. With a listening teacher it is
what the two together say there (`antcache teacher listen`). A video is decoded once, and of its
rows only those are held that a later window looks at. Nothing is written.
Letters: M times, C classes, V verbs, O nouns, T frames of a window, D feature.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Protocol, Taxonomy
from antcache.checks import check_type
from antcache.errors import BadConfig, NotFinite
from antcache.extract.engines.video import RowMaker
from antcache.extract.plan import AnyBackbone
from antcache.extract.rows.moments import Times
from antcache.extract.videos.decode import TOLERANCE_S, source_of
from antcache.extract.videos.pictures import Picture
from antcache.extract.videos.source import VideoSource, file_name
from antcache.predict.answers import Anticipation, Anticipations, Unanswered, likeliest
from antcache.predict.asking import AskedTime, Every, asked_times, in_words
from antcache.predict.embedding import row_maker
from antcache.predict.held import HeldRows
from antcache.predict.listening.listener import Listener
from antcache.predict.live.history import LiveHistory
from antcache.predict.passing import VideoPass
from antcache.predict.rolling import LIVE, RollingRows
from antcache.student.runs.kept import KeptStudent
from antcache.text import utf8

EVERY_S = 0.5
"""Seconds between two times that are asked about, unless others are given."""


class WindowScores(NamedTuple):
    """Log-probabilities of M windows.

    Attributes:
        action: (M, C) float32.
        verb: (M, V) float32 of a student with a classifier of its own, or None.
        noun: (M, O) float32, or None.
    """

    action: NDArray[np.float32]
    verb: NDArray[np.float32] | None
    noun: NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Anticipator:
    """A student, and what makes the rows that it reads.

    Attributes:
        student: of a finished run.
        make: the backbone, and the stream that the student was trained on.
        listener: a teacher that hears what is recognised; its answers and the student's are mixed.
    """

    student: KeptStudent
    make: RowMaker
    listener: Listener | None = None

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        teacher: str | Path | None = None,
        backbone: str | Path | AnyBackbone | None = None,
        device: str | None = None,
        taxonomy: Taxonomy | None = None,
        max_gap_s: float = 2.0,
        allow_partial: bool = False,
    ) -> Anticipator:
        """The student of a run, and its backbone.

        Args:
            run: folder of the run.
            teacher: folder of a listening teacher, made for this student; see
                `antcache.predict.listening.listener`.
            backbone: hub id, folder, `package.module:factory` or a loaded one; None: what the run
                names, if that is a folder that is here, or a hub id.
            device: of both; None: the run's setting.
            taxonomy: the classes, for runs from before they were kept with it.
            max_gap_s: how far apart two frames of a video may be, in seconds.
            allow_partial: accept videos that end before the end that they state.

        Raises:
            NotFound: there is no such run, or it has no checkpoint yet.
            BadCheckpoint: it can't be read, or is from before what is needed was kept with runs.
            BadConfig: it reads several streams, or one that no backbone makes of a video; or no
                backbone is named; or a teacher is to listen where rows are of windows alone.
            UnknownBackbone: the backbone is not here.
            FingerprintMismatch: the backbone's rows are others than the run was trained on, or the
                listening teacher is for another student.
        """
        student = KeptStudent.load(Path(run), device=device, taxonomy=taxonomy)
        listener = None if teacher is None else Listener.load(teacher, device=device)
        if listener is not None:
            listener.check(student, teacher)
        if len(student.streams) > 1:
            raise BadConfig(
                "the run reads several streams, and videos are embedded for one",
                where=run,
                expected="a run on one stream",
                found=", ".join(stream.name for stream in student.streams),
            )
        make = row_maker(
            student.streams[0],
            backbone,
            device=device or student.config.runtime.device,
            max_gap_s=max_gap_s,
            allow_partial=allow_partial,
            where=run,
        )
        HeldRows(make.stream, student.protocol)  # refuses what its windows can't be made of
        if listener is not None:
            listener.check_stream(make.stream, run)
        return cls(student=student, make=make, listener=listener)

    @property
    def gap_s(self) -> float:
        """Seconds from a time to the action that is anticipated then."""
        return self.student.protocol.gap_s

    @property
    def protocol(self) -> Protocol:
        """What its windows are."""
        return self.student.protocol

    @property
    def names(self) -> tuple[str, ...]:
        """Of the C actions."""
        return self.student.taxonomy.actions

    def predict(
        self,
        video: str | Path | VideoSource,
        *,
        every: float | None = None,
        at: Iterable[float] | None = None,
    ) -> Anticipations:
        """What is expected at some times of a video, over all classes.

        Args:
            video: a file, or another source.
            every: seconds; the multiples of it are asked about, from the first at which something
                was seen to the last frame. None: 0.5, unless `at` is given.
            at: the times, in seconds; those without an answer are `unanswered`.

        Raises:
            UnreadableVideo: it can't be decoded.
            BadConfig: impossible times, or both kinds; or features that can't be held.
            NotFinite: features, or the student's scores.
        """
        parts = list(self.parts(video, every=every, at=at))
        return replace(
            parts[-1],
            times_s=np.concatenate([part.times_s for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            verb_scores=_joined([part.verb_scores for part in parts]),
            noun_scores=_joined([part.noun_scores for part in parts]),
        )

    def each(
        self,
        video: str | Path | VideoSource,
        *,
        every: float | None = None,
        at: Iterable[float] | None = None,
        top: int = 5,
    ) -> Iterator[Anticipation | Unanswered]:
        """The likeliest actions at each time, as they are found; then the times without an answer.

        Args and errors are those of `predict`; `top` is how many actions.
        """
        for part in self.parts(video, every=every, at=at):
            yield from part.top(top)
            yield from part.unanswered

    def parts(
        self,
        video: str | Path | VideoSource,
        *,
        every: float | None = None,
        at: Iterable[float] | None = None,
        name: str = "",
    ) -> Generator[Anticipations, None, None]:
        """As `predict`, in parts as they are found; the last, which has no times, says which times
        have no answer, and when the video ends. `name` is what answers call the video, else its
        file's name without the ending."""
        if every is not None and at is not None:
            raise BadConfig("`every` and `at` exclude each other")
        if at is not None:
            times: Times | float = asked_times(at)
        else:
            times = float(EVERY_S if every is None else every)
            check_type("every", times, Every)
        source = source_of(Path(video) if isinstance(video, str) else video)
        return self._parts(source, times, name or utf8(Path(file_name(source.path)).stem))

    def stream(
        self,
        frames: Iterable[tuple[float, Picture]],
        *,
        every: float | None = EVERY_S,
        top: int = 5,
    ) -> Iterator[Anticipation]:
        """What is expected while pictures come.

        Args:
            frames: when each is seen from, in seconds, ascending, and the picture (H, W, 3) uint8.
            every: seconds; the multiples of it are asked about, once a picture of that time or a
                later one has come. None: the times of all pictures.
            top: how many actions.

        Yields:
            Answers; times before anything was seen have none.

        Raises:
            BadConfig: times do not ascend, something is no picture, or an impossible step.
            NotFinite: features, or the student's scores.
        """
        if every is not None:
            check_type("every", every, Every)
        return self._stream(frames, every, top)

    def rolling(self) -> RollingRows:
        """The window that ends now, for a stream of pictures of one's own; a teacher that listens
        hears what is recognised in them."""
        history = None if self.listener is None else LiveHistory(self, self.listener, LIVE)
        return RollingRows(self.make, self.protocol, history)

    def now(
        self, rolling: RollingRows, time_s: float | None = None, *, top: int = 5
    ) -> Anticipation | None:
        """The answer at a time of what `rolling` has seen; None before anything was seen.

        Args:
            rolling: as of the method of that name.
            time_s: None: the time of the newest picture; see `RollingRows.window`.
            top: how many actions.

        Raises:
            BadConfig: a time after the newest picture; or `rolling` is of no `Anticipator` with a
                teacher that listens, and this one has one.
            NotFinite: features, or the scores of who is asked.
        """
        window = rolling.window(time_s)
        if window is None:
            return None
        time_s = rolling.last_s if time_s is None else time_s
        scores = self.score(window[None]).action
        if self.listener is not None:
            scores = self.listener.mixed(scores, rolling.expected(time_s)[None])
        return Anticipation(
            time_s=time_s,
            gap_s=self.gap_s,
            top=likeliest(scores[0], self.names, top),
            anchor=self.protocol.anchor,
        )

    def score(self, features: Tensor, where: object = "") -> WindowScores:
        """Log-probabilities of windows, by the student alone.

        Args:
            features: (M, T, D), or (M, T, k, D) of tokens, on any device.
            where: the video, for messages.

        Raises:
            NotFinite: features, or the student's scores.
        """
        return _score(self.student, features, "the student", where)

    def recognise(self, features: Tensor, where: object = "") -> NDArray[np.float64]:
        """Log-likelihoods (M, C) of what windows of the listener's recogniser show, by the action
        under way; see `hearing.FrameEvidence`.

        Args:
            features: (M, T, D), or (M, T, k, D) of tokens, on any device.
            where: the video, for messages.

        Raises:
            NotFinite: features, or the recogniser's scores.
        """
        assert self.listener is not None
        who = self.listener.recogniser
        return self.listener.likelihood(_score(who, features, "the recogniser", where).action)

    def _stream(
        self, frames: Iterable[tuple[float, Picture]], every: float | None, top: int
    ) -> Iterator[Anticipation]:
        rolling, number = self.rolling(), 0
        for seconds, picture in frames:
            rolling.see(seconds, picture)
            if every is None:
                times = [seconds]
            else:
                start = rolling.start_s or 0.0
                last = math.floor((seconds + TOLERANCE_S) / every)
                first = max(number, math.ceil((start - TOLERANCE_S) / every))
                times = [tick * every for tick in range(first, last + 1)]
                number = last + 1
            for time_s in times:
                answer = self.now(rolling, min(time_s, seconds), top=top)
                if answer is not None:
                    yield replace(answer, time_s=time_s)

    def _parts(
        self, source: VideoSource, times: Times | float, video: str
    ) -> Generator[Anticipations, None, None]:
        listener = self.listener
        ticks = None if listener is None else listener.ticks
        hearing = None if listener is None else listener.hear()
        windows = VideoPass(self.make, self.protocol, source, times, ticks)
        without: list[AskedTime] = []
        with closing(iter(windows)) as found:
            for each in found:
                without += each.without
                if each.features is None:
                    continue
                if listener is None or hearing is None:
                    scores = self.score(each.features, source.path)
                elif each.ticks:
                    hearing.recognised(each.times_s, self.recognise(each.features, source.path))
                    continue
                else:
                    own = self.score(each.features, source.path).action
                    expected = np.stack([hearing.expected(time_s) for time_s in each.times_s])
                    scores = WindowScores(listener.mixed(own, expected), None, None)
                yield self._part(video, each.times_s, scores)
        none = WindowScores(np.empty((0, len(self.names)), np.float32), None, None)
        reasons = [(each.time_s, in_words(each.reason, windows.last_s)) for each in without]
        yield replace(
            self._part(video, [], none),
            unanswered=tuple(
                Unanswered(time_s=time_s, reason=reason, video=video) for time_s, reason in reasons
            ),
            last_s=windows.last_s,
        )

    def _part(self, video: str, times_s: Sequence[float], scores: WindowScores) -> Anticipations:
        return Anticipations(
            video=video,
            gap_s=self.gap_s,
            names=self.names,
            times_s=np.asarray(times_s, dtype=np.float64),
            scores=scores.action,
            verb_scores=scores.verb,
            noun_scores=scores.noun,
            anchor=self.protocol.anchor,
        )


def _joined(parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """Scores of all parts; None where the student has none."""
    kept = [part for part in parts if part is not None]
    return np.concatenate(kept) if kept else None


@torch.no_grad()
def _score(student: KeptStudent, features: Tensor, who: str, where: object) -> WindowScores:
    """Log-probabilities of windows; see `Anticipator.score`."""
    _check_finite("features", features, where)
    output = student.predictor(features.float())
    _check_finite(f"scores of {who}", output.logits, where)
    kept = (output.logits, output.verb_logits, output.noun_logits)
    return WindowScores(
        *(None if each is None else each.float().log_softmax(-1).cpu().numpy() for each in kept)  # type: ignore[arg-type]
    )


def _check_finite(what: str, values: Tensor, where: object) -> None:
    """Refuse values that hold NaN or infinity."""
    if not torch.isfinite(values).all():
        raise NotFinite(f"{what} that are not finite (NaN or infinite)", where=where)
