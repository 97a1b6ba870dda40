"""Students as graphs that run without antcache: ONNX, and programs of torch.export.

Promise: a graph takes `features` (B, T, D) or (B, T, K, D) float32 of any B and gives `logits`
(B, C) and, where the student has them, `verb_logits` (B, V) and `noun_logits` (B, O), in float32.
It is run on random windows, in batches of three sizes, before anybody gets it: one whose scores
differ from the student's is refused.
Letters: B batch, T time, K tokens of a row, D feature, C classes, V verbs, O nouns.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antcache.errors import AntcacheError, BadCheckpoint, BadConfig, needs
from antcache.hub import first_line
from antcache.student.heads.head import ModelShape
from antcache.student.model import Student

TRACED, TRIED = 3, (1, 2, 5)
"""Windows of the batch that a graph is made with, and of those that it is tried with."""
TOLERANCE = 1e-4
"""How far scores may be from the student's, as a part of the largest: other sums of float32."""
OUTPUTS = ("logits", "verb_logits", "noun_logits")


@dataclass(frozen=True)
class PortableForm:
    """A form that students are exported in.

    Attributes:
        file: name of the graph's file, empty for weights alone.
        text: what it is, for the card.
    """

    file: str
    text: str


FORMS = {
    "safetensors": PortableForm("", ""),
    "onnx": PortableForm("model.onnx", "the student as an ONNX graph: features in, logits out"),
    "torch-export": PortableForm("model.pt2", "the student as a program of torch.export"),
}
"""Forms by the name that `--format` takes."""


class ScoresAlone(nn.Module):
    """A student's scores alone, as a tuple."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Scores of features (B, T, D) or (B, T, K, D), in the order of `OUTPUTS`."""
        output = self.student(features)
        found = (getattr(output, name) for name in OUTPUTS)
        return tuple(scores for scores in found if scores is not None)


def write_portable(form: str, folder: Path, student: Student, shape: ModelShape) -> float:
    """Write a student on the CPU, in float32, as a graph into `folder`.

    Returns:
        The largest difference of a score from the student's own, over the windows tried.

    Raises:
        BadConfig: the student's head can't be made a graph of.
        BadCheckpoint: the graph gives other scores.
        MissingExtra: a package that the form needs is not installed.
    """
    path = folder / FORMS[form].file
    module = ScoresAlone(student.eval())
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn((max(TRIED), *shape.window), generator=generator)
    write, load = (_write_onnx, _load_onnx) if form == "onnx" else (_write_program, _load_program)
    import_packages(form)
    head = type(student.head).__name__
    with torch.no_grad(), _hushed():
        try:
            program = torch.export.export(
                module,
                (windows[:TRACED],),
                dynamic_shapes={"features": {0: torch.export.Dim("batch", min=1)}},
            )
            write(program, path, len(module(windows)))
            run = load(path)
            pairs = [(run(windows[:n]), module(windows[:n])) for n in TRIED]
        except AntcacheError:
            raise
        except Exception as error:  # torch, onnx and onnxruntime have no common root
            raise BadConfig(
                f"this head can't be exported as {form}",
                where=head,
                found=f"{type(error).__name__}: {first_line(error)}",
                hint="export it as safetensors",
            ) from error
    difference = 0.0
    for theirs, own in pairs:
        for one, two in zip(theirs, own, strict=True):
            apart = float((one - two).abs().max())
            if not apart <= TOLERANCE * (1 + float(two.abs().max())):  # NaN is refused, too
                raise BadCheckpoint(
                    f"the {form} graph gives other scores than the student",
                    where=head,
                    expected=f"at most {TOLERANCE:g} of the largest",
                    found=f"{apart:.3g}",
                )
            difference = max(difference, apart)
    return difference


def import_packages(form: str) -> None:
    """Import what a form needs, before anything is made.

    Raises:
        MissingExtra: it is not installed, or can't be loaded.
    """
    if form != "onnx":
        return
    for package in ("onnx", "onnxruntime", "onnxscript"):
        with needs(package, "onnx"):
            try:
                import_module(package)
            except OSError as error:  # a library of its own that is not there
                raise ImportError(str(error)) from error


def _write_onnx(program: Any, path: Path, outputs: int) -> None:
    torch.onnx.export(
        program,
        (),
        str(path),
        input_names=["features"],
        output_names=list(_names(outputs)),
        dynamo=True,
        external_data=_too_large(program),
        verbose=False,
    )


def _names(count: int) -> tuple[str, ...]:
    """Verbs and nouns come both or not at all."""
    return OUTPUTS[:count]


def _too_large(program: Any) -> bool:
    """Whether weights go into a file of their own: one of protobuf holds 2 GB."""
    return bool(sum(value.nbytes for value in program.state_dict.values()) > 1_900_000_000)


def _load_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(features: Tensor) -> list[Tensor]:
        return [
            torch.from_numpy(each) for each in session.run(None, {"features": features.numpy()})
        ]

    return run


def _write_program(program: Any, path: Path, outputs: int) -> None:
    torch.export.save(program, path)


def _load_program(path: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    module = torch.export.load(path).module()  # our own file, just written

    def run(features: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = module(features)
        return found

    return run


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing of what the exporters say of themselves: their errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
