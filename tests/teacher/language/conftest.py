"""A small language-model teacher, and the examples that it is trained on."""

from __future__ import annotations

import pytest

from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.language.text import JOINS

SMALL = {"length": 4, "attended": 2, "epochs": 1, "batch": 16, "held_out": 0.0}


@pytest.fixture(scope="module")
def labelled(timeline):
    return timeline.examples(HistoryConfig(), 4)


@pytest.fixture
def make(language_models, taxonomy):
    """A teacher on a family's model, small unless settings say otherwise."""

    def teacher(family="bert", **settings):
        model = settings.pop("model", None) or language_models(family)
        return make_teacher("language", taxonomy, {"model": model, **SMALL, **settings})

    return teacher


@pytest.fixture
def history_text():
    """The text of one history of action ids, as a whole; what is negative is passed over."""
    return lambda actions, texts, form: JOINS[form].join(texts[a] for a in actions if a >= 0)
