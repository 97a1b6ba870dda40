"""Recipes as sequences of actions: text to adapt a language model on, without any video."""

from antcache.teacher.corpus.build import CorpusConfig, action_text, write_corpus
from antcache.teacher.corpus.extractors import EXTRACTORS, Extractor, make_extractor
from antcache.teacher.corpus.parsed import ParsedAction
from antcache.teacher.corpus.reading import corpus_facts, read_actions, read_corpus
from antcache.teacher.corpus.recipes import Recipe, read_recipes
from antcache.teacher.corpus.words import WordLists, read_word_lists, word_lists_of

__all__ = [
    "EXTRACTORS",
    "CorpusConfig",
    "Extractor",
    "ParsedAction",
    "Recipe",
    "WordLists",
    "action_text",
    "corpus_facts",
    "make_extractor",
    "read_actions",
    "read_corpus",
    "read_recipes",
    "read_word_lists",
    "word_lists_of",
    "write_corpus",
]
