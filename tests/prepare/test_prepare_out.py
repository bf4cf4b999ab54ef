"""The folder that takes the arrays: whole or nothing, and nobody else's."""

import json
import os

import pytest
from sources import content, refused, run, tree

from kdtf.data.provenance import MADE_BY
from kdtf.errors import UserError
from kdtf.prepare import output
from kdtf.prepare.write import Writer


def test_an_earlier_import_is_replaced_and_other_files_stay(source, out, tmp_path):
    out.mkdir()
    (out / "README.md").write_text("mine")
    run(source, out, teacher_size=16, group_regex=r"\d")
    assert (out / "teacher/X_val.npy").exists() and (out / "groups_val.npy").exists()
    second = tree(tmp_path / "second", ("train", "test"))
    run(second, out)
    run(second, tmp_path / "fresh")
    assert content(out) == {**content(tmp_path / "fresh"), (out / "README.md").relative_to(out): b"mine"}


FOREIGN = [
    "X_train.npy",
    "y_test.npy",
    "groups_val.npy",
    "teacher/X_test.npy",
    "SYNTHETIC.txt",
    "classes.txt",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_arrays_of_others_are_not_replaced(source, out, name):
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"precious")
    message = f"--out must be a folder without arrays, or with those of an earlier prepare. Got *{name}"
    refused(source, out, message)
    (out / "provenance.json").write_text('{"made_by": "somebody", "sha256": {}}')
    refused(source, out, message)
    (out / "provenance.json").write_text(json.dumps({"made_by": MADE_BY, "sha256": {"y_val.npy": ""}}))
    refused(source, out, message)


@pytest.mark.parametrize("place", ["in", "in/made", "in/train/a/deep", "."])
def test_source_and_out_lie_apart(source, tmp_path, place):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UserError, match="--out must be outside the source, and the source outside --out"):
        run(source, tmp_path / "link" / place)
    assert not (source / "made").exists()


def test_out_is_a_file_or_below_one(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(source, tmp_path / "file", "--out must be a folder. Got")
    refused(source, tmp_path / "file/below", "--out must be a folder. Got")


def test_out_that_may_not_be_written_to(source, out, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output.tempfile, "mkdtemp", refuse)
    refused(source, out, "--out must be writable. Got * (Permission denied).")


FAULTS = {
    "full": (OSError(28, "No space left on device"), UserError, "--out must be on a disk with room left"),
    "other": (OSError(9, "Bad file descriptor"), OSError, "Bad file descriptor"),
    "stopped": (KeyboardInterrupt(), KeyboardInterrupt, None),
}


@pytest.mark.parametrize("before", ["absent", "made"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["writing", "moving"])
def test_a_fault_midway_leaves_out_as_it_was(source, tmp_path, monkeypatch, before, fault, where):
    out = tmp_path / "new/out"
    if before == "made":
        run(source, out, teacher_size=16)
        (out / "README.md").write_text("mine")
    was, calls, (error, kind, message) = content(tmp_path), [], FAULTS[fault]

    def failing(do, at):
        def call(*args):
            calls.append(args)
            if len(calls) == at:
                raise error
            return do(*args)

        return call

    if where == "writing":
        monkeypatch.setattr(Writer, "_write_rest", failing(Writer._write_rest, 2))
    else:
        monkeypatch.setattr(os, "replace", failing(os.replace, 7))
    with pytest.raises(kind, match=message):
        run(source, out, group_regex=r"\d", grey=True)
    assert len(calls) >= 2 and content(tmp_path) == was
