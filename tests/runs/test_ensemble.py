"""The mean of several teachers: of their labels at a temperature, and of what they said of val and test."""

import numpy as np
import pytest

from kdtf.runs.ensemble import mean_logits

RNG = np.random.default_rng(0)
LOGITS = [RNG.normal(size=(5, 3)).astype("float32") * 4 for _ in range(3)]


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_its_softmax_at_the_temperature_is_the_mean_of_theirs(temperature):
    mean = mean_logits(LOGITS, temperature)
    wanted = np.mean([softmax(z / temperature) for z in LOGITS], axis=0)
    assert mean.dtype == np.float32
    assert softmax(mean / temperature) == pytest.approx(wanted, rel=1e-5)


def test_the_mean_of_one_says_what_it_says_and_sure_ones_stay_finite():
    one = mean_logits(LOGITS[:1], 2.0)
    assert softmax(one) == pytest.approx(softmax(LOGITS[0]), rel=1e-5)
    sure = [np.array([[900.0, -900.0]]), np.array([[-900.0, 900.0]])]
    assert mean_logits(sure, 1.0) == pytest.approx(np.log([[0.5, 0.5]]))
