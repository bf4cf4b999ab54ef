"""A teacher's files: the same bytes whatever else the process has built."""

from types import SimpleNamespace

import keras
import numpy as np
from small_run import teachers_of_one_convolution

from kdtf.records import TeacherHead, TeacherNetwork, WeightsChoice
from kdtf.runs import teacher


def test_weights_files_do_not_know_how_many_networks_were_built_before(tmp_path):
    """A run that went on after a kill has built fewer of them than one that was left alone."""
    split = SimpleNamespace(teacher_pixels=np.zeros((1, 16, 16, 3), np.uint8))
    space = SimpleNamespace(data=SimpleNamespace(train=split, classes=("a", "b")))
    network = TeacherNetwork("cnn5", WeightsChoice("none"), None, 0.9, 0, TeacherHead())
    contents = []
    with teachers_of_one_convolution():
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            _, whole, _ = teacher._network(space, network)
            teacher._write(folder, whole, [])
            contents.append((folder / teacher.WEIGHTS).read_bytes())
            keras.layers.Conv2D(1, 1)
    assert contents[0] == contents[1]
