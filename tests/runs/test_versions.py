"""Stages of other versions of packages are told of, and made again or, on request, gone on from."""

import json

import pytest
from small_run import SMALL, stages

from kdtf.cli import main
from kdtf.runs import engine, perform

pytestmark = pytest.mark.usefixtures("blank")


def other_version(monkeypatch, package):
    """As if another version of a package were installed; what the notes say of this run is as it is."""
    real = engine.versions

    def as_if(names):
        return {name: "99.0" if name == package else version for name, version in real(names).items()}

    for module in (engine, perform):
        monkeypatch.setattr(module, "versions", as_if)


def redone(before, results):
    return {name.rpartition("-")[0] for name in stages(results).keys() - before.keys()}


def test_what_depends_on_a_package_is_made_again_and_said_so(small, tiny, monkeypatch, capfd):
    before = stages(small)
    other_version(monkeypatch, "litert-quantizer")
    argv = ["--data", str(tiny), "--results", str(small), *SMALL]
    assert main(argv) == 0
    assert {"alone-int8", "cnn5-int8", "alone-conversion"} <= redone(before, small)
    assert not {"views", "cnn5-whole", "alone-student", "audit"} & redone(before, small)
    told = capfd.readouterr().err
    assert "Finished stages were made with litert-quantizer" in told and "--accept-versions" in told
    assert "99.0" not in json.dumps(json.loads((small / "manifest.json").read_text())["warnings"])
    after = stages(small)
    assert main(argv) == 0 and stages(small) == after  # and is not told again
    assert "Finished stages were made with" not in capfd.readouterr().err


def test_they_are_gone_on_from_where_that_is_accepted(small, tiny, monkeypatch):
    before = stages(small)
    other_version(monkeypatch, "keras")
    argv = ["--data", str(tiny), "--results", str(small), *SMALL, "--accept-versions"]
    assert main(argv) == 0 and stages(small) == before
    stage = json.loads((small / "manifest.json").read_text())["stages"]["alone-student"]
    assert stage["made_with"]["keras"] != "99.0"  # the manifest says which version made what


def test_stages_of_an_earlier_kdtf_are_told_and_not_used(small, tiny, capfd):
    (note,) = (small / "work").glob(f"alone-student-{'[0-9a-f]' * 16}/stage.json")
    old = json.loads(note.read_text())
    old = {k: old[k] for k in ("settings", "seconds", "sha256")}  # as 0.1.0 wrote them
    earlier = small / "work" / "alone-student-0123456789abcdef"
    note.parent.rename(earlier)
    (earlier / "stage.json").write_text(json.dumps(old))
    assert main(["status", "--results", str(small)]) == 0
    out = capfd.readouterr().out
    assert "of an earlier kdtf, not used; --fresh removes it" in out
    assert main(["--data", str(tiny), "--results", str(small), *SMALL]) == 0
    assert "work/ holds stages of an earlier kdtf, which are not used" in capfd.readouterr().err
    assert note.exists()  # made again under its own key
