"""Where a teacher's weights come from is decided once: a run goes on with what it began with."""

import json
import shutil
from pathlib import Path

from small_run import SMALL, table

from kdtf.cli import main
from kdtf.models.weights import NOT_DOWNLOADED, OFFLINE, WeightSource
from kdtf.runs import teacher


def weights_that(pretrained, origin):
    """What `WeightSource.load` does where the weights can or cannot be had."""
    return lambda self, name, make: (make(weights=None), pretrained, origin)


def interrupted(space, network, training):
    raise KeyboardInterrupt


def whole(results):
    """The finished stages of the whole teacher."""
    return [path.name for path in Path(results, "work").glob("cnn5-whole-*")]


def test_a_teacher_goes_on_with_the_weights_it_began_with(small, tiny, monkeypatch, capsys, blank):
    """The first command is interrupted before the whole network is trained; the student alone stands."""
    argv = ["--data", str(tiny), *SMALL, "--weights", "auto", "--recipes", "int8", "--fine-tune-epochs", "1"]
    shutil.copytree("r", "other")
    before = whole("r")

    def run(results, load, train=teacher._train_whole):
        with monkeypatch.context() as patch:
            patch.setattr(WeightSource, "load", load)
            patch.setattr(teacher, "_train_whole", train)
            patch.setattr(teacher, "_built", [])  # as in a new process
            return main([*argv, "--results", results])

    there, gone = "ImageNet weights from Keras", weights_that(False, NOT_DOWNLOADED)
    assert run("r", weights_that(True, there), interrupted) == 130
    assert list(Path("r", "work").glob("cnn5-head-*")) and whole("r") == before
    capsys.readouterr()
    assert run("r", gone) == 2
    assert "--weights must be able to give cnn5 the weights it began with" in capsys.readouterr().err
    assert run("other", gone, interrupted) == 130
    assert whole("other") == before
    # they could be had now, and are not asked for
    assert run("other", WeightSource.load) == 0 and len(whole("other")) == len(before) + 1
    row = table(Path("other"), "summary.csv").query("model == 'teacher'").iloc[0]
    assert row.teacher_weights == NOT_DOWNLOADED
    warnings = json.loads(Path("other", "manifest.json").read_text())["warnings"]
    assert warnings.count(OFFLINE) == 1
