"""Where a teacher's weights come from is decided once: a run goes on with what it began with."""

import json
import shutil
from pathlib import Path

from small_run import SMALL, table

from kdtf.cli import main
from kdtf.models.weights import NOT_DOWNLOADED, OFFLINE, WeightSource


def weights_that(pretrained, origin, times=None):
    """What `WeightSource.load` does where the weights can or cannot be had; after so many times, Ctrl-C."""
    left = [times]

    def load(self, name, make):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] = left[0] and left[0] - 1
        return make(weights=None), pretrained, origin

    return load


def whole(results):
    """The finished stages of the whole teacher."""
    return [path.name for path in Path(results, "work").glob("cnn5-whole-*")]


def test_a_teacher_goes_on_with_the_weights_it_began_with(small, tiny, monkeypatch, capsys, blank):
    """The first command is interrupted before the whole network is trained; the student alone stands."""
    argv = ["--data", str(tiny), *SMALL, "--weights", "auto", "--recipes", "int8", "--fine-tune-epochs", "1"]
    shutil.copytree("r", "other")
    before = whole("r")

    def run(results, load):
        with monkeypatch.context() as patch:
            patch.setattr(WeightSource, "load", load)
            return main([*argv, "--results", results])

    there, gone = "ImageNet weights from Keras", weights_that(False, NOT_DOWNLOADED)
    assert run("r", weights_that(True, there, times=3)) == 130  # origin, features, head
    assert list(Path("r", "work").glob("cnn5-head-*")) and whole("r") == before
    capsys.readouterr()
    assert run("r", gone) == 2
    assert "--weights must be able to give cnn5 the weights it began with" in capsys.readouterr().err
    assert run("other", weights_that(False, NOT_DOWNLOADED, times=1)) == 130  # origin
    assert whole("other") == before
    # they could be had now, and are not asked for
    assert run("other", WeightSource.load) == 0 and len(whole("other")) == len(before) + 1
    teacher = table(Path("other"), "summary.csv").query("model == 'teacher'").iloc[0]
    assert teacher.teacher_weights == NOT_DOWNLOADED
    warnings = json.loads(Path("other", "manifest.json").read_text())["warnings"]
    assert warnings.count(OFFLINE) == 1
