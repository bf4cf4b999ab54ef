"""What other programs are shown of a run: TensorBoard's event files, a run of MLflow."""

import importlib.machinery
import math
import sys
import types

import pytest
from small_run import events

from kdtf.cli.entry import main
from kdtf.config import Config
from kdtf.errors import UserError
from kdtf.progress import Progress
from kdtf.runs.tracking import MOST_VALUES, event_files, scores_by_name, tracked
from kdtf.store import Store

ROWS = [
    {"epoch": 1, "phase": "student", "loss": 0.5, "val_loss": 0.2, "val_accuracy": 0.7, "learning_rate": 0.1},
    {"epoch": 2, "phase": "student", "loss": 0.4, "val_loss": 0.1, "val_accuracy": 1.0, "learning_rate": 0.0},
]  # fmt: skip


def test_every_epoch_of_every_training_is_a_scalar(tmp_path):
    progress = Progress()
    with event_files(str(tmp_path / "a/b"), progress):
        for stage in ("vgg16-student", "alone-student"):
            with progress.stage(stage), progress.bar("", 2) as advance:
                advance(0.5)
                for row in ROWS:
                    advance(row["epoch"], row)
    assert progress.watchers == []
    expected = {name: [(row["epoch"], pytest.approx(row[name])) for row in ROWS] for name in ROWS[0]}
    del expected["epoch"], expected["phase"]
    assert events(tmp_path) == {"vgg16-student": expected, "alone-student": expected}


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    given = event_files(str(tmp_path / "file"), Progress())
    with pytest.raises(UserError, match=r"--log-dir must be a folder"), given:
        pass


# MLflow


class FakeError(Exception):
    pass


@pytest.fixture
def mlflow(monkeypatch):
    """What is used of MLflow, which keeps what it is called with."""
    fake = types.ModuleType("mlflow")
    fake.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)
    fake.calls = []

    def call(name):
        def keep(*values, **named):
            fake.calls.append((name, *values, *named.values()))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="7"))

        return keep

    for name in ("set_tracking_uri", "start_run", "log_params", "log_metrics", "log_artifact", "set_tag"):
        setattr(fake, name, call(name))
    fake.end_run, fake.get_tracking_uri = call("end_run"), lambda: "file:///x"
    fake.exceptions = types.SimpleNamespace(MlflowException=FakeError)
    uri = types.SimpleNamespace(get=lambda: None)
    fake.environment_variables = types.SimpleNamespace(MLFLOW_TRACKING_URI=uri)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "true")  # put back afterwards
    return fake


NAME = {"teacher": "vgg16", "model": "distilled", "recipe": "int8"}
SUMMARY = [{**NAME, "accuracy": 0.5, "clean_accuracy": 0.25, "auc": math.nan, "f1": None, "size_kib": 43}]
CONFIG = Config().with_values({"tracking": "mlflow", "results": "R", "epochs": 7})


def test_mlflow_gets_settings_scores_and_files(mlflow, tmp_path):
    store = Store(tmp_path)
    store.write("b.csv", "x\n")
    store.write("a.json", "{}")
    with tracked(CONFIG, Progress()) as log_results:
        log_results(SUMMARY, store)
    names = [call[0] for call in mlflow.calls]
    assert names[:2] == ["set_tracking_uri", "start_run"] and mlflow.calls[1] == ("start_run", "R")
    assert mlflow.calls[0][1].startswith("file://") and mlflow.calls[0][1].endswith("/mlruns")
    params = [call[1] for call in mlflow.calls if call[0] == "log_params"]
    assert all(len(part) <= MOST_VALUES for part in params)
    settings = {name: value for part in params for name, value in part.items()}
    assert settings["student.epochs"] == 7 and len(settings) == sum(map(len, Config().to_dict().values()))
    [metrics] = [call[1] for call in mlflow.calls if call[0] == "log_metrics"]
    start = "vgg16/distilled/int8"
    assert metrics == {f"{start}/accuracy": 0.5, f"{start}/clean_accuracy": 0.25, f"{start}/size_kib": 43.0}
    files = [call[1] for call in mlflow.calls if call[0] == "log_artifact"]
    assert files == [str(tmp_path / "a.json"), str(tmp_path / "b.csv")]
    assert mlflow.calls[-1] == ("end_run", "FINISHED")


def test_a_run_that_fails_is_marked_so(mlflow):
    with pytest.raises(ZeroDivisionError), tracked(CONFIG, Progress()):
        raise ZeroDivisionError
    assert mlflow.calls[-1] == ("end_run", "FAILED")


def test_a_server_that_does_not_answer_is_one_line(mlflow, monkeypatch):
    def refuse(**named):
        raise FakeError("HTTPConnectionPool:\n refused")

    mlflow.start_run = refuse
    line = r"^--tracking must be used with .*HTTPConnectionPool: refused\.$"
    with pytest.raises(UserError, match=line), tracked(CONFIG, Progress()):
        pass


def test_names_of_scores_are_in_letters_that_mlflow_takes():
    [name] = scores_by_name([{"teacher": "keras:NASNet/é", "model": "a", "recipe": "b", "accuracy": 1}])
    assert name == "keras_NASNet__/a/b/accuracy"


def test_where_it_is_not_installed_the_extra_is_named_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "nowhere", "--tracking", "mlflow"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "Error: The Python package mlflow-skinny must be installed for --tracking mlflow. Got "
    )
    assert (
        error.endswith("`pip install '.[mlflow]'` where kdtf lies installs it.\n") and error.count("\n") == 1
    )
    assert main(["--tracking", "wandb"]) == 2 and "--tracking" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_real_mlflow_takes_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="no MLflow: see the extra `mlflow`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store(tmp_path / "R")
    store.write("a.json", "{}")
    with tracked(CONFIG, Progress()) as log_results:
        log_results(SUMMARY, store)
    [run] = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.metrics["vgg16/distilled/int8/accuracy"] == 0.5 and run.info.status == "FINISHED"
    assert run.data.params["student.epochs"] == "7" and run.data.tags["kdtf"]
