"""Heads by name: the table that `--head` looks into.

Promise: what is named here keeps the protocol of `head.Head`; `build_head` gives it the initial
weights of PyTorch's current random state, whatever the number of streams.
"""

from __future__ import annotations

from antcache.checks import one_of
from antcache.student.avth import AvtHead
from antcache.student.config import StudentConfig
from antcache.student.fused import FusedHead
from antcache.student.head import Head, Sizes, check_settings
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


def build_head(config: StudentConfig, sizes: Sizes) -> Head:
    """The head that `config` names, one branch per stream if they are fused late.

    Raises:
        BadConfig: there is no such head, its sizes are impossible, or one has no effect.
    """
    one_of("head", config.head, HEADS)
    head = HEADS[config.head]
    check_settings(head, config)
    if config.fusion != "concat" and len(sizes.dims) > 1:
        return FusedHead.around(head, config, sizes)
    return head.build(config, sizes)
