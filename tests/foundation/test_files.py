import errno
import os

import pytest

from kdtf.errors import UserError
from kdtf.files import PART, aside, disk_errors, file_digest, make_room, replace_folder, written_aside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_the_folders_above_it(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with written_aside(path) as file:
        file.write(b"whole")
        assert not path.exists() and len(names(path.parent)) == 1
    assert path.read_bytes() == b"whole" and names(path.parent) == ["c.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(error), written_aside(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.txt"]


def test_what_does_not_reach_the_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), written_aside(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with written_aside(path) as first, written_aside(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first" and names(tmp_path) == ["a.txt"]  # the last one renamed


def test_names_aside_are_hidden_and_nobody_elses(tmp_path):
    path = tmp_path / "a.txt"
    chosen = {aside(path) for _ in range(1000)}
    assert len(chosen) == 1000 and {other.parent for other in chosen} == {tmp_path}
    assert all(other.name.startswith(".a.txt.") and other.name.endswith(PART) for other in chosen)
    assert all(f"-{os.getpid()}-" in other.name for other in chosen)


def folder(path, text):
    path.mkdir()
    (path / "a.txt").write_text(text)
    return path


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = folder(tmp_path / "target", "old")
    replace_folder(folder(tmp_path / "first", "new"), target)
    assert (target / "a.txt").read_text() == "new" and names(tmp_path) == ["target"]
    replace_folder(folder(tmp_path / "second", "other"), tmp_path / "fresh")
    assert names(tmp_path) == ["fresh", "target"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_where_that_fails_the_old_folder_stays(tmp_path, monkeypatch, error):
    target, complete, rename = folder(tmp_path / "target", "old"), folder(tmp_path / "new", "new"), os.replace

    def failing(source, goal):
        if source == complete:
            raise error
        rename(source, goal)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(error):
        replace_folder(complete, target)
    assert (target / "a.txt").read_text() == "old" and names(tmp_path) == ["new", "target"]


@pytest.mark.parametrize(
    "number, rule",
    [
        (errno.ENOSPC, "on a disk with room left"),
        (errno.EDQUOT, "on a disk with room left"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "writable"),
        (errno.ENOTDIR, "a folder"),
    ],
)
def test_what_the_disk_says_is_put_in_words(number, rule):
    with pytest.raises(UserError, match=f"^--results must be {rule}. Got 'R'"), disk_errors("R"):
        raise OSError(number, os.strerror(number))
    with (
        pytest.raises(UserError, match=r"^--out must be .*\)\. Again\.$"),
        disk_errors("R", "--out", "Again."),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_pass():
    with pytest.raises(OSError, match="Bad file"), disk_errors("Results"):
        raise OSError(errno.EBADF, "Bad file descriptor")


def test_room_is_asked_for_before_a_library_needs_it(tmp_path):
    make_room(tmp_path, 1)
    with pytest.raises(OSError, match="No space left"):
        make_room(tmp_path, 2**60)


def test_a_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")
