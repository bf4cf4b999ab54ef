"""What labels views: LiteRT where it was asked for, or where that is faster and there are enough of them."""

import json
from importlib import metadata
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from recorder import Recorder
from small_run import SMALL, pictures_without_drawings

from kdtf.cli import main
from kdtf.runs import teacher
from kdtf.runs.perform import Workspace
from kdtf.runs.stages import LABELLER, read_labeller
from kdtf.runs.teacher import TOLD
from kdtf.stage_folders import read_note
from kdtf.tflite.labelling import Labeller

VIEWS = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 4, 1), np.uint8)


@pytest.fixture
def label(tmp_path):
    """Has all views labelled by what a setting says: the logits are the model's. Gives what was said."""
    pixels = keras.Input(VIEWS.shape[2:])
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))
    space = Workspace(tmp_path, {}, None, Recorder(), "")

    def lines(choice):
        teacher._write_outputs(space, model, ["logits.npy"], VIEWS, None, "toy: labelling views", choice)
        expected = np.asarray(model(VIEWS.reshape(-1, *VIEWS.shape[2:]).astype("float32")))
        assert np.allclose(np.load(tmp_path / "logits.npy").reshape(-1, 2), expected, atol=1e-3)
        return space.progress.said

    return lines


@pytest.mark.parametrize(
    "labeller, least, by",
    [("auto", 10, "LiteRT"), ("auto", 11, "Keras"), ("litert", 11, "LiteRT"), ("keras", 0, "Keras")],
)
def test_few_views_are_not_worth_a_conversion(label, tmp_path, monkeypatch, labeller, least, by):
    monkeypatch.setattr(teacher, "LITERT_FROM", least)
    assert label(labeller) == [] and read_labeller(tmp_path) == by


def test_a_gpu_is_left_to_keras(label, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "LITERT_FROM", 0)
    monkeypatch.setattr(teacher.tf.config, "get_visible_devices", lambda kind: ["a GPU"])
    assert label("auto") == [] and read_labeller(tmp_path) == "Keras"


def test_it_is_said_why_keras_stands_in(label, tmp_path, monkeypatch):
    def by_keras(model, pixels, engine):
        return Labeller(teacher.inferences_of(model), "Keras", 0.5, "outputs of LiteRT are up to 5.0e-01 off")

    monkeypatch.setattr(teacher, "labeller_of", by_keras)
    assert label("litert") == ["toy: labelling views by Keras: outputs of LiteRT are up to 5.0e-01 off."]
    assert read_labeller(tmp_path) == "Keras" and "5.0e-01" in (tmp_path / LABELLER).read_text()


@pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
def test_a_run_by_openvino_says_so_in_stage_manifest_and_card(tiny, tmp_path, capsys):
    argv = ["--data", str(tiny), "--results", str(tmp_path), *SMALL, "--recipes", "int8", "--views", "1"]
    with pictures_without_drawings():
        assert main([*argv, "--labeller", "openvino-bf16"]) == 0
    (labels,) = (tmp_path / "work").glob("cnn5-labels-*")
    note = json.loads((labels / LABELLER).read_text())
    assert note["by"] in ("OpenVINO in bfloat16", "OpenVINO")  # a processor without bfloat16
    assert read_note(labels)["environment"]["openvino"] == metadata.version("openvino")
    assert json.loads((tmp_path / "manifest.json").read_text())["labelled_by"] == {"cnn5": note["by"]}
    card = json.loads((tmp_path / "cnn5_Student_int8.json").read_text())
    assert card["made_by"]["labelled_by"] == note["by"]
    told = f"by {note['by']}: outputs are up to {note['difference']:.1e} from those of Keras."
    assert (told in capsys.readouterr().out) == (note["difference"] > TOLD)


def test_labels_of_an_earlier_kdtf_are_keras(tmp_path):
    assert read_labeller(tmp_path) == "Keras"
