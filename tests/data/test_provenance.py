"""How `prepare` made a folder's arrays, as long as they are those."""

import json

import numpy as np
import pytest
from PIL import Image

from kdtf.data.provenance import MADE_BY, PROVENANCE, prepared
from kdtf.files import file_digest
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress


def test_how_images_were_prepared_is_known_as_long_as_they_are_those(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / name / "0.png")
    out = tmp_path / "out"
    settings = PrepareConfig(out=str(out), size=8, keep_aspect=True, window=(40.0, 400.0))
    prepare(tmp_path / "in", settings, Progress())
    assert prepared(out) == {"side": 8, "keep_aspect": True, "window": [40.0, 400.0]}
    np.save(out / "X_train.npy", np.zeros((2, 8, 8, 3), np.uint8))  # arrays of another origin
    assert prepared(out) == {}
    (out / "provenance.json").write_text(json.dumps({"made_by": "someone"}))
    assert prepared(out) == prepared(tmp_path) == prepared(tmp_path / "x.npz") == {}


@pytest.mark.parametrize(
    "note",
    [
        "no JSON",
        "[]",
        json.dumps({"made_by": MADE_BY}),
        json.dumps({"made_by": MADE_BY, "sha256": {"X_train.npy": "SHA"}}),
        json.dumps({"made_by": MADE_BY, "sha256": {"X_train.npy": "SHA"}, "settings": {"size": 8}}),
    ],
)
def test_a_note_that_says_less_is_none(tmp_path, note):
    np.save(tmp_path / "X_train.npy", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / PROVENANCE).write_text(note.replace("SHA", file_digest(tmp_path / "X_train.npy")))
    assert prepared(tmp_path) == {}
