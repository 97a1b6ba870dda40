"""Calibration by hand, on probabilities that are true, and temperatures that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadConfig
from antcache.evaluation.calibration import (
    calibration,
    cross_fitted_temperatures,
    expected_calibration_error,
    fit_temperature,
)


def synthetic(temperature, count=4000, classes=8, seed=0):
    """Logits whose softmax at `temperature` is what labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((count, classes))
    noise = rng.gumbel(size=logits.shape)
    return logits.astype(np.float32), (logits / temperature + noise).argmax(axis=1)


def test_error_by_hand():
    # Bins of width 1/15. 0.9 and 0.92 share one (13/15, 14/15]: one of two is right; 0.5 is alone
    # and wrong; 1.0 is right.
    confidence = np.array([0.90, 0.92, 0.5, 1.0])
    correct = np.array([True, False, False, True])
    by_hand = (2 * abs(0.5 - 0.91) + 0.5 + 0) / 4
    assert expected_calibration_error(confidence, correct) == pytest.approx(100 * by_hand)


def test_bins_hold_their_upper_edge():
    # 0.5 lies in (0, 0.5], with 0.4: both sums are taken together and cancel in part.
    confidence, correct = np.array([0.5, 0.4]), np.array([True, False])
    expected = 100 * abs(1 - 0.9) / 2
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(expected)
    assert expected_calibration_error(np.array([0.0]), np.array([True])) == pytest.approx(100)


def test_calibration_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    found = calibration(np.log(p) + 5, np.array([0, 2]))
    assert found.nll == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert found.brier == pytest.approx((0.09 + 0.04 + 0.01 + 0.09 + 0.16 + 0.49) / 2)
    assert found.confidence == pytest.approx(55)
    assert found.ece == pytest.approx(100 * (0.3 + 0.4) / 2)
    assert found.n == 2


def test_a_temperature_for_each_segment():
    logits, labels = synthetic(1.0, count=6)
    warmth = np.array([1.0, 2, 0.5, 1, 3, 1])
    by_hand = calibration((logits / warmth[:, None]).astype(np.float64), labels)
    assert calibration(logits, labels, warmth).nll == pytest.approx(by_hand.nll)


def test_a_truth_without_probability_is_infinite():
    logits = np.array([[0.0, -math.inf], [0.0, 0.0]])
    assert math.isinf(calibration(logits, np.array([1, 0])).nll)
    assert calibration(logits, np.array([0, 0])).nll == pytest.approx(math.log(2) / 2)
    with pytest.raises(BadConfig, match="1 of 2 without one"):
        fit_temperature(logits, np.array([1, 0]))
    # Classes that no segment needs do not disturb the fit.
    logits, labels = synthetic(2.0)
    more = np.concatenate([logits, np.full((len(logits), 1), -np.inf)], axis=1)
    assert fit_temperature(more, labels) == pytest.approx(fit_temperature(logits, labels))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = synthetic(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.08)
    at_it = calibration(logits, labels, found)
    assert at_it.ece < 2.5
    for other in (found * 0.97, found * 1.03):  # it is the minimum
        assert calibration(logits, labels, other).nll > at_it.nll
    if temperature != 1.0:
        assert calibration(logits, labels).ece > 2 * at_it.ece


@settings(max_examples=30, deadline=None, derandomize=True)
@given(scale=st.floats(0.2, 5), seed=st.integers(0, 20))
def test_scaled_logits_scale_the_temperature(scale, seed):
    logits, labels = synthetic(1.5, count=200, seed=seed)
    found = fit_temperature(logits, labels)
    scaled = fit_temperature(logits.astype(np.float64) * scale, labels)
    assert scaled == pytest.approx(found * scale, rel=1e-4)


def test_temperatures_stay_in_their_range():
    sure = np.eye(3)[[0, 1, 2]]
    assert fit_temperature(sure, np.array([0, 1, 2])) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(sure, np.array([1, 2, 0])) == pytest.approx(100, rel=1e-3)


def test_cross_fitted_temperatures_never_see_their_own_group():
    logits, labels = synthetic(1.0, count=900)
    groups = np.arange(900) % 3
    logits = logits * np.array([1.0, 2.0, 4.0], np.float32)[groups][:, None]
    found = cross_fitted_temperatures(logits, labels, groups)
    for group in range(3):
        others = groups != group
        expected = fit_temperature(logits[others], labels[others])
        np.testing.assert_allclose(found[groups == group], expected)
    five = cross_fitted_temperatures(logits, labels, np.arange(900) // 30, seed=2)
    assert len(np.unique(five)) == 5
    with pytest.raises(BadConfig, match="2 or more"):
        cross_fitted_temperatures(logits, labels, np.zeros(900))


def test_bad_input():
    with pytest.raises(BadConfig, match="0 segments"):
        calibration(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(BadConfig, match="positive temperatures"):
        calibration(np.zeros((1, 3)), np.zeros(1, int), 0.0)
    with pytest.raises(BadConfig, match="can't be fitted"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
