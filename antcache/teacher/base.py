"""What a teacher is, the kinds that there are, and the folder that a trained one is kept in.

Promise: a folder holds `teacher.json` (kind, settings, history, fingerprint of the taxonomy and
version of antcache), `teacher.safetensors` (what was learned) and what else its kind keeps, appears
all at once, and is refused with one line where it does not fit. No pickle.

A kind is added by writing its class and a line in `KINDS`. A teacher gets the taxonomy, so that one
that reads text knows the names of the actions whose ids the histories hold.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations import Taxonomy
from antcache.errors import BadCheckpoint, BadConfig, NotFound
from antcache.files import FolderKind, atomic_folder
from antcache.progress import Progress, silent
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import read_json

FORMAT = "antcache-teacher-1"
FORMER = {"factorised": "factorized"}
"""Settings by the names that they had when a teacher may have been written."""
SETTINGS_FILE = "teacher.json"
ARRAYS_FILE = "teacher.safetensors"
OUTPUT = FolderKind(what="a teacher", mark=SETTINGS_FILE)
MANY, LARGEST_SEED = 10**6, 2**63 - 1
"""Largest number that a setting has: more is a slip of the keyboard."""


class TeacherConfig(Protocol):
    """Settings that every kind has beside its own: a frozen dataclass."""

    @property
    def length(self) -> int:
        """Past actions that the teacher is told about, h."""

    @property
    def seed(self) -> int:
        """Decides all that is random in the training."""


@dataclass(frozen=True, kw_only=True)
class TeacherOutput:
    """What a teacher says after N histories.

    Attributes:
        logits: (N, C) float32, a score of every action.
        features: (N, E) float32, its last state; None of a kind that has none.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None = None


class Teacher(ABC):
    """Predicts the next action from the actions before it. Values here are those of most kinds.

    Attributes:
        kind: its name in `KINDS`.
        has_features: whether it gives its last state beside its logits.
        needs_times: whether the examples have to say when the past actions happened.
        taxonomy: the C actions.
        config: its settings, a `TeacherConfig`.
    """

    kind: ClassVar[str]
    has_features: ClassVar[bool] = False
    needs_times: bool = False
    taxonomy: Taxonomy
    config: Any

    @abstractmethod
    def fit(
        self,
        examples: Examples,
        *,
        scripts: Examples | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn from labelled videos, and from text-only scripts where there are any."""

    @abstractmethod
    def predict(self, examples: Examples) -> TeacherOutput:
        """What it expects after each history (targets are not looked at)."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned, by name."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave; raises BadCheckpoint where it does not fit."""

    def write_files(self, folder: Path) -> None:  # noqa: B027  most kinds keep arrays alone
        """Write what it keeps beside its arrays into `folder`, which is not published yet."""

    def read_files(self, folder: Path) -> None:  # noqa: B027
        """Take it over, before `restore`; raises BadCheckpoint where it does not fit."""


@dataclass(frozen=True, kw_only=True)
class TeacherKind:
    """Where a kind of teacher is, and how its targets of the training split are made.

    Attributes:
        module: imported when the kind is asked for.
        teacher: name of its class in it.
        config: name of its settings in it.
        folds: of videos, on which the targets are cross-fitted unless it is said otherwise; 0: in
            sample. What `benchmarks/cross_fitting.py` favours.
    """

    module: str
    teacher: str
    config: str
    folds: int = 0

    def classes(self) -> tuple[Any, Any]:
        """Teacher and settings."""
        module = importlib.import_module(self.module)
        return getattr(module, self.teacher), getattr(module, self.config)


KINDS = {
    "count": TeacherKind(
        module="antcache.teacher.counting.teacher",
        teacher="CountTeacher",
        config="CountConfig",
        folds=5,
    ),
    "sequence": TeacherKind(
        module="antcache.teacher.sequence", teacher="SequenceTeacher", config="SequenceConfig"
    ),
    "language": TeacherKind(
        module="antcache.teacher.language.teacher",
        teacher="LanguageTeacher",
        config="LanguageConfig",
    ),
}
"""All kinds by their names."""


def make_teacher(
    kind: str,
    taxonomy: Taxonomy,
    settings: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
) -> Teacher:
    """An untrained teacher.

    Args:
        kind: one of `KINDS`.
        taxonomy: the actions.
        settings: what differs from the kind's default settings.
        device: torch device that it trains and predicts on, if its kind uses one.

    Raises:
        BadConfig: unknown kind or setting, or one out of range.
        MissingExtra: the kind needs a package that is not installed.
    """
    teacher_class, config_class = kind_of(kind).classes()
    given = dict(settings or {})
    for name in given:
        _check_setting(kind, config_class, name)
    teacher: Teacher = teacher_class(taxonomy, config_class(**given), device)
    return teacher


def parse_settings(kind: str, words: Iterable[str]) -> dict[str, Any]:
    """Settings from `NAME=VALUE`, each of the type that the kind's settings give it.

    Raises:
        BadConfig: unknown kind or setting, or a value of another type.
        MissingExtra: the kind needs a package that is not installed.
    """
    _, config_class = kind_of(kind).classes()
    types = get_type_hints(config_class)
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadConfig("a setting without a value", expected="NAME=VALUE", found=repr(word))
        _check_setting(kind, config_class, name)
        settings[name] = _typed(name, value, types[name])
    return settings


def _typed(name: str, value: str, wanted: Any) -> Any:
    """`value` as `wanted`: bool, int, float or str, or one of these or None."""
    options = get_args(wanted) or (wanted,)
    if type(None) in options and value.lower() == "none":
        return None
    (kind,) = (option for option in options if option is not type(None))
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind is not bool:
            return kind(value) if kind is str else _bounded(name, kind(value))
    except ValueError:
        pass
    expected = {bool: "true or false", int: "a whole number", float: "a number"}
    raise BadConfig("a bad value", where=name, expected=expected[kind], found=repr(value))


def _bounded(name: str, number: float) -> float:
    most = LARGEST_SEED if name == "seed" else MANY
    if not abs(number) <= most:  # NaN is not, either
        raise BadConfig("a bad value", where=name, expected=f"at most {most}", found=number)
    return number


def kind_of(name: str) -> TeacherKind:
    """The kind called `name`; raises BadConfig where there is none."""
    if name not in KINDS:
        raise BadConfig("unknown kind of teacher", expected=" or ".join(KINDS), found=name)
    return KINDS[name]


def _check_setting(kind: str, config_class: Any, name: str) -> None:
    known = tuple(config_class.__dataclass_fields__)
    if name not in known:
        raise BadConfig(f"the {kind} teacher has no setting {name!r}", expected=", ".join(known))


def _check_types(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of other types than annotated; a whole number may stand for a float."""
    types = get_type_hints(kind_of(kind).classes()[1])
    for name, value in settings.items():
        wanted = get_args(types.get(name)) or (types.get(name, object),)
        accepted = (*wanted, int) if float in wanted else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in wanted):
            expected = " or ".join(option.__name__ for option in wanted)
            raise BadConfig("a bad value", where=name, expected=expected, found=repr(value))


def save_teacher(
    teacher: Teacher,
    history: HistoryConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write a trained teacher, and the kind of history that it was trained on.

    Args:
        teacher: what is written.
        history: as it was told.
        folder: where it is kept.
        overwrite: replace a teacher that is there.
        beside: further text files by name.

    Raises:
        AlreadyExists: something is at `folder` and `overwrite` is false, or it is not a teacher.
        WriteFailed: the disk refused.
    """
    settings = {
        "format": FORMAT,
        "antcache": __version__,
        "kind": teacher.kind,
        "taxonomy": teacher.taxonomy.fingerprint,
        "dataset": teacher.taxonomy.dataset,
        "config": asdict(teacher.config),
        "history": asdict(history),
    }
    arrays = {k: np.ascontiguousarray(v) for k, v in teacher.arrays().items()}
    with atomic_folder(folder, OUTPUT, overwrite=overwrite) as staged:
        write_tensors(staged / ARRAYS_FILE, arrays)
        teacher.write_files(staged)
        (staged / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        for name, text in (beside or {}).items():
            (staged / name).write_text(text, "utf-8")


def load_teacher(
    folder: Path, taxonomy: Taxonomy, *, device: str = "cpu"
) -> tuple[Teacher, HistoryConfig]:
    """Read a trained teacher, and the kind of history that it was trained on.

    Raises:
        NotFound: there is no teacher at `folder`.
        BadCheckpoint: it is incomplete or damaged, of another format, or for another taxonomy.
    """
    for path in (folder / SETTINGS_FILE, folder / ARRAYS_FILE):
        if not path.is_file():
            raise NotFound("no teacher here", where=path, hint="antcache teacher train")
    try:
        settings = read_json(folder / SETTINGS_FILE)
        found = settings["format"]
        if found == FORMAT:
            fingerprint = settings["taxonomy"]
            config = {FORMER.get(name, name): v for name, v in settings["config"].items()}
            _check_types(settings["kind"], config)
            teacher = make_teacher(settings["kind"], taxonomy, config, device=device)
            history = HistoryConfig(**settings["history"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # BadConfig is the first
        raise BadCheckpoint(
            "the settings can't be read", where=folder / SETTINGS_FILE, found=error
        ) from error
    if found != FORMAT:
        raise BadCheckpoint("unknown format", where=folder, expected=FORMAT, found=found)
    if fingerprint != taxonomy.fingerprint:
        raise BadCheckpoint(
            "the teacher is for another taxonomy",
            where=folder,
            expected=f"{taxonomy.fingerprint} ({taxonomy.dataset})",
            found=f"{fingerprint} ({settings.get('dataset')})",
        )
    teacher.read_files(folder)
    try:
        teacher.restore(read_tensors(folder / ARRAYS_FILE).tensors)
    except ValueError as error:  # BadCheckpoint is one
        raise BadCheckpoint(
            "what the teacher learned can't be read", where=folder / ARRAYS_FILE, found=error
        ) from error
    return teacher, history
