"""A row added to a registry is all that a new loss, student or teacher takes: each trains a step here."""

import keras
import numpy as np
import pytest

from kdtf.distill.batches import Examples
from kdtf.distill.distiller import Distiller
from kdtf.distill.inference import inference_of
from kdtf.distill.losses import LOSSES, Loss, check_rule
from kdtf.distill.train import train_classifier, train_student
from kdtf.errors import UserError
from kdtf.models import networks
from kdtf.models.registry import TEACHERS, Teacher, canonical
from kdtf.models.students import STUDENTS, Student, build_student
from kdtf.models.teachers import build_base, build_head, with_head
from kdtf.models.weights import WeightSource
from kdtf.progress import Progress
from kdtf.records import Rule, Training

pytestmark = pytest.mark.usefixtures("eager_steps")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(12) % 3
LOGITS = RNG.normal(size=(12, 3)).astype("float32")
EXAMPLES = Examples(PIXELS[None], LABELS, PIXELS, LABELS, LOGITS[None], LOGITS)
STEP = Training(epochs=1, batch_size=12, rate=1e-2, schedule="constant")  # all images at once
SETTINGS = {"seed": 0, "title": "", "progress": Progress()}


def moved(model, train):
    """The history of a training, and whether it moved any weight of the model."""
    before = model.get_weights()
    rows = train()
    return rows, any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.fixture
def toy_loss(monkeypatch):
    """The mean squared distance of the logits times an option, softened by the temperature."""

    def distance(student, teacher, temperature, scale):
        return scale * keras.ops.mean((student - teacher) ** 2, axis=-1) / temperature  # (N,)

    row = Loss(distance, lambda alpha: 1 - alpha, "alpha * CE(y, s) + (1 - alpha) * D", {"scale": 1.5})
    monkeypatch.setitem(LOSSES, "toy", row)


@pytest.mark.parametrize("options, scale", [((), 1.5), ((("scale", 4.0),), 4.0)])
def test_a_toy_loss_trains_a_student_with_its_own_option(toy_loss, options, scale):
    student = build_student("baseline", (8, 8, 1), 3, momentum=0.9, dropout=0.0, seed=0)
    logits = inference_of(student)(PIXELS)
    hard = -np.log((np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(12), LABELS]).mean()
    soft = scale * ((logits - LOGITS) ** 2).mean() / 4.0
    rule = Rule(0.25, 4.0, "toy", options)
    rows, has_learned = moved(student, lambda: train_student(student, EXAMPLES, STEP, rule, **SETTINGS))
    assert rows[0]["distillation"] == pytest.approx(soft, rel=1e-4)
    assert rows[0]["loss"] == pytest.approx(0.25 * hard + 0.75 * soft, rel=1e-4) and has_learned


@pytest.mark.parametrize(
    "loss, options",
    [
        ("dkd", ()),
        ("dkd", (("target", 0.5), ("beta", 2.0))),
        ("dist", ()),
        ("dist", (("beta", 0.5), ("gamma", 3.0))),
        ("logit-mse", ()),
    ],
)
def test_every_loss_trains_a_student_with_its_own_options(loss, options):
    student = build_student("baseline", (8, 8, 1), 3, momentum=0.9, dropout=0.0, seed=0)
    rule = Rule(0.25, 4.0, loss, options)
    terms = LOSSES[loss].terms(inference_of(student)(PIXELS), LABELS, LOGITS, rule)
    expected = [float(np.mean(values)) for values in terms]
    rows, has_learned = moved(student, lambda: train_student(student, EXAMPLES, STEP, rule, **SETTINGS))
    names = ("cross_entropy", "distillation", "loss")
    assert [rows[0][name] for name in names] == pytest.approx(expected, rel=1e-4) and has_learned


def test_a_toy_loss_takes_its_option_from_distiller_and_is_saved_with_it(toy_loss):
    pixels = keras.Input((3,))
    student = keras.Model(pixels, keras.layers.Identity()(pixels))
    distiller = Distiller(student, alpha=0.0, temperature=2.0, loss="toy", options={"scale": 8.0})
    distiller.compile("sgd", jit_compile=False)
    inputs = {"pixels": 0 * LOGITS, "teacher_logits": LOGITS}
    logs = distiller.evaluate(inputs, LABELS, batch_size=12, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(4.0 * (LOGITS**2).mean(), rel=1e-5)
    assert Distiller.from_config(distiller.get_config()).rule == distiller.rule


def test_an_option_that_is_not_the_losses_own_is_refused_in_one_line(toy_loss):
    text = r"^--loss-options must be options of toy \(scale\)\. Got 'slope'\.$"
    rule = Rule(0.5, 2.0, "toy", (("slope", 1.0),))
    student = build_student("baseline", (8, 8, 1), 3, momentum=0.9, dropout=0.0, seed=0)
    with pytest.raises(UserError, match=text):
        check_rule(rule)
    with pytest.raises(UserError, match=text):
        Distiller(student, loss="toy", options={"slope": 1.0})
    with pytest.raises(UserError, match=text):
        train_student(student, EXAMPLES, STEP, rule, **SETTINGS)


def test_a_toy_student_is_built_and_trained(monkeypatch):
    def flat(shape, classes, momentum, dropout):
        pixels = keras.Input(shape, name="pixels")
        x = keras.layers.Flatten(name="flat")(keras.layers.Rescaling(1 / 255, name="scale")(pixels))
        return keras.Model(pixels, keras.layers.Dense(classes, name="logits")(x), name="toy")

    monkeypatch.setitem(STUDENTS, "toy", Student(flat, min_side=8, chain=True))
    with pytest.raises(UserError, match=r"^image side must be at least 8 px for toy\. Got \(7, 9\)\.$"):
        build_student("toy", (7, 9, 1), 3, momentum=0.9, dropout=0.5, seed=0)
    student = build_student("toy", (8, 8, 1), 3, momentum=0.9, dropout=0.5, seed=0)
    rule = Rule(0.5, 2.0)
    rows, has_learned = moved(student, lambda: train_student(student, EXAMPLES, STEP, rule, **SETTINGS))
    assert has_learned and np.isfinite(rows[0]["loss"])


def toy(pixels):
    """Feature maps (N, 4, 4, 6)."""
    return keras.layers.Conv2D(6, 3, strides=2, padding="same")(pixels)


@pytest.mark.parametrize(
    "row, side",
    [
        (Teacher("toy", "mobilenet", min_side=8, aliases=("plaything",), published=False), 8),
        (Teacher("MobileNetV3Small", "mobilenet_v3", aliases=("plaything",)), 32),
    ],
    ids=["a network of its own", "a class of Keras"],
)
def test_a_toy_teacher_is_found_by_its_alias_built_and_trained(monkeypatch, row, side):
    monkeypatch.setattr(networks, "toy", toy, raising=False)
    monkeypatch.setitem(TEACHERS, "toy", row)
    assert canonical("Toy") == canonical("play-thing") == "toy"
    base = build_base("toy", (8, 8, 1), WeightSource("none"), seed=1)
    assert not base.pretrained and base.origin == "random weights, by --weights none"
    teacher = with_head(base.model, build_head("toy", base.model.output.shape[1:], 3, seed=1))
    resized = [layer.height for layer in base.model.layers if isinstance(layer, keras.layers.Resizing)]
    assert resized == ([] if side == 8 else [side])
    rows, has_learned = moved(
        teacher, lambda: train_classifier(teacher, EXAMPLES, STEP, phase="whole network", **SETTINGS)
    )
    assert has_learned and np.isfinite(rows[0]["loss"])
    assert inference_of(teacher)(PIXELS).shape == (12, 3)
