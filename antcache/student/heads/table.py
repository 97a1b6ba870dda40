"""Heads by name: the table that `--head` looks into.

Promise: what is named here keeps the protocol of `head.Head`; `build_head` gives it the initial
weights of PyTorch's current random state, whatever the number of streams.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from inspect import signature
from pathlib import Path

from antcache.checks import one_of
from antcache.errors import BadConfig
from antcache.student.heads.avth import AvtHead
from antcache.student.heads.config import ModelConfig
from antcache.student.heads.fused import FusedHead
from antcache.student.heads.head import Head, ModelShape
from antcache.student.heads.light import LightHead
from antcache.student.heads.mean import MeanHead
from antcache.student.heads.probe import ProbeHead
from antcache.student.heads.recurrent import GruHead, RulstmHead

HEADS: dict[str, type[Head]] = {
    "avth": AvtHead,
    "light": LightHead,
    "rulstm": RulstmHead,
    "gru": GruHead,
    "mean": MeanHead,
    "probe": ProbeHead,
}
"""Heads by the name that `--head` takes."""


def sizes_of(head: type[Head]) -> tuple[str, ...]:
    """Which of `layers`, `heads`, `width`, `dropout` and `slots` mean something to a head."""
    given = signature(head.build).parameters.values()
    return tuple(one.name for one in given if one.kind is one.KEYWORD_ONLY)


def check_known(head: str, file: Path) -> None:
    """Refuse a kept student whose head this process does not know, by the file that names it.

    Raises:
        BadConfig: there is no such head.
    """
    if head not in HEADS:
        raise BadConfig(
            "the student has a head that is not known here",
            where=file,
            expected=" or ".join(HEADS),
            found=head,
            hint="a head of one's own is known only to the Python process that enters it in HEADS: "
            "use the student from Python, after the same entry",
        )


def check_tokens(config: ModelConfig, tokens: int) -> None:
    """Refuse rows of several tokens to a head that takes rows of one vector.

    Raises:
        BadConfig: there is no such head, or it can't take them.
    """
    one_of("head", config.head, HEADS)
    if tokens > 1 and not HEADS[config.head].takes_tokens:
        able = " or ".join(name for name, head in HEADS.items() if head.takes_tokens)
        raise BadConfig(
            f"the head {config.head!r} takes rows of one vector",
            found=f"rows of {tokens} tokens",
            hint=f"`head` {able}; or pool them, if none of them are predicted ones: "
            "antcache store convert STORE NEW --tokens 1x1x1",
        )


def build_head(config: ModelConfig, shape: ModelShape) -> Head:
    """The head that `config` names, one branch per stream if they are fused late.

    Raises:
        BadConfig: there is no such head, it takes no tokens, its sizes are impossible, or one has
            no effect.
    """
    check_tokens(config, shape.tokens)
    build = HEADS[config.head].build
    given = {
        name: value
        for name, value in asdict(config).items()
        if name not in ("head", "fusion") and value is not None
    }
    takes = sizes_of(HEADS[config.head])
    for name, value in given.items():
        if name not in takes:
            raise BadConfig(
                f"`{name}` has no effect on the head {config.head!r}",
                expected=", ".join(f"`{one}`" for one in takes),
                found=value,
                hint="leave it out",
            )
    own = partial(build, **given)
    if config.fusion != "concat" and len(shape.dims) > 1:
        if config.slots is not None:
            raise BadConfig(
                "`slots` are those of one head, over all streams",
                expected="`fusion` concat",
                found=config.fusion,
            )
        return FusedHead.around(own, shape, attention=config.fusion == "attention")
    return own(shape)
