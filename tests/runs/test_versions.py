"""Stages of other versions of packages are told of, and made again or, on request, gone on from."""

import json

import pytest
from small_run import QUICK, stages

from kdtf.cli import main
from kdtf.runs import engine, perform

ARGV = [*QUICK, "--teachers", "cnn5", "--recipes", "int8"]


@pytest.fixture
def results(tiny, tmp_path):
    assert main(["--data", str(tiny), "--results", str(tmp_path), *ARGV]) == 0
    return tmp_path


def other_version(monkeypatch, package):
    """As if another version of a package were installed; what the notes say of this run is as it is."""
    real = engine.versions

    def as_if(names):
        return {name: "99.0" if name == package else version for name, version in real(names).items()}

    for module in (engine, perform):
        monkeypatch.setattr(module, "versions", as_if)


def redone(before, results):
    return {name.rpartition("-")[0] for name in stages(results).keys() - before.keys()}


def test_what_depends_on_a_package_is_made_again_and_said_so(results, tiny, monkeypatch, capfd):
    before = stages(results)
    other_version(monkeypatch, "litert-quantizer")
    argv = ["--data", str(tiny), "--results", str(results), *ARGV]
    assert main(argv) == 0
    assert {"alone-int8", "cnn5-int8", "alone-conversion"} <= redone(before, results)
    assert not {"views", "cnn5-whole", "alone-student", "audit"} & redone(before, results)
    told = capfd.readouterr().err
    assert "Finished stages were made with litert-quantizer" in told and "--accept-versions" in told
    assert "99.0" not in json.dumps(json.loads((results / "manifest.json").read_text())["warnings"])
    after = stages(results)
    assert main(argv) == 0 and stages(results) == after  # and is not told again
    assert "Finished stages were made with" not in capfd.readouterr().err


def test_they_are_gone_on_from_where_that_is_accepted(results, tiny, monkeypatch):
    before = stages(results)
    other_version(monkeypatch, "keras")
    argv = ["--data", str(tiny), "--results", str(results), *ARGV, "--accept-versions"]
    assert main(argv) == 0 and stages(results) == before
    stage = json.loads((results / "manifest.json").read_text())["stages"]["alone-student"]
    assert stage["made_with"]["keras"] != "99.0"  # the manifest says which version made what


def test_stages_of_an_earlier_kdtf_are_told_and_not_used(results, tiny, capfd):
    (note,) = (results / "work").glob(f"alone-student-{'[0-9a-f]' * 16}/stage.json")
    old = json.loads(note.read_text())
    old = {k: old[k] for k in ("settings", "seconds", "sha256")}  # as 0.1.0 wrote them
    earlier = results / "work" / "alone-student-0123456789abcdef"
    note.parent.rename(earlier)
    (earlier / "stage.json").write_text(json.dumps(old))
    assert main(["status", "--results", str(results)]) == 0
    out = capfd.readouterr().out
    assert "of an earlier kdtf, not used; --fresh removes it" in out
    assert main(["--data", str(tiny), "--results", str(results), *ARGV]) == 0
    assert "work/ holds stages of an earlier kdtf, which are not used" in capfd.readouterr().err
    assert note.exists()  # made again under its own key
