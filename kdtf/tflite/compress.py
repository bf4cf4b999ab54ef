"""Fine-tuning a finished student for its small file: pruned, or with few shared weights.

The only module that knows tf_keras and tensorflow-model-optimization (tfmot), which works on tf_keras
models alone. Both are imported when they are needed. It trains a tf_keras copy of the student and gives it
back as a plain float network: `quantize` makes the file, by the recipe it has for every student.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager.context import context

from ..distill.batches import Examples, steps_per_epoch, validation_batches, view_batches
from ..distill.callbacks import check_weights
from ..distill.losses import LOSSES, cross_entropy
from ..errors import UserError, require
from ..native_log import native_noise
from ..progress import Progress
from ..records import Rule, Tuning
from .tuning_state import TuningState

VALIDATION_BATCH = 32  # images of val looked at once


class TunedStudent(NamedTuple):
    """A fine-tuned student: from tensors of pixels to probabilities (N, K); a history row an epoch."""

    probs: Callable[[tf.Tensor], tf.Tensor]
    history: list[dict]


def libraries() -> tuple[ModuleType, ModuleType]:
    """tf_keras and tfmot. Raises `UserError` where they are not installed.

    tfmot sets TF_USE_LEGACY_KERAS for the whole process, which would turn `tf.keras` of anything that
    starts later into tf_keras: the variable is put back.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        with native_noise():
            import tensorflow_model_optimization as tfmot
            import tf_keras
    except ImportError as error:
        raise UserError(
            "--compress needs tf-keras and tensorflow-model-optimization: install kdtf with its "
            f"extra 'qat'. {error}."
        ) from None
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tf_keras, tfmot


def tf_keras_copy(student: keras.Model) -> Any:
    """A tf_keras model from pixels (N, H, W, C) to the same logits (N, K) as `student`, to 1e-5.

    tfmot knows neither a Rescaling layer nor a BatchNormalization that stands alone. So the scale goes
    into the first convolution and every BatchNormalization, its statistics as they are, into the
    convolution before it (Jacob et al. 2018, arXiv 1712.05877): they are frozen, and what is trained is
    what the file holds. Softmax is left out.

    Raises `UserError` for a network that is no chain of the layers below.
    """
    tf_keras, _ = libraries()
    kinds, pixels = tf_keras.layers, tf_keras.Input(student.input.shape[1:], name="pixels")
    x = pixels
    for layer, weights, relu in _folded(student):
        activation = "relu" if relu else None
        if isinstance(layer, keras.layers.Conv2D):
            copy = kinds.Conv2D(
                layer.filters, layer.kernel_size, layer.strides, padding=layer.padding, activation=activation
            )
        elif isinstance(layer, keras.layers.Dense):
            copy = kinds.Dense(layer.units, activation=activation)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            copy = kinds.MaxPooling2D(layer.pool_size, layer.strides, padding=layer.padding)
        elif isinstance(layer, keras.layers.Dropout):
            copy = _dropout(layer.rate)
        else:
            copy = getattr(kinds, type(layer).__name__)()  # Flatten, GlobalAveragePooling2D
        x = copy(x)
        copy.set_weights(weights)
    return tf_keras.Model(pixels, x)


def _folded(student: keras.Model) -> list[list[Any]]:
    """[layer, [kernel, bias], is there a ReLU after it] of a chain, scale and BatchNormalization folded."""
    steps: list[list[Any]] = []
    scale = 1.0
    for layer in student.layers:
        kind = type(layer).__name__
        if kind == "Rescaling" and layer.offset == 0 and not steps:
            scale = layer.scale
        elif kind == "Conv2D":
            kernel, *biases = (w.astype(np.float64) for w in layer.get_weights())
            bias = biases[0] if biases else np.zeros(layer.filters)
            steps.append([layer, [kernel * scale, bias], layer.activation is keras.activations.relu])
            scale = 1.0
        elif kind == "BatchNormalization" and type(steps[-1][0]).__name__ == "Conv2D" and not steps[-1][2]:
            gamma, beta, mean, variance = (w.astype(np.float64) for w in layer.get_weights())
            gain = gamma / np.sqrt(variance + layer.epsilon)  # (filters,)
            kernel, bias = steps[-1][1]
            steps[-1][1] = [kernel * gain, (bias - mean) * gain + beta]
        elif kind == "ReLU" and steps[-1][1] and layer.max_value is None:
            steps[-1][2] = True
        elif kind == "Dense":
            steps.append([layer, layer.get_weights(), layer.activation is keras.activations.relu])
        elif kind in ("MaxPooling2D", "Flatten", "Dropout", "GlobalAveragePooling2D"):
            steps.append([layer, [], False])
        else:
            known = kind in ("InputLayer", "Softmax")
            require(known, "--student", "cnn3, cnn3-small, cnn5 or baseline for --compress", student.name)
    return steps


def fine_tune(
    student: keras.Model,
    examples: Examples,
    tuning: Tuning,
    *,
    seed: int,
    title: str,
    progress: Progress,
    checkpoint: Path | None = None,
) -> TunedStudent:
    """A finished student fine-tuned over the views (V, N, H, W, C) of `examples` by one of the `METHODS`.

    With the loss it was trained with: distilled from the teacher's logits among the examples, or on the
    labels without. The copy's features are not looked at: of a loss on features the part on logits is left,
    `kd` of `fitnet`. The student is not changed; the last weights are kept. It goes on from what the file
    `checkpoint` holds. Raises `UserError` where loss or weights do not stay finite.
    """
    tf_keras, _ = libraries()
    with _seeded(seed):  # dropout and the first centroids
        copy, scale = tf_keras_copy(student), _scale(student)
        # Adam moves every weight by about the rate: trained as it is, on pixels 0..255, the first kernel
        # would be lost in a few steps
        _multiply_first(copy, 1 / scale)
        steps = steps_per_epoch(examples.views, tuning.batch_size)
        prepared = METHODS[tuning.method](copy, tuning, steps * tuning.epochs)
        rate = tf_keras.optimizers.schedules.CosineDecay(tuning.rate, steps * tuning.epochs)
        prepared.model.compile(tf_keras.optimizers.Adam(rate), _loss(tuning.rule), metrics=[_accuracy])
        state = TuningState(checkpoint, _variables(prepared.model))
        state.restore()
        start = len(state.rows)  # epochs
        stream, _ = view_batches(examples, batch_size=tuning.batch_size, seed=seed, start=(start, 0))
        val = validation_batches(examples, VALIDATION_BATCH)
        with progress.bar(title, tuning.epochs) as advance:
            advance(start)
            prepared.model.fit(
                stream.map(lambda x, y: _target(x, y, scale)),
                initial_epoch=start,
                epochs=tuning.epochs,
                steps_per_epoch=steps,
                validation_data=val.map(lambda x, y: _target(x, y, scale)),
                callbacks=[*prepared.callbacks, state.callback(tf_keras, advance)],
                verbose=0,
            )
        rows = _history_rows(state.rows, tuning)
        tuned = prepared.plain()
        check_weights(tuned, tuning.method)  # the last step can lose one after the last loss
        _multiply_first(tuned, scale)
    return TunedStudent(lambda pixels: tf.nn.softmax(tuned(pixels, training=False)), rows)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """In this block tf_keras and tfmot draw from `seed`: they know no generators but those of the process.

    Those are TensorFlow's and tf_keras' own, whose states have no public name. They are put back afterwards.
    """
    tf_keras, _ = libraries()
    eager, own = context(), tf_keras.src.backend._SEED_GENERATOR
    process_seed, drawn = eager._seed, getattr(eager, "_rng", None)
    generator = getattr(own, "generator", None)
    tf.random.set_seed(seed)
    own.generator = random.Random(seed)
    try:
        yield
    finally:
        tf.random.set_seed(process_seed)  # forgets what was drawn so far from that seed
        eager._rng, own.generator = drawn, generator


def _variables(model: Any) -> list[Any]:
    """What decides how the fine-tuning of a compiled model goes on.

    Its variables, those of its optimizer, and the states of the generators of its dropout, which it does
    not count among them.
    """
    model.optimizer.build(model.trainable_variables)
    generators = [own._random_generator._generator.state for own in model.layers if _is_dropout(own)]
    variables = (*model.variables, *model.optimizer.variables, *generators)
    return list({id(own): own for own in variables}.values())


def _dropout(rate: float) -> Any:
    """A Dropout whose generator is a variable: an operation that draws by itself cannot be taken up again."""
    tf_keras, _ = libraries()
    return tf_keras.layers.Dropout(rate, force_generator=True)


def _is_dropout(layer: Any) -> bool:
    return type(layer).__name__ == "Dropout"


def _history_rows(scores: list[dict[str, float]], tuning: Tuning) -> list[dict]:
    """A row an epoch. Raises `UserError` where the loss was not finite throughout."""
    rows = [
        {
            "epoch": i + 1,
            "phase": tuning.method,
            **{name.replace("_accuracy", "accuracy"): value for name, value in row.items()},
        }
        for i, row in enumerate(scores)
    ]
    finite = np.isfinite([row["loss"] for row in scores]).all()
    hint = "Try a lower --compress-rate."
    require(finite, "The loss", f"finite throughout {tuning.method}", rows[-1]["loss"], hint)
    return rows


def _loss(rule: Rule | None) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """`Distiller`'s loss for targets of `_target`, logits (N, K), without hints, by `losses` too."""

    def loss(target: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        labels, teacher = target[:, 0], target[:, 1:]  # (N,), (N, K) or nothing
        if rule is None:
            return cross_entropy(student, labels)  # (N,)
        return LOSSES[rule.loss].terms(student, labels, teacher, rule).mixture  # (N,)

    return loss


def _accuracy(target: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.equal(tf.argmax(student, -1), tf.cast(target[:, 0], tf.int64)), tf.float32)


def _scale(student: keras.Model) -> float:
    """What the student multiplies its pixels by."""
    return next((la.scale for la in student.layers if isinstance(la, keras.layers.Rescaling)), 1.0)


def _multiply_first(model: Any, factor: float) -> None:
    """The first kernel times a factor."""
    first = next(layer for layer in model.layers if layer.weights)
    kernel, *bias = first.get_weights()
    first.set_weights([kernel * factor, *bias])


def _target(x: Any, labels: tf.Tensor, scale: float) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch as tf_keras wants it: scaled pixels, and label and teacher's logits in one (N, 1 + K)."""
    target = tf.cast(tf.reshape(labels, (-1, 1)), tf.float32)
    if isinstance(x, dict):
        return scale * x["pixels"], tf.concat([target, x["teacher_logits"]], axis=1)
    return scale * x, target


class Prepared(NamedTuple):
    """A model made ready for fine-tuning, what must be called meanwhile, and how it becomes plain again."""

    model: Any
    callbacks: list[Any]
    plain: Callable[[], Any]


def _pruned(copy: Any, tuning: Tuning, steps: int) -> Prepared:
    """The smallest weights of every layer to zero, more of them along a polynomial to `--sparsity`.

    Zhu and Gupta 2017, arXiv 1710.01878. The last third of the steps mends what the cuts broke. First
    and last layer are left whole: few weights, and the dearest.
    """
    _, tfmot = libraries()
    end = max(1, 2 * steps // 3)
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        0.0, tuning.sparsity, begin_step=0, end_step=end, frequency=max(1, end // 20)
    )
    model = _with_inner_layers(copy, lambda layer: tfmot.sparsity.keras.prune_low_magnitude(layer, schedule))
    step = tfmot.sparsity.keras.UpdatePruningStep()
    return Prepared(model, [step], lambda: tfmot.sparsity.keras.strip_pruning(model))


def _clustered(copy: Any, tuning: Tuning, steps: int) -> Prepared:
    """Every layer's weights replaced by `--clusters` shared values, which are then trained.

    Han, Mao and Dally 2016, arXiv 1510.00149; the first values by k-means++. First and last layer are
    left whole.
    """
    _, tfmot = libraries()
    first = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    count = tuning.clusters
    cluster = tfmot.clustering.keras.cluster_weights
    model = _with_inner_layers(
        copy, lambda layer: cluster(layer, number_of_clusters=count, cluster_centroids_init=first)
    )
    return Prepared(model, [], lambda: tfmot.clustering.keras.strip_clustering(model))


def _with_inner_layers(model: Any, wrap: Callable[[Any], Any]) -> Any:
    """A copy of `model` with every layer wrapped that has a kernel, but for the first and the last."""
    tf_keras, _ = libraries()
    inner = [layer.name for layer in model.layers if layer.weights][1:-1]

    def clone(layer: Any) -> Any:
        if _is_dropout(layer):
            return _dropout(layer.rate)
        copy = layer.__class__.from_config(layer.get_config())
        if layer.weights:
            copy.build(layer.input_shape)
            copy.set_weights(layer.get_weights())
        return wrap(copy) if layer.name in inner else copy

    return tf_keras.models.clone_model(model, clone_function=clone)


METHODS: dict[str, Callable[..., Prepared]] = {
    "prune": _pruned,
    "cluster": _clustered,
}
