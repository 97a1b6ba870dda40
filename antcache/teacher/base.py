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
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations import Taxonomy
from antcache.checks import alternatives, check_type, kinds_of, known, one_of
from antcache.errors import BadCheckpoint, BadConfig, NotFound
from antcache.files import FolderKind, atomic_folder
from antcache.progress import Progress, silent
from antcache.settings import read
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import read_json

FORMAT = "antcache-teacher-1"
FORMER = {"factorised": "factorized"}
"""Settings by the names that they had when a teacher may have been written."""
SETTINGS_FILE = "teacher.json"
ARRAYS_FILE = "teacher.safetensors"
OUTPUT = FolderKind(what="a teacher", mark=SETTINGS_FILE)


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
        config: its settings, a frozen dataclass with `length` (of the histories) and `seed`.
    """

    kind: ClassVar[str]
    has_features: ClassVar[bool] = False
    needs_times: bool = False
    taxonomy: Taxonomy
    config: Any

    def fit(
        self,
        examples: Examples,
        *,
        scripts: Examples | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn from labelled videos, and from text-only scripts where there are any.

        Raises:
            BadConfig: there are no examples, or they lack the times that it is to be told about.
        """
        if not len(examples) and not (scripts is not None and len(scripts)):
            raise BadConfig("there is nothing to train on")
        if self.needs_times:
            examples.require_times()
        self._fit(examples, scripts, progress)

    @abstractmethod
    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        """Learn anew, whatever was learned before."""

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
    "prompted": TeacherKind(
        module="antcache.teacher.language.prompted",
        teacher="PromptedTeacher",
        config="PromptedConfig",
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
    known(f"settings of the {kind} teacher", given, config_class.__dataclass_fields__)
    teacher: Teacher = teacher_class(taxonomy, config_class(**given), device)
    return teacher


def parse_settings(kind: str, words: Iterable[str]) -> dict[str, Any]:
    """Settings from `NAME=VALUE`, each of the type that the kind's settings give it.

    Raises:
        BadConfig: unknown kind or setting, or a value of another type.
        MissingExtra: the kind needs a package that is not installed.
    """
    _, config_class = kind_of(kind).classes()
    kinds = kinds_of(config_class)
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadConfig("a setting without a value", expected="NAME=VALUE", found=repr(word))
        known(f"settings of the {kind} teacher", [name], config_class.__dataclass_fields__)
        nothing = value.lower() == "none" and type(None) in alternatives(kinds[name])
        settings[name] = None if nothing else read(kinds[name], value)
        check_type(name, settings[name], kinds[name])  # what is no number is still text
    return settings


def kind_of(name: str) -> TeacherKind:
    """The kind called `name`; raises BadConfig where there is none."""
    one_of("kind of teacher", name, KINDS)
    return KINDS[name]


def save_teacher(
    teacher: Teacher,
    history: HistoryConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Write a trained teacher, and the kind of history that it was trained on.

    `beside` are further text files by name.

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
        "history": history.settings,
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
