"""Heads by name: the table that `--head` looks into.

Promise: what is named here keeps the protocol of `head.Head`; `build_head` gives it the initial
weights of PyTorch's current random state, whatever the number of streams.
"""

from __future__ import annotations

from antcache.errors import BadConfig
from antcache.student.avth import AvtHead
from antcache.student.config import StudentConfig
from antcache.student.fused import FusedHead
from antcache.student.head import Head, ModelShape, check_settings
from antcache.student.light import LightHead
from antcache.student.mean import MeanHead
from antcache.student.recurrent import GruHead, RulstmHead

HEADS: dict[str, type[Head]] = {
    "avth": AvtHead,
    "light": LightHead,
    "rulstm": RulstmHead,
    "gru": GruHead,
    "mean": MeanHead,
}
"""Heads by the name that `--head` takes."""


def build_head(config: StudentConfig, shape: ModelShape) -> Head:
    """The head that `config` names, one branch per stream if they are fused late.

    Raises:
        BadConfig: there is no such head, its sizes are impossible, or one has no effect.
    """
    if config.head not in HEADS:
        raise BadConfig("unknown head", expected=" or ".join(HEADS), found=config.head)
    head = HEADS[config.head]
    check_settings(head, config)
    if config.fusion != "concat" and len(shape.dims) > 1:
        return FusedHead.around(head, config, shape)
    return head.build(config, shape)
