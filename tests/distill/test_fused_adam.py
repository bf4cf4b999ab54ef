"""The fused optimizers take the steps that Keras' take."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf.distill.fused_adam import FusedAdam, FusedAdamW
from kdtf.distill.optim import build_optimizer, cosine

RNG = np.random.default_rng(0)
SHAPES = ((3, 4), (4,), (2, 2, 1, 3))
KERAS = {FusedAdam: keras.optimizers.Adam, FusedAdamW: keras.optimizers.AdamW}


START = [RNG.normal(size=shape).astype("float32") for shape in SHAPES]
GRADIENTS = [[RNG.normal(size=shape).astype("float32") for shape in SHAPES] for _ in range(10)]


def steps(optimizer):
    """What weights and the optimizer's own variables are after a step for each list of gradients."""
    weights = [keras.Variable(value) for value in START]

    @tf.function
    def step(own):
        optimizer.apply(own, weights)

    optimizer.build(weights)
    for own in GRADIENTS:
        step([tf.constant(g) for g in own])
    return [np.asarray(v) for v in (*weights, *optimizer.variables)]


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"amsgrad": True}])
def test_ten_steps_are_those_of_keras(kind, settings):
    fused, plain = (steps(own(cosine(0.1, 10, 0.3), **settings)) for own in (kind, KERAS[kind]))
    assert np.abs(fused[0] - START[0]).max() > 0.05
    for ours, theirs in zip(fused, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


def test_a_step_is_one_kernel_a_weight_where_it_fits():
    def operations(optimizer):
        weights = [keras.Variable(np.ones(3, "float32"))]
        optimizer.build(weights)
        graph = tf.function(lambda g: optimizer.apply([g], weights)).get_concrete_function(
            tf.constant([1.0] * 3)
        )
        return [node.op for node in graph.graph.as_graph_def().node]

    assert operations(build_optimizer("Adam", "constant", 0.1, 10, warmup=0)).count("ResourceApplyAdam") == 1
    assert "ResourceApplyAdam" not in operations(FusedAdam(0.1, amsgrad=True))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_runs_have_the_fused_ones(name):
    optimizer = build_optimizer(name, "constant", 0.1, 10, warmup=0)
    assert isinstance(optimizer, FusedAdam) and isinstance(optimizer, getattr(keras.optimizers, name))
