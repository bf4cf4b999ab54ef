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


def test_a_base_that_was_built_serves_only_where_its_weights_are_those_it_begins_with(tmp_path):
    split = SimpleNamespace(teacher_pixels=np.zeros((1, 16, 16, 3), np.uint8))
    space = SimpleNamespace(data=SimpleNamespace(train=split, classes=("a", "b")))
    network = TeacherNetwork("cnn5", WeightsChoice("none"), None, 0.9, 0, TeacherHead())
    with teachers_of_one_convolution():
        _, whole, base = teacher._network(space, network)
        begun = base.get_weights()
        assert teacher._network(space, network)[2] is base
        base.set_weights([np.ones_like(own) for own in begun])  # as a training would
        teacher._write(tmp_path, whole, [])
        teacher._built.clear()
        _, _, trained = teacher._network(space, network, tmp_path)
        assert all((own == 1).all() for own in trained.get_weights())
        assert teacher._network(space, network, tmp_path)[2] is trained
        again = teacher._network(space, network)[2].get_weights()
        assert all(np.array_equal(*pair) for pair in zip(begun, again, strict=True))
        teacher._built[0].base = teacher._built[0].base._replace(pretrained=True)  # of another run
        found = TeacherNetwork("cnn5", WeightsChoice("none"), None, 0.9, 0, TeacherHead(), "random", False)
        assert not teacher._build(space, found).pretrained
        other = TeacherNetwork("cnn5", WeightsChoice("none"), None, 0.9, 1, TeacherHead())
        assert not np.array_equal(teacher._network(space, other)[2].get_weights()[0], begun[0])
