"""A run's student as a folder for others: weights, settings, names of classes and a model card.

Promise: loaded from the folder (`KeptStudent.load`), the student gives the run's scores, to the
bit; nothing in it says where the run's store lay. The folder appears whole or not at all, and
nothing is overwritten. What else is written (`portable`) was compared with the student first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antcache.annotations import Protocol, Taxonomy
from antcache.annotations.taxonomy import KINDS
from antcache.checks import one_of
from antcache.errors import BadCheckpoint, NotFound
from antcache.files import atomic_folder
from antcache.student.config import StudentConfig
from antcache.student.handing.card import UNKNOWN, Described, check_license, write_card
from antcache.student.handing.fetching import CARD, CLASSES, MODEL, check_vacant, find_student
from antcache.student.handing.portable import FORMS, import_packages, write_portable
from antcache.student.heads.head import ModelShape
from antcache.student.model import Student
from antcache.student.runs.kept import KeptStudent, load_predictor
from antcache.student.runs.place import CONFIG, RESULT
from antcache.tensors import write_tensors
from antcache.untrusted import read_json

PRIVATE = "store"
"""Of a run's account: a path on the machine that trained it."""
FIGURES = ("epoch", "epochs", "parameters", "counts", "metrics", "held_out")
"""What an exported folder keeps of `result.json`."""
KEPT_RESULT, ORIGIN = "result", "origin"
"""Keys of an exported folder's settings: its figures, and where weights of others come from."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: where.
        files: name of each file, and bytes.
        num_parameters: of the student.
        differences: of each portable form, the largest difference from the student's own scores.
    """

    folder: Path
    files: Mapping[str, int]
    num_parameters: int
    differences: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "folder": str(self.folder)}


def export_student(
    place: str | Path,
    out: Path,
    *,
    license: str = UNKNOWN,
    form: str = "safetensors",
    name: str | None = None,
    taxonomy: Taxonomy | None = None,
) -> ExportReport:
    """Write the student of a finished run into the new folder `out`.

    Args:
        place: a run, an exported folder or a hub id; see `KeptStudent.load`.
        out: the folder.
        license: of the weights, as the hub writes them: `apache-2.0`.
        form: `safetensors`, or `onnx` or `torch-export` to write a graph as well.
        name: what the card calls it; the folder's name unless given.
        taxonomy: its classes, for a run that did not keep them.

    Raises:
        AlreadyExists: something is at `out`.
        NotFound: there is no run, or it is not finished.
        BadCheckpoint: the run can't be read, or the graph gives other scores.
        BadConfig: the licence is none, or the head can't be made a graph of.
        MissingExtra: a package that the form needs is not installed.
        WriteFailed: the disk refused; nothing is there.
    """
    check_license(license)
    one_of("format", form, FORMS)
    check_vacant(out)
    import_packages(form)
    folder = find_student(place)
    account, result = _account(folder)
    kept = KeptStudent.load(folder, device="cpu", taxonomy=taxonomy)
    # What predicts may have been cast; what is handed on are the weights as they were trained.
    exact = kept.config.replace(precision="float32")
    return write_folder(
        out,
        load_predictor(folder, exact, kept.shape, "cpu").student,
        account,
        result,
        config=kept.config,
        protocol=kept.protocol,
        taxonomy=kept.taxonomy,
        shape=kept.shape,
        license=license,
        form=form,
        name=name,
    )


def write_folder(
    out: Path,
    student: Student,
    account: Mapping[str, Any],
    result: Mapping[str, Any],
    *,
    config: StudentConfig,
    protocol: Protocol,
    taxonomy: Taxonomy,
    shape: ModelShape,
    license: str,
    form: str = "safetensors",
    name: str | None = None,
) -> ExportReport:
    """Write a student, what is known of it (`account`) and what it came to (`result`) into `out`.

    Raises:
        AlreadyExists, BadCheckpoint, BadConfig, MissingExtra, WriteFailed: see `export_student`.
    """
    weights = {key: value.contiguous() for key, value in student.state_dict().items()}
    count = sum(p.numel() for p in student.parameters())
    files = {
        MODEL: "the weights that the run reports",
        CONFIG: "settings, protocol, streams, shape and classes",
        CLASSES: "names of the classes, in the order of the scores",
        **({FORMS[form].file: FORMS[form].text} if FORMS[form].file else {}),
    }
    names, prints = account["stream"].split(","), account["stream fingerprint"].split(",")
    settings = account.get("stream settings") or [{}] * len(names)
    sources = account.get("stream sources") or [""] * len(names)
    card = write_card(
        Described(
            name=name or out.resolve().name,
            license=license,
            config=config,
            protocol=protocol,
            taxonomy=taxonomy,
            streams=list(zip(names, sources, prints, settings, strict=True)),
            result=result,
            computed_in=str(account.get("computed in", "")),
            origin=str(account.get(ORIGIN, "")),
            num_parameters=count,
            files=files,
        )
    )
    with atomic_folder(out) as staged:
        write_tensors(staged / MODEL, weights, {"format": "pt"})
        kept = _settings(account, config, taxonomy, result, license)
        (staged / CONFIG).write_text(json.dumps(kept, indent=1), "utf-8")
        classes = {f"{kind}s": list(getattr(taxonomy, f"{kind}s")) for kind in KINDS}
        (staged / CLASSES).write_text(json.dumps(classes, indent=1), "utf-8")
        (staged / CARD).write_text(card, "utf-8")
        differences = {}
        if FORMS[form].file:
            differences[form] = write_portable(form, staged, student, shape)
        sizes = {file.name: file.stat().st_size for file in sorted(staged.iterdir())}
    return ExportReport(folder=out, files=sizes, num_parameters=count, differences=differences)


def _account(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a folder says about its run, and what the run came to.

    Raises:
        NotFound: there is no run, or it is not finished.
        BadCheckpoint: it can't be read.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise NotFound("no run here", where=folder, hint="antcache student train --run starts one")
    exported = (folder / MODEL).is_file()
    if not exported and not (folder / RESULT).is_file():
        raise NotFound(
            "the run is not finished",
            where=folder,
            hint="antcache student train --resume trains it to its end",
        )
    try:
        account = read_json(file)
        file = folder / RESULT
        result = account.get(KEPT_RESULT, {}) if exported else read_json(file)
        if not isinstance(result, dict):
            raise ValueError("not the result of a run")
    except (OSError, ValueError, AttributeError) as error:
        raise BadCheckpoint("the run can't be read", where=file, found=error) from error
    return account, result


def _settings(
    account: Mapping[str, Any],
    config: StudentConfig,
    taxonomy: Taxonomy,
    result: Mapping[str, Any],
    license: str,
) -> dict[str, Any]:
    """The account of a run as it is handed on, with its figures, and without what is private."""
    if config.runtime.device not in ("auto", "cpu"):  # the next machine may have no such GPU
        config = config.replace(device="auto")
    return {
        **{key: value for key, value in account.items() if key != PRIVATE},
        "student": config.to_dict(),
        "classes": taxonomy.to_dict(),
        "license": license,
        KEPT_RESULT: {key: result[key] for key in FIGURES if key in result},
    }
