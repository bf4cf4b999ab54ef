"""Where a teacher's weights come from is decided once: a run goes on with what it began with."""

import json
import shutil

from small_run import QUICK, table

from kdtf.cli import main
from kdtf.models.weights import NOT_DOWNLOADED, OFFLINE, WeightSource


def weights_that(pretrained, origin):
    """What `WeightSource.load` does where the weights can or cannot be had."""
    return lambda self, name, make: (make(weights=None), pretrained, origin)


def test_a_teacher_goes_on_with_the_weights_it_began_with(tiny, tmp_path, monkeypatch, capsys):
    there, gone = weights_that(True, "ImageNet weights from Keras"), weights_that(False, NOT_DOWNLOADED)
    argv = ["--data", str(tiny), *QUICK, "--teachers", "cnn5", "--weights", "auto", "--recipes", "int8"]
    argv += ["--fine-tune-epochs", "1"]

    def run(results, load):
        monkeypatch.setattr(WeightSource, "load", load)
        return main([*argv, "--results", str(results)])

    assert run(tmp_path / "a", there) == 0
    shutil.rmtree(next((tmp_path / "a" / "work").glob("cnn5-whole-*")))
    assert run(tmp_path / "a", gone) == 2
    assert "--weights must be able to give cnn5 the weights it began with" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(tmp_path / "b", gone) == 0
    shutil.rmtree(next((tmp_path / "b" / "work").glob("cnn5-whole-*")))
    monkeypatch.undo()  # they could be had now, and are not asked for
    assert main([*argv, "--results", str(tmp_path / "b")]) == 0
    teacher = table(tmp_path / "b", "summary.csv").query("model == 'teacher'").iloc[0]
    assert teacher.teacher_weights == NOT_DOWNLOADED
    warnings = json.loads((tmp_path / "b" / "manifest.json").read_text())["warnings"]
    assert warnings.count(OFFLINE) == 1
