"""An .npz file as the source."""

import numpy as np
import pytest
from sources import noise, read, refused, run


@pytest.mark.parametrize("x, y", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_npz_of_both_styles(tmp_path, out, x, y):
    splits = ("train", "val", "test")
    arrays = {x.format(s): noise(i, (12, 8, 8)) for i, s in enumerate(splits)}
    np.savez(tmp_path / "a.npz", **arrays, **{y.format(s): np.arange(12)[:, None] % 2 for s in splits})
    summary = run(tmp_path / "a.npz", out, grey=True, teacher_size=16)
    assert summary.counts == dict.fromkeys(splits, 12) and summary.classes == ("class 0", "class 1")
    for split in splits:
        assert np.array_equal(read(out, f"X_{split}")[..., 0], arrays[x.format(split)])
        assert read(out, f"y_{split}").tolist() == [0, 1] * 6
        assert read(out, f"teacher/X_{split}").shape == (12, 16, 16, 1)
    assert not [p for p in out.iterdir() if "images" in p.name or p.name[0] in ".u"]


def test_npz_that_is_refused(tmp_path, out):
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in/a.npz"
    objects = np.array([{}, []], object)
    np.savez(archive, x_train=objects, y_train=objects, x_test=objects, y_test=objects)
    refused(archive, out, "must be a readable .npy file of numbers. Got: *Python objects")
    archive.write_bytes(b"no zip")
    refused(archive, out, "a.npz must be a folder of .npy files or a whole .npz file")
    refused(archive, out, "--group-regex must be left out where the source is an .npz", group_regex="x")
    archive.rename(tmp_path / "in/a.zip")
    refused(tmp_path / "in/a.zip", out, "the source must be a folder with train/CLASS/ * or an .npz file")
    assert not out.exists()
