"""Weights of a mixture: those that are known are found, and a step never makes them worse."""

from __future__ import annotations

import numpy as np

from antcache.evaluation.mixture_weights import mixture_weights


def test_em_finds_the_weights_of_a_known_mixture():
    rng = np.random.default_rng(0)
    first = rng.random(20000) < 0.7
    # Two models over two outcomes that disagree.
    outcome = np.where(first, rng.random(20000) < 0.9, rng.random(20000) < 0.2)
    likelihood = np.stack([np.where(outcome, 0.9, 0.1), np.where(outcome, 0.2, 0.8)])
    np.testing.assert_allclose(mixture_weights(likelihood), [0.7, 0.3], atol=0.02)


def test_a_prior_keeps_the_weights_of_a_few_events_near_those_of_all():
    likelihood = np.tile([[0.9], [0.1]], 5)
    alone = mixture_weights(likelihood)
    leaning = mixture_weights(likelihood, prior=50 * np.array([0.3, 0.7]))
    assert alone[0] > 0.99
    assert 0.3 < leaning[0] < 0.4
    np.testing.assert_allclose(leaning.sum(), 1)


def test_the_likelihood_never_gets_worse_whatever_the_scale_of_an_event():
    rng = np.random.default_rng(1)
    p = rng.random((3, 200)) ** 3
    likelihoods = [np.log(mixture_weights(p, rounds=n) @ p).sum() for n in range(1, 40)]
    assert (np.diff(likelihoods) >= -1e-9).all()
    scaled = p * 10.0 ** rng.integers(-200, 200, 200)
    np.testing.assert_allclose(mixture_weights(scaled), mixture_weights(p), atol=1e-9)
    found = mixture_weights(p, start=np.array([0.98, 0.01, 0.01]), rounds=5000)
    np.testing.assert_allclose(found, mixture_weights(p, rounds=5000), atol=1e-4)
