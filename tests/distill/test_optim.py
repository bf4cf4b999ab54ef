import keras
import numpy as np
import pytest

from kdtf.distill.optim import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    constant,
    cosine,
    exponential,
    polynomial,
)


def test_the_cosine_rises_to_its_peak_and_ends_at_nothing():
    schedule = cosine(0.1, 100, warmup=0.1)
    values = [float(schedule(step)) for step in range(101)]
    assert values[0] == 0 and values[10] == pytest.approx(0.1) and values[100] == pytest.approx(0, abs=1e-9)
    assert values[55] == pytest.approx(0.05) and max(values) == pytest.approx(0.1)
    assert float(cosine(0.1, 100, warmup=0)(0)) == pytest.approx(0.1)


def test_the_other_schedules_by_value():
    assert [float(exponential(1.0, 100, 0)(s)) for s in (0, 50, 100)] == pytest.approx([1, 0.1, 0.01])
    assert [float(polynomial(1.0, 100, 0)(s)) for s in (0, 25, 100)] == pytest.approx([1, 0.75, 0])
    assert constant(0.3, 100, 0) == 0.3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_against_the_gradient_and_decays_weights_when_told(name):
    moved = {}
    for decay in (0.0, 0.5):
        weight = keras.Variable(np.array([1.0, 1.0], "float32"))
        optimizer = build_optimizer(name, "constant", 0.1, 10, warmup=0.0, weight_decay=decay)
        optimizer.apply([keras.ops.convert_to_tensor([1.0, 0.0])], [weight])
        moved[decay] = np.asarray(weight)
    assert moved[0.0][0] < 1 and moved[0.0][1] == pytest.approx(1)
    assert moved[0.5][1] == pytest.approx(1 - 0.1 * 0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_is_clipped_where_it_is_asked_for(name):
    moved = {}
    for clipnorm, gradient in ((None, [0.3, 0.4]), (0.5, [3.0, 4.0]), (5.0, [0.3, 0.4])):
        weight = keras.Variable(np.zeros(2, "float32"))
        optimizer = build_optimizer(name, "constant", 0.1, 10, warmup=0.0, clipnorm=clipnorm)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
        moved[clipnorm] = np.asarray(weight)
    assert moved[0.5] == pytest.approx(moved[None], rel=1e-5)  # [3, 4] is clipped to [0.3, 0.4]
    assert moved[5.0] == pytest.approx(moved[None], rel=1e-5)


def test_the_rate_follows_the_schedule():
    for name in SCHEDULES:
        optimizer = build_optimizer("Adam", name, 0.2, 10, warmup=0.0)
        assert float(optimizer.learning_rate) == pytest.approx(0.2), name
