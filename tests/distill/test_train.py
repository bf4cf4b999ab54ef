import keras
import numpy as np
import pytest

from kdtf.config import Config
from kdtf.data.dataset import Dataset, Split
from kdtf.distill.fit import Follow, KeepBest
from kdtf.distill.train import (
    batched,
    feed,
    fine_tune,
    fit_head,
    fit_student,
    held,
    over_views,
)
from kdtf.errors import UserError
from kdtf.models.teachers import build_head
from kdtf.progress import Progress

RNG = np.random.default_rng(0)


def split(count, side=16):
    """Two classes told apart by brightness."""
    labels = np.arange(count) % 2
    pixels = (RNG.integers(0, 100, (count, side, side, 1)) + 120 * labels[:, None, None, None]).astype(
        np.uint8
    )
    return Split(pixels, labels.astype("int64"), None, pixels)


DATA = Dataset(split(40), split(12), split(12), ("dark", "bright"), "digest", ())
QUICK = Config().with_values({"epochs": 8, "batch_size": 8, "learning_rate": 3e-3, "fine_tune_epochs": 4})


def test_feed_shows_every_image_once_an_epoch_and_every_view_equally_often():
    count, images = 3, 10
    views = (100 * np.arange(count)[:, None] + np.arange(images)[None])[..., None].astype(np.uint8)
    stream, steps = feed(views, np.arange(images), batch_size=4, seed=0)
    assert steps == 3
    batches = stream.take(steps * count).as_numpy_iterator()
    seen = []
    for _ in range(count):
        epoch = [next(batches) for _ in range(steps)]
        assert [len(y) for _, y in epoch] == [4, 4, 2]
        x, y = (np.concatenate(part) for part in zip(*epoch, strict=True))
        assert sorted(y) == list(range(images))
        assert np.array_equal(x[:, 0] % 100, y)  # a label stays with its image
        seen += x[:, 0].astype(int).tolist()
        assert len(set(x[:, 0] // 100)) > 1  # an epoch mixes the views
    assert sorted(seen) == sorted(views.ravel().tolist())


def test_feed_pairs_a_view_with_its_own_logits_and_is_seeded():
    views = RNG.integers(0, 256, (2, 6, 4), dtype=np.uint8)
    logits = views[..., :2].astype("float32") * 10

    def batch(seed):
        stream, _ = feed(views, np.arange(6), batch_size=6, seed=seed, logits=logits)
        return next(stream.as_numpy_iterator())

    x, _ = batch(0)
    assert np.array_equal(x["teacher_logits"], x["pixels"][:, :2] * 10)
    assert np.array_equal(x["pixels"], batch(0)[0]["pixels"])
    assert not np.array_equal(x["pixels"], batch(1)[0]["pixels"])


def test_held_keeps_the_order():
    data = held(DATA.val.pixels, DATA.val.labels, batch_size=5)
    x, y = (np.concatenate(part) for part in zip(*data.as_numpy_iterator(), strict=True))
    assert np.array_equal(x, DATA.val.pixels) and np.array_equal(y, DATA.val.labels) and x.dtype == np.float32


def callbacks(scores, patience):
    """Run KeepBest over (val_accuracy, val_loss) an epoch, the weight being the epoch's number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    keep = KeepBest(patience)
    keep.set_model(model)
    model.stop_training = False
    for epoch, (accuracy, loss) in enumerate(scores):
        model.set_weights([np.full((1, 1), float(epoch))])
        keep.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
        if model.stop_training:
            break
    keep.restore()
    return model.get_weights()[0].item(), epoch


@pytest.mark.parametrize(
    "scores, kept, stopped",
    [
        ([(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)], 2, 3),  # a tie goes to the lower loss
        ([(0.9, 1.0), (0.8, 0.1), (0.8, 0.1), (0.8, 0.1), (1.0, 0.0)], 0, 3),  # patience ends it
    ],
)
def test_the_best_epoch_on_val_is_kept(scores, kept, stopped):
    assert callbacks(scores, patience=3) == (kept, stopped)


def test_a_loss_that_is_not_a_number_stops_with_advice():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    follow = Follow(lambda done: None, "student", [])
    follow.set_model(model)
    with pytest.raises(UserError, match=r"became nan in epoch 3 of student\. Try a lower learning rate\."):
        follow.on_epoch_end(2, {"loss": float("nan")})


def test_batched_gives_what_the_model_gives_whatever_the_length():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    x = RNG.normal(size=(7, 3)).astype("float32")
    assert np.allclose(batched(model, batch_size=3)(x), model.predict(x, verbose=0), atol=1e-6)


def test_logits_over_views_are_stored_view_by_view(tmp_path):
    views = RNG.integers(0, 256, (3, 5, 2), dtype=np.uint8)
    kept = over_views(lambda x: x.astype("float32") * 2, views, tmp_path / "l.npy", Progress(), "")
    assert isinstance(kept, np.memmap) and np.array_equal(kept, views.astype("float32") * 2)


def test_a_head_learns_from_cached_features():
    features = np.stack([DATA.train.pixels.mean((1, 2)) / 25 - 4] * 2)  # (2, 40, 1)
    val = DATA.val.pixels.mean((1, 2)) / 25 - 4
    head = build_head("vgg16", (1,), 2)
    rows = fit_head(head, features, DATA, val, QUICK, seed=0, title="", progress=Progress())
    assert [r["epoch"] for r in rows] == list(range(1, 9))
    assert {r["phase"] for r in rows} == {"head"} and rows[-1]["accuracy"] > 0.9


def test_the_whole_network_learns_and_ends_with_its_best_weights():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 1))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(4, 3)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    rows = fine_tune(
        model, DATA.train.pixels[None], DATA, QUICK, pretrained=True, seed=0, title="", progress=Progress()
    )
    best = max((r["val_accuracy"], -r["val_loss"]) for r in rows)
    scored = model.evaluate(DATA.val.pixels.astype("float32"), DATA.val.labels, verbose=0, return_dict=True)
    assert (scored["accuracy"], -scored["loss"]) == pytest.approx(best, abs=1e-5)
    assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def fitted(seed=0, **logits):
    return fit_student(
        DATA.train.pixels[None], DATA, QUICK, seed=seed, title="", progress=Progress(), **logits
    )


def test_a_student_learns_alone_and_from_a_teacher():
    alone = fitted()
    right = batched(alone.model)(DATA.test.pixels).argmax(1) == DATA.test.labels
    assert right.mean() > 0.9
    teacher = 8 * np.eye(2, dtype="float32")[1 - DATA.train.labels][None]  # a teacher that is always wrong
    val = 8 * np.eye(2, dtype="float32")[1 - DATA.val.labels]
    misled = fit_student(
        DATA.train.pixels[None], DATA, QUICK.with_values({"alpha": 0.0}), seed=0, title="",
        progress=Progress(), logits=teacher, val_logits=val,
    )  # fmt: skip
    wrong = batched(misled.model)(DATA.test.pixels).argmax(1) != DATA.test.labels
    assert wrong.mean() > 0.9  # with alpha 0 the teacher alone is believed
    assert misled.history[-1]["loss"] == pytest.approx(misled.history[-1]["distillation"], rel=1e-5)


def test_the_same_seed_gives_the_same_start_and_another_another():
    first, again, other = (fitted(seed).history[0]["loss"] for seed in (0, 0, 1))
    assert first == pytest.approx(again, rel=1e-4) and first != pytest.approx(other, rel=1e-3)
