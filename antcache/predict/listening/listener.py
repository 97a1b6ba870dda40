"""A teacher that hears a recogniser, and how much it counts beside a student: a folder of its own.

    listener.json               settings, weights, and whose student they were learned for
    past.safetensors            how long training segments lasted, and the recogniser's prior
    recogniser/                 the recogniser, as `antcache student export` writes one
    teacher/                    the teacher
    predictions.safetensors     student and teacher as one, on the validation split
    heard.safetensors           the teacher alone there, told of the recognised past
    heard_held_out.safetensors  the same of the videos that the weights were learned on

Promise: the folder has all that is needed beside the student and its backbone; it may come from
anybody, and what it says is checked before anything is made by it. Weights are used with the
student that they were learned for, and with no other. Letters: N training segments, C actions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.annotations.segments import LONGEST_S
from antcache.errors import BadCheckpoint, BadConfig, FingerprintMismatch, NotFound
from antcache.evaluation.calibration import RANGE
from antcache.evaluation.fusion import mix
from antcache.files import FolderKind
from antcache.predict.held import HeldRows
from antcache.predict.listening.hearing import Floats, FrameEvidence, Hearing, ListenConfig
from antcache.predict.passing import Ticks
from antcache.store import Stream
from antcache.store.format import fingerprint
from antcache.student.config import StudentConfig
from antcache.student.runs.kept import KeptStudent
from antcache.teacher.base import Teacher, load_teacher
from antcache.teacher.recognizing.beam import GuessedHistory
from antcache.teacher.recognizing.durations import Durations
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import read_json

FORMAT = "antcache-listener-1"
SETTINGS, ARRAYS, RECOGNISER, TEACHER = "listener.json", "past.safetensors", "recogniser", "teacher"
HEARD, HEARD_HELD_OUT = "heard.safetensors", "heard_held_out.safetensors"
OUTPUT = FolderKind(what="a listening teacher", mark=SETTINGS)


@dataclass(frozen=True, kw_only=True)
class KnownPast:
    """What training segments tell of how long actions last, and how often they are recognised.

    Attributes:
        action: (N,) int64 ids of training segments.
        lasted_s: (N,) float64 seconds.
        prior: (C,) float64; see `hearing.log_prior`.
    """

    action: NDArray[np.int64]
    lasted_s: Floats
    prior: Floats

    @classmethod
    def of(cls, segments: Segments, prior: Floats) -> KnownPast:
        """That of some segments (N)."""
        lasted = np.asarray(segments.stop_s - segments.start_s, dtype=np.float64)
        return cls(action=segments.action, lasted_s=lasted, prior=prior)

    def guessing(self, teacher: Teacher, config: ListenConfig, gap_s: float) -> GuessedHistory:
        """A teacher that listens.

        Raises:
            BadConfig: it needs times; or fewer than two segments are known.
        """
        none = np.full(len(self.action), -1)
        segments = Segments.of(
            uid=np.arange(len(none)).astype(np.str_),
            video=np.full(len(none), ""),
            start_s=np.zeros(len(none)),
            stop_s=self.lasted_s,
            verb=none,
            noun=none,
            action=self.action,
        )
        durations = Durations.of(segments, len(self.prior), step_s=config.every_s)
        return GuessedHistory(teacher=teacher, durations=durations, config=config.beam(gap_s))


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A teacher that hears a recogniser.

    Attributes:
        recogniser: says what is under way.
        guessed: the teacher.
        past: what was known of the training videos.
        config: how it hears.
        weights: of the student and of the teacher, together 1.
        temperature: of the recogniser's scores; see `hearing.FrameEvidence`.
        gap_s: seconds between what was seen and what is expected.
        mark: of the student; see `mark_of`.
    """

    recogniser: KeptStudent
    guessed: GuessedHistory = field(repr=False)
    past: KnownPast = field(repr=False)
    config: ListenConfig
    weights: tuple[float, float]
    temperature: float
    gap_s: float
    mark: str

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None) -> Listener:
        """The listening teacher in a folder that `antcache teacher listen` wrote.

        Args:
            folder: of the teacher.
            device: torch device of recogniser and teacher; None: the recogniser's setting, cpu.

        Raises:
            NotFound: nothing of the kind is there.
            BadCheckpoint: it can't be read, or what it says makes no sense.
        """
        folder = Path(folder)
        for name in (SETTINGS, ARRAYS):
            if not (folder / name).is_file():
                raise NotFound(
                    "no listening teacher here",
                    where=folder / name,
                    hint="antcache teacher listen makes one of a teacher",
                )
        said = _read_settings(folder / SETTINGS)
        recogniser = KeptStudent.load(_inside(folder, RECOGNISER), device=device)
        taxonomy = recogniser.taxonomy
        if not recogniser.protocol.recognises:
            raise BadCheckpoint(
                "its recogniser anticipates",
                where=folder / RECOGNISER,
                expected="a run of antcache student recognise",
            )
        teacher, _ = load_teacher(_inside(folder, TEACHER), taxonomy, device=device or "cpu")
        past = read_past(folder / ARRAYS, taxonomy)
        try:
            guessed = past.guessing(teacher, said["config"], said["gap_s"])
        except BadConfig as error:
            raise BadCheckpoint("the teacher can't listen", where=folder, found=error) from error
        return cls(recogniser=recogniser, guessed=guessed, past=past, **said)

    def check(self, student: KeptStudent, where: object) -> None:
        """Refuse a student that the weights were not learned for.

        Raises:
            FingerprintMismatch: says what differs.
        """
        kept, own = self.recogniser, student.taxonomy.fingerprint
        mark = mark_of(student.config, student.protocol, _prints(student), own)
        for said, expected, found in (
            ("is for another taxonomy", kept.taxonomy.fingerprint, own),
            ("hears a recogniser of other features", _prints(kept), _prints(student)),
            ("has weights for another student", self.mark, mark),
        ):
            if expected != found:
                raise FingerprintMismatch(
                    f"the listening teacher {said}",
                    where=where,
                    expected=expected,
                    found=found,
                    hint="antcache teacher listen makes one for this student",
                )

    def check_stream(self, stream: Stream, where: object) -> None:
        """Refuse rows of which no ticks can be made.

        Raises:
            BadConfig: there are rows at windows alone, or none for the recogniser's gap.
        """
        if stream.at is not None:
            raise BadConfig(
                "a teacher that listens needs rows at a regular step",
                where=where,
                expected="a stream of antcache extract --fps",
                found="rows at the ends of windows alone",
            )
        HeldRows(stream, self.recogniser.protocol)

    @property
    def ticks(self) -> Ticks:
        """The windows in which it is recognised what is under way."""
        return Ticks(protocol=self.recogniser.protocol, every_s=self.config.every_s)

    def likelihood(self, scores: NDArray[np.floating]) -> Floats:
        """Log-likelihoods (R, C) of what was seen, of the recogniser's scores (R, C)."""
        evidence = FrameEvidence(prior=self.past.prior, temperature=self.temperature)
        return evidence.likelihood(scores)

    def hear(self) -> Hearing:
        """Begin a video."""
        return Hearing(self.guessed)

    def mixed(
        self, student: NDArray[np.floating], expected: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Log-probabilities (M, C) of student and teacher together, from those (M, C) of both."""
        weights = np.asarray(self.weights)
        found = mix([student, expected], weights, self.config.mixture)
        return (found - np.logaddexp.reduce(found, axis=1, keepdims=True)).astype(np.float32)


def mark_of(config: StudentConfig, protocol: Protocol, features: str, taxonomy: str) -> str:
    """What tells a student from others: its settings, seed among them, its windows, the
    fingerprints of its features, and that of its classes."""
    settings = json.loads(json.dumps(config.identity))
    said = {"settings": settings, "protocol": vars(protocol)}
    return fingerprint({**said, "features": features, "taxonomy": taxonomy})


def _prints(student: KeptStudent) -> str:
    return ",".join(stream.fingerprint for stream in student.streams)


def write_settings(
    path: Path, config: ListenConfig, *, weights: tuple[float, float], gap_s: float, **told: Any
) -> None:
    """Write `listener.json`, with what else is `told`: the temperature, and how weights came."""
    said: dict[str, Any] = {"format": FORMAT, "antcache": __version__, "listening": asdict(config)}
    said |= {"weights": list(weights), "gap_s": gap_s, **told}
    path.write_text(json.dumps(said, indent=1) + "\n", "utf-8")


def write_past(path: Path, past: KnownPast) -> None:
    """Write `past.safetensors`."""
    write_tensors(path, {name: np.ascontiguousarray(a) for name, a in vars(past).items()})


def _read_settings(file: Path) -> dict[str, Any]:
    """What a `Listener` has of `listener.json`."""
    try:
        said = read_json(file)
        if not isinstance(said, Mapping) or said.get("format") != FORMAT:
            found = said.get("format") if isinstance(said, Mapping) else type(said).__name__
            raise ValueError(f"format {found!s:.80}, where {FORMAT} is expected")
        weights = said["weights"]
        numbers = isinstance(weights, list) and all(type(w) in (int, float) for w in weights)
        if not numbers or len(weights) != 2 or not all(0 <= w <= 1 for w in weights):
            raise ValueError("weights: two numbers from 0 to 1 are expected")
        if not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ValueError("weights: their sum is not 1")
        gap_s, mark = said["gap_s"], said["student"]
        if type(gap_s) not in (int, float) or not 0 <= gap_s <= 3600:
            raise ValueError("gap_s: a number from 0 to 3600 is expected")
        temperature = said["temperature"]
        if type(temperature) not in (int, float) or not RANGE[0] <= temperature <= RANGE[1]:
            raise ValueError(f"temperature: a number from {RANGE[0]:g} to {RANGE[1]:g} is expected")
        if not isinstance(mark, str):
            raise ValueError("student: a text is expected")
        return {
            "config": ListenConfig(**said["listening"]),
            "weights": (float(weights[0]), float(weights[1])),
            "temperature": float(temperature),
            "gap_s": float(gap_s),
            "mark": mark,
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        raise BadCheckpoint(
            "the settings of the listening teacher can't be read", where=file, found=found
        ) from error


def read_past(file: Path, taxonomy: Taxonomy) -> KnownPast:
    """What was known of the training videos.

    Raises:
        BadCheckpoint: it can't be read, or makes no sense.
    """
    classes = len(taxonomy.actions)
    try:
        arrays = read_tensors(file).tensors
        action, lasted, prior = (arrays[name] for name in ("action", "lasted_s", "prior"))
        if action.ndim != 1 or lasted.shape != action.shape or prior.shape != (classes,):
            raise ValueError("arrays of other shapes than (N,), (N,) and one number per action")
        if action.dtype != np.int64 or lasted.dtype != np.float64 or prior.dtype != np.float64:
            raise ValueError("arrays of other types than int64, float64 and float64")
        if len(action) and not 0 <= int(action.min()) <= int(action.max()) < classes:
            raise ValueError("actions that there are not")
        if not ((lasted > 0) & (lasted <= LONGEST_S)).all() or not np.isfinite(prior).all():
            raise ValueError("times or numbers that can't be")
    except (OSError, ValueError, KeyError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        raise BadCheckpoint(
            "what the listening teacher knows of the past can't be read", where=file, found=found
        ) from error
    return KnownPast(action=action, lasted_s=lasted, prior=prior)


def _inside(folder: Path, name: str) -> Path:
    """A folder in the folder, which is nothing on a hub if it is missing."""
    if not (folder / name).is_dir():
        raise NotFound(
            "the listening teacher is not whole",
            where=folder / name,
            hint="antcache teacher listen writes it anew",
        )
    return folder / name
