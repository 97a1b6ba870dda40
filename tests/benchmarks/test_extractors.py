"""`benchmarks/extractors.py` as it is: it is quick, and needs the real recipes."""

from __future__ import annotations


def test_every_figure_of_the_lexicon_is_measured(run_benchmark, recorded, data_dir) -> None:
    options = ["--spacy-model", "no such model"]
    found = run_benchmark("extractors", *options, ANTCACHE_DATA=str(data_dir))
    assert set(found) == {name for name in recorded("extractors") if name.startswith("lexicon")}
