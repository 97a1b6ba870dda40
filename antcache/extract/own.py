"""A backbone of one's own: any Python object that makes features of pictures.

Promise: whoever gives one has said, in its `fingerprint`, what its features depend on; the rest is
tried before any video is decoded, and its shape and values are looked at whenever it is called. One
whose features change from call to call, or with the rows beside them, is refused. Its code is run
because its name was given on the command line or in Python, never because of what a file says.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from antcache.errors import UnknownBackbone
from antcache.hub import in_one_line
from antcache.store.tokens import Grid

FACTORY = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<factory>[^\W\d]\w*)")
"""`package.module:factory`."""

TRIAL = (120, 160)
"""Height and width of the pictures that it is tried with."""
FROM_NEIGHBOURS = 0.05
"""How much of its largest value a row may differ when it is computed alone: bfloat16 rounds by
0.004 in every layer, and statistics of a batch change everything."""


class OwnBackbone(Protocol):
    """What an object needs to be a backbone.

    It may also have a `device` (pictures come on it, else on the CPU) and, for clips, a `clip_fps`:
    frames per second within a clip, unless the pass is told. One that gives tokens has a `grid` of
    them (in time, height and width) and `tokens`, which is called as the object itself is and gives
    all of them (B, time * height * width, D), in this order.
    """

    @property
    def dim(self) -> int:
        """Width D of a feature."""

    @property
    def num_frames(self) -> int:
        """Frames T that a feature is made of, the last that of its row's time; 1 for pictures."""

    @property
    def fingerprint(self) -> str:
        """What tells these features from others: changed with the weights and with the code."""

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pixels (B, ...) of pictures (B, H, W, 3) uint8 of any height and width."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features (B, D), floating, of pixels (B, T, ...)."""


@dataclass(frozen=True, kw_only=True)
class TriedBackbone:
    """A backbone of one's own that has been tried; call it with pixels to get features.

    Attributes:
        name: as it was asked for.
        own: the object itself.
        device: where it gets its pictures.
        num_frames: frames T per feature.
        dim: width D of a feature.
        clip_fps: frames per second within a clip; None where it says nothing.
        config: what determines the features, JSON-ready.
        grid: tokens in time, height and width; None where it gives none.
    """

    name: str
    own: OwnBackbone
    device: torch.device
    num_frames: int
    dim: int
    clip_fps: float | None
    config: dict[str, Any]
    grid: Grid | None = None

    precision = "its own"
    predicts = False
    no_grid = "it has no `grid`, nor `tokens`"

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pixels (B, ...) of pictures (B, H, W, 3) uint8."""
        with in_one_line(self.name, UnknownBackbone), torch.inference_mode():
            pixels = self.own.preprocess(pictures)
        if not isinstance(pixels, Tensor) or pixels.shape[:1] != pictures.shape[:1]:
            raise UnknownBackbone(
                "`preprocess` gives something else than pixels",
                where=self.name,
                expected=f"a tensor of {len(pictures)} pictures",
                found=_kind(pixels),
            )
        return pixels

    def prepare(self, pictures: Tensor) -> Tensor:
        """`preprocess`, on the object's device: all of it, for nobody else knows how."""
        return self.preprocess(pictures.to(self.device))

    def finish(self, prepared: Tensor) -> Tensor:
        """Pixels (B, T, ...) of clips of what `prepare` gives: the same."""
        return prepared

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features (B, D) float32 of pixels (B, T, ...)."""
        return self._made(
            self.own, pixels, (self.dim,), "(B, dim), for pixels (B, num_frames, ...)"
        )

    def tokens(self, pixels: Tensor, ahead: Sequence[int] = ()) -> Tensor:
        """Tokens (B, K, D) float32 of pixels (B, T, ...); it predicts none that are `ahead`."""
        assert self.grid is not None
        assert not ahead
        hint = "`tokens` gives (B, time * height * width, dim)"
        make: Any = self.own
        return self._made(make.tokens, pixels, (prod(self.grid), self.dim), hint)

    def _made(
        self, make: Callable[[Tensor], Tensor], pixels: Tensor, shape: tuple[int, ...], hint: str
    ) -> Tensor:
        """What the object makes of pixels (B, T, ...): (B, *shape), finite."""
        with in_one_line(self.name, UnknownBackbone), torch.inference_mode():
            made = make(pixels)
        expected = (len(pixels), *shape)
        if not isinstance(made, Tensor) or not made.is_floating_point() or made.shape != expected:
            raise UnknownBackbone(
                "its output is of another shape or type than it says",
                where=self.name,
                expected=f"a tensor {expected} of floating numbers",
                found=_kind(made),
                hint=hint,
            )
        if not made.isfinite().all():
            raise UnknownBackbone(
                "its output is infinite or not a number",
                where=self.name,
                found=f"{int((~made.isfinite()).sum())} of {made.numel()} values",
            )
        return made.float()


def load_own(name: str, device: torch.device) -> TriedBackbone:
    """Import `package.module`, call `factory(device)`, and try what it gives.

    The module is looked for where Python looks, and then in the working folder.

    Raises:
        UnknownBackbone: it isn't there, its code fails, or it is no backbone.
    """
    found = FACTORY.fullmatch(name)
    assert found is not None
    with _working_folder():
        with in_one_line(name, UnknownBackbone, "its module can't be imported"):
            try:
                module = importlib.import_module(found["module"])
            except ModuleNotFoundError as error:
                raise UnknownBackbone(
                    "its module can't be imported",
                    where=name,
                    found=f"no module {error.name}",
                    hint="install it, or start the command in the folder where it lies",
                ) from error
        factory = getattr(module, found["factory"], None)
        if not callable(factory):
            raise UnknownBackbone(
                f"no function or class {found['factory']} in its module",
                where=name,
                expected="one that is called with the device and gives a backbone",
                found=_kind(factory),
            )
        with in_one_line(name, UnknownBackbone):
            own = factory(device)
    return try_own(own, name=name)


def try_own(own: OwnBackbone, *, name: str = "") -> TriedBackbone:
    """Try an object on a few pictures.

    Args:
        own: the object.
        name: what to call it, else its class.

    Raises:
        UnknownBackbone: it lacks something, its code fails, its output is not finite or of another
            shape than it says, or changes where it must not.
    """
    name = name or f"{type(own).__module__}.{type(own).__qualname__}"
    whole = "a whole number above 0"
    dim = _attribute(own, name, "dim", whole, _is_count)
    num_frames = _attribute(own, name, "num_frames", whole, _is_count)
    says = _attribute(own, name, "fingerprint", "a text that is not empty", _is_text)
    _attribute(own, name, "preprocess", "a function of pictures", callable)
    if not callable(own):
        raise UnknownBackbone("it can't be called", where=name, expected="__call__(pixels)")
    clip_fps = _attribute(own, name, "clip_fps", "a number above 0, or None", _is_rate)
    three = "three whole numbers above 0: tokens in time, height and width"
    grid = _attribute(own, name, "grid", three, _is_grid)
    if grid is not None:
        _attribute(own, name, "tokens", "a function of pixels", callable)
    with in_one_line(name, UnknownBackbone):
        device = torch.device(getattr(own, "device", "cpu"))
    tried = TriedBackbone(
        name=name,
        own=own,
        device=device,
        num_frames=int(num_frames),
        dim=int(dim),
        clip_fps=None if clip_fps is None else float(clip_fps),
        config={"family": "own", "fingerprint": str(says)},
        grid=None if grid is None else (int(grid[0]), int(grid[1]), int(grid[2])),
    )
    rows = _trial_rows(tried)
    _check_steady(tried, tried, rows)
    if grid is not None:
        _check_steady(tried, tried.tokens, rows)
    return tried


def _check_steady(backbone: TriedBackbone, make: Callable[[Tensor], Tensor], rows: Tensor) -> None:
    """Refuse a backbone whose features or tokens are not those of their pictures alone."""
    first, again = make(rows).clone(), make(rows)
    if not torch.equal(first, again):
        raise UnknownBackbone(
            "its output changes from call to call",
            where=backbone.name,
            found=f"a difference of {float((first - again).abs().max()):.3g}",
            hint="switch off dropout and whatever else draws or remembers: model.eval()",
        )
    difference = float((first[:1] - make(rows[:1])).abs().max())
    if difference > FROM_NEIGHBOURS * float(first.abs().max()):
        raise UnknownBackbone(
            "its output depends on the rows that are computed with it",
            where=backbone.name,
            found=f"a difference of {difference:.3g}",
            hint="batch normalisation must use its running statistics: model.eval()",
        )


def _trial_rows(backbone: TriedBackbone) -> Tensor:
    """Pixels (2, T, ...) of two rows of noise, prepared as a pass does it: picture by picture."""
    numbers = torch.Generator().manual_seed(0)
    shape = (backbone.num_frames + 1, 1, *TRIAL, 3)
    pictures = torch.randint(0, 256, shape, generator=numbers, dtype=torch.uint8)
    pictures = pictures.to(backbone.device)
    kept = [backbone.preprocess(picture)[0] for picture in pictures]
    if len({(each.shape, each.dtype, each.device) for each in kept}) > 1:
        raise UnknownBackbone("`preprocess` gives pixels of differing shapes", where=backbone.name)
    # Compared once all are made: one that writes them all into the same memory would be found.
    pixels = torch.stack([backbone.preprocess(picture)[0].clone() for picture in pictures])
    if not torch.equal(torch.stack(kept), pixels):
        raise UnknownBackbone(
            "the pixels that `preprocess` gives change from call to call",
            where=backbone.name,
            hint="no augmentation, and new memory for each call",
        )
    return torch.stack([pixels[:-1], pixels[1:]])


def _attribute(
    own: object, name: str, attribute: str, expected: str, right: Callable[[Any], bool]
) -> Any:
    """An attribute of an object, which must be `right`."""
    with in_one_line(name, UnknownBackbone):
        value = getattr(own, attribute, None)
    if not right(value):
        raise UnknownBackbone(
            f"its `{attribute}` is missing" if value is None else f"impossible `{attribute}`",
            where=name,
            expected=expected,
            found=value,
        )
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_grid(value: Any) -> bool:
    several = isinstance(value, tuple | list) and len(value) == 3
    return value is None or (several and all(map(_is_count, value)))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_rate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 < value < 1e6)


def _kind(value: object) -> str:
    """What a value is, for messages."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return "nothing" if value is None else type(value).__qualname__


@contextmanager
def _working_folder() -> Iterator[None]:
    """Python also looks in the working folder, after everywhere else."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
