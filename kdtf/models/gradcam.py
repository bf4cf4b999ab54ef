"""Grad-CAM: the parts of an image that speak for a class, as a network sees it.

Selvaraju et al. 2017, arXiv 1610.02391: the feature maps of a late convolution, weighted by the mean
gradient of the class's logit, negative parts dropped.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

LEAST_SIDE = 4  # px; at 32 px the last maps of most networks are one pixel and show nothing


def _is_map(layer: keras.Layer) -> bool:
    """Whether a layer gives feature maps (N, h, w, C) to show: wide enough, and neither pooled nor padded."""
    shape = getattr(layer.output, "shape", ())
    wide = len(shape) == 4 and min(shape[1:3]) >= LEAST_SIDE
    return wide and not any(word in type(layer).__name__ for word in ("Pooling", "Padding"))


def maps_and_logits(model: keras.Model) -> keras.Model:
    """`model` (pixels to logits) with its last feature maps of at least 4 x 4 as an output before the logits.

    Looks into networks that are layers of others. Raises `ValueError` where no layer has such maps.
    """
    feature_maps = []

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        inner = [x for x in getattr(layer, "layers", ()) if _is_map(x)]
        if inner:
            maps, out = keras.Model(layer.inputs, [inner[-1].output, layer.output])(*args)
            feature_maps.append(maps)
            return out
        out = layer(*args, **kwargs)
        if _is_map(layer):
            feature_maps.append(out)
        return out

    copy = keras.models.clone_model(model, call_function=call, clone_function=lambda layer: layer)
    if not feature_maps:
        raise ValueError(f"{model.name} has no feature maps of at least {LEAST_SIDE} x {LEAST_SIDE} px")
    return keras.Model(copy.input, [feature_maps[-1], copy.output])


def heat(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Grad-CAM of each image's top class: pixels (N, H, W, C) to (N, h, w) float32 in 0..1.

    `model` gives logits. An image without any evidence for its class stays 0.
    """
    with tf.GradientTape() as tape:
        pixels = tf.convert_to_tensor(pixels, tf.float32)
        tape.watch(pixels)  # so that the maps are on the tape even where no weight is trainable
        maps, logits = maps_and_logits(model)(pixels, training=False)
        top = tf.reduce_sum(tf.reduce_max(logits, axis=-1))  # of independent images: one gradient each
    weights = tf.reduce_mean(tape.gradient(top, maps), axis=(1, 2), keepdims=True)
    evidence = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()
    return evidence / np.maximum(evidence.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
