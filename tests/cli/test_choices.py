"""Fixed values of options are those that the library takes."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import click
import pytest
from cli_commands import walk

from antcache.checks import choices_of, kinds_of
from antcache.cli import choices
from antcache.cli.main import cli
from antcache.cli.numbers import Several
from antcache.cli.teacher import score
from antcache.cluster import ENGINES
from antcache.errors import BadConfig
from antcache.evaluation.denominators import DENOMINATORS
from antcache.evaluation.fusion import MIXTURES
from antcache.evaluation.long_term.scores import FORMS as FORESIGHTS
from antcache.evaluation.present import Classes
from antcache.evaluation.sheet import CLUSTERS, UNSEEN
from antcache.evaluation.submission.challenges import CHALLENGES
from antcache.extract import ExtractConfig
from antcache.interop.array_files.config import ArraysImportConfig, Layout, RowTime
from antcache.interop.array_files.forms import FORMS
from antcache.interop.lmdb.importing import LmdbImportConfig
from antcache.interop.predictions.importing import HISTORIES
from antcache.store.backends import BACKENDS
from antcache.store.features import DTYPES, TOKEN_DTYPES
from antcache.store.integrity.convert import ConvertConfig
from antcache.student.handing.portable import FORMS as PORTABLE_FORMS
from antcache.teacher.base import KINDS
from antcache.teacher.corpus.extractors import EXTRACTORS
from antcache.teacher.histories import MODES
from antcache.teacher.language.config import AdaptConfig
from antcache.teacher.mixing.mixture import MIXES
from antcache.teacher.scoring import COVERAGE

OF_THE_LIBRARY = {
    "BACKENDS": tuple(BACKENDS),
    "ENGINES": ENGINES,
    "MOMENTS": choices_of(kinds_of(ExtractConfig)["at"]),
    "DECODERS": choices_of(kinds_of(ExtractConfig)["decoder"]),
    "ARRAY_FORMS": FORMS,
    "LAYOUTS": get_args(Layout),
    "ROW_TIMES": get_args(RowTime),
    "TEACHERS": tuple(KINDS),
    "HISTORIES": MODES,
    "HISTORIES_OF_OTHERS": HISTORIES,
    "FORESIGHTS": FORESIGHTS,
    "MIXES": MIXES,
    "EXTRACTORS": EXTRACTORS,
    "INITS": choices_of(kinds_of(AdaptConfig)["init"]),
    "FORMS": choices_of(kinds_of(AdaptConfig)["form"]),
    "PRECISIONS": choices_of(kinds_of(AdaptConfig)["precision"]),
    "CLUSTERS": CLUSTERS,
    "DENOMINATORS": (*DENOMINATORS, UNSEEN),
    "CLASSES": choices_of(Classes),
    "MIXTURES": MIXTURES,
    "CHALLENGES": tuple(CHALLENGES),
    "STUDENT_FORMS": tuple(PORTABLE_FORMS),
}
FIXED = (
    "--at --challenge --classes --cluster --decoder --dtype --engine --extractor --form --format "
    "--histories --history --init --kind --layout --mix --mixture --over --parity --precision "
    "--time"
)


def test_values_are_the_librarys() -> None:
    found = {k: tuple(v.choices) for k, v in vars(choices).items() if isinstance(v, click.Choice)}
    assert found.pop("DTYPES") == DTYPES
    assert found.pop("TOKEN_DTYPES") == TOKEN_DTYPES
    assert found == OF_THE_LIBRARY
    assert score.COVERAGE == COVERAGE


@pytest.mark.parametrize(
    "config",
    [ExtractConfig, ConvertConfig, LmdbImportConfig, partial(ArraysImportConfig, dim=1, fps=1)],
)
def test_types_of_features_are_the_librarys(config: Any) -> None:
    for dtype in choices.DTYPES.choices:
        config(dtype=dtype)
    with pytest.raises(BadConfig, match=r"float16.*float32"):
        config(dtype="float64")


OF_CONFIG = (("student", "train"), ("student", "recognise"))
"""Whose options are made from the fields of `StudentConfig`."""


def test_options_of_fixed_values_list_them() -> None:
    found = set()
    for words, command in walk(cli):
        for option in command.params if words not in OF_CONFIG else ():
            taken = option.type.kind if isinstance(option.type, Several) else option.type
            if isinstance(option, click.Option) and isinstance(taken, click.Choice):
                found.add(option.opts[0])
                shown = option.make_metavar(click.Context(command))
                assert "|".join(taken.choices) in shown
                assert shown.endswith(",...") == isinstance(option.type, Several)
    assert found == set(FIXED.split())
