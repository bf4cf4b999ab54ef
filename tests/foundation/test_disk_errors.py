"""What a disk refuses in one line, about the file or folder that it refused; what never ends is not read."""

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdtf.errors import UserError
from kdtf.files import ASIDE, aside, discard, disk_errors, is_left, require_file
from kdtf.store import Store

HOUR = 3600


def refused(number, *names):
    """The error of an operating system about some files."""
    error = OSError(number, os.strerror(number), *names[:1])
    if len(names) > 1:
        error.filename2 = names[1]
    return error


@pytest.mark.parametrize(
    "number, rule",
    [
        (errno.ENOSPC, "on a disk with room left"),
        (errno.EACCES, "writable"),
        (errno.ENOTDIR, "a folder"),
        (errno.EISDIR, "free of folders that bear the name of a file"),
        (errno.ELOOP, "a path whose links lead somewhere"),
        (errno.ENOENT, "in a folder that exists"),
        (errno.ENAMETOOLONG, "a shorter path"),
        (errno.EIO, "on a disk that works"),
    ],
)
def test_what_is_written_to_is_blamed_for_what_lies_in_it(number, rule, tmp_path):
    inner = tmp_path / "work" / "a.npy"
    with pytest.raises(UserError) as told, disk_errors(tmp_path):
        raise refused(number, str(inner))
    assert str(told.value).startswith(
        f"--results must be {rule}. Got {str(tmp_path)!r} ({os.strerror(number)}: {inner})."
    )


def test_a_file_that_could_not_be_read_is_named_itself(tmp_path):
    results, file = tmp_path / "results", tmp_path / "data" / "X_train.npy"
    with pytest.raises(UserError) as told, disk_errors(results):
        raise refused(errno.EACCES, str(file))
    assert str(told.value) == f"{file} must be readable. It is not (Permission denied)."
    text = r"tmp must be on a disk with room left\. It is not \(No space left"
    with pytest.raises(UserError, match=text), disk_errors(results):
        raise refused(errno.ENOSPC, str(tmp_path / "tmp"))


def test_what_is_on_its_way_to_the_place_is_the_place(tmp_path):
    """The folder above it, which is made first; its part; and of a rename the name that was to be given."""
    out = tmp_path / "a" / "site"
    for names in ((str(tmp_path),), (str(aside(out)),), (f"{out}.17.part",), (str(aside(out)), str(out))):
        with pytest.raises(UserError, match=r"^--out must be writable\. Got "), disk_errors(out, "--out", ""):
            raise refused(errno.EACCES, *names)
    text = r"\(Is a directory: summary\.csv\)\.$"
    with pytest.raises(UserError, match=text), disk_errors(out, "--out", ""):
        raise refused(errno.EISDIR, str(aside(out)), "summary.csv")


def test_a_neighbour_of_the_place_is_not_the_place(tmp_path):
    out = tmp_path / "out.csv"
    for neighbour in (
        tmp_path / "image.png",
        tmp_path / "out.csv.png",
        tmp_path / ".other.h-1-01234567.part",
    ):
        with pytest.raises(UserError, match="must be readable"), disk_errors(out, "--csv", ""):
            raise refused(errno.EACCES, str(neighbour))


def test_links_lead_to_the_place(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "r").symlink_to("disk")
    for name in (tmp_path / "disk" / "a", tmp_path / "r" / "a"):
        with pytest.raises(UserError, match=r"^--results must be writable"), disk_errors(tmp_path / "r"):
            raise refused(errno.EACCES, str(name))


def test_other_errors_are_left_as_they_are(tmp_path):
    for error in (BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("of a library, without a number")):
        with pytest.raises(OSError) as raised, disk_errors(tmp_path):
            raise error
        assert raised.value is error


def test_a_results_folder_that_cannot_be_is_told(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").mkdir()
    for place, reason in (("loop", "File exists"), ("n" * 300, "File name too long")):
        with pytest.raises(UserError, match=reason):
            Store(tmp_path / place)
    (tmp_path / "r" / "t.csv").mkdir(parents=True)
    with pytest.raises(UserError, match=r"free of folders .* \(Is a directory: .*t\.csv\)"):
        Store(tmp_path / "r").write("t.csv", "a\n")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(
        UserError, match=r"--results must be in a folder that exists\. Got 'r' \(No such file"
    ):
        Store("r")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"^--results must be writable\. Got .* \(Permission denied"):
        Store(tmp_path / "r")
    tmp_path.chmod(0o700)


# what never ends


def test_pipes_sockets_and_devices_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket")
    kinds = {"pipe": "a pipe", "link": "a pipe", "socket": "a socket", "/dev/zero": "a device"}
    for path, kind in kinds.items():
        with pytest.raises(
            UserError, match=f"^--data must be a file that ends. Got '{path}'. It is {kind}: "
        ):
            require_file(path, "--data")
    listening.close()
    Path("file").write_text("")
    for path in ("file", ".", "nothing there", "n" * 5000, "pipe/inside"):
        require_file(path, "--data")


# what is left


def test_what_a_dead_process_wrote_aside_is_left(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = aside(tmp_path / "t.csv")
    match = ASIDE.fullmatch(own.name)
    assert match and match["pid"] == str(os.getpid())
    dead = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    far = own.with_name(own.name.replace(match["host"], "elsewhere"))
    for path in (own, dead, far):
        path.write_text("")
    assert [is_left(path, HOUR) for path in (own, dead, far)] == [False, True, False]
    old = time.time() - 2 * HOUR
    os.utime(own, (old, old))
    os.utime(far, (old, old))
    assert [is_left(path, HOUR) for path in (own, far)] == [False, True]
    for name in (".hidden.part", "t.csv.part", ".t.csv.somebody-else.part", "t.csv"):
        assert not is_left(tmp_path / name, 0)


def test_discarding_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "a").write_text("mine")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(tmp_path / "folder")
    for name in ("link", "other", "nothing"):
        discard(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "inner" / "a").read_text() == "mine"
