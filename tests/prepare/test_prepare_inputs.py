"""Input that never ends or cannot be read: named in a line, at once."""

import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder
from sources import noise, read, refused, run, save, tree

from kdtf.errors import UserError
from kdtf.prepare import groups, importer, listing
from kdtf.prepare.name_search import SECONDS, Endless, groups_of

ENDLESS = r"^(a+)+$"  # doubles its steps with every letter
NAMES = ["p12_x.png", "none", "röntgen p7.png", os.fsdecode(b"p3\xff.png"), "zwei\np4"]


@pytest.mark.parametrize("pattern", [r"p(\d+)", r"p\d", r"(x)?p\d", r"", "Ä|ö"])
def test_groups_are_those_that_re_finds(pattern):
    regex = re.compile(pattern)
    matches = [regex.search(name) for name in NAMES]
    wanted = [match and match[1 if regex.groups else 0] for match in matches]
    assert groups_of(pattern, NAMES) == wanted and groups_of(pattern, []) == []


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_search_that_does_not_end_is_stopped(in_thread):
    """In any thread: a limit by a signal would hold in the main one alone."""
    errors = []

    def search():
        try:
            groups_of(ENDLESS, ["aaa", "a" * 60 + "!", "a"], seconds=0.2)
        except Endless as error:
            errors.append(error.name)

    begun = time.monotonic()
    if in_thread:
        thread = threading.Thread(target=search)
        thread.start()
        thread.join()
    else:
        search()
    assert errors == ["a" * 60 + "!"] and time.monotonic() - begun < 30


def test_many_quick_names_have_each_its_own_time():
    """The limit is a name's, not that of all: so many are searched that they take longer together."""
    name, begun = "a" * 15 + "!", time.monotonic()
    re.search(ENDLESS, name)
    names = [name] * (1 + round(1.4 / (time.monotonic() - begun)))
    assert groups_of(ENDLESS, names, seconds=1.0) == [None] * len(names)


def test_a_pattern_that_does_not_end_names_the_file(source, out, monkeypatch):
    monkeypatch.setattr(groups, "groups_of", lambda pattern, names: groups_of(pattern, names, 0.2))
    save(source / "train/a" / f"{'a' * 40}.png", noise(1))
    message = (
        f"--group-regex must be found or not found in a file name within {SECONDS:g} seconds. Got '^(a+)+$', "
        f"which took longer for '{'a' * 40}.png'. A repeat within a repeat, as in (a+)+, is what takes so "
        "long."
    )
    with pytest.raises(UserError) as caught:
        run(source, out, group_regex=ENDLESS)
    assert str(caught.value) == message and not out.exists()


# Pipes and devices


def pipe(path):
    os.mkfifo(path)
    return path


def device(path):
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("stream, kind", [(pipe, "a pipe"), (device, "a device")])
def test_pipes_and_devices_are_refused(tmp_path, stream, kind):
    source, out = tree(tmp_path / "in"), tmp_path / "out"
    hint = f"It is {kind}: write what it gives to a file."
    archive, table = stream(tmp_path / "a.npz"), stream(tmp_path / "g.csv")
    for place, message, settings in (
        (archive, f"the source must be a file that ends. Got {str(archive)!r}. {hint}", {}),
        (source, f"--groups must be a file that ends. Got {str(table)!r}. {hint}", {"groups": str(table)}),
        (source, "--unlabelled must be a folder of images. Got", {"unlabelled": str(table)}),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            run(place, out, **settings)
    with pytest.raises(UserError, match=r"--out must be a folder\. Got"):
        run(source, table)
    out.mkdir()
    stream(out / "provenance.json")
    with pytest.raises(UserError, match=r"with those of an earlier prepare\. Got .*provenance\.json"):
        run(source, out)


def test_pipes_and_devices_among_images_are_left_out(source, out, tmp_path):
    pipe(source / "train/a/pipe.png")
    pipe(source / "train/a/1.2.840")  # by its name it may be a DICOM file
    device(source / "test/b/zero.jpg")
    pipe(tmp_path / "p.png")
    (source / "test/b/link.png").symlink_to(source / "train/a/pipe.png")
    recorder = Recorder()
    assert run(source, out, recorder).counts == {"train": 6, "val": 6, "test": 6}
    assert recorder.said == ["Files left out: 4 (1 links that lead outside or in circles, 3 of other kinds)."]


def test_an_output_that_is_a_link_to_itself(source, out):
    out.symlink_to(out)
    with pytest.raises(UserError, match=r"--out must be a folder\. Got"):
        run(source, out)


# What may not be read. The tests may run as root, who may read anything: the system is asked to refuse


def denied(path):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_folder_that_may_not_be_read_is_named(source, out, monkeypatch):
    scandir, closed = os.scandir, ["b"]

    def refuse(place):  # a descriptor is one of the folder that is written
        return denied(place) if isinstance(place, Path) and place.name in closed else scandir(place)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    message = rf"^the source must be readable\. Got '{source}/(train|val|test)/b' \(Permission denied\)\.$"
    with pytest.raises(UserError, match=message):
        run(source, out)
    unlabelled, closed[0] = tree(out.parent / "more", ("",), ("b",)), "more"
    with pytest.raises(UserError, match=rf"^--unlabelled must be readable\. Got '{unlabelled}' \(Perm"):
        run(source, out, unlabelled=str(unlabelled))
    assert not out.exists()


def test_an_archive_that_may_not_be_read_is_named(tmp_path, out, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(3))
    monkeypatch.setattr("kdtf.prepare.archive.file_digest", denied)
    with pytest.raises(UserError, match=rf"^the source must be readable\. Got '{path}' \(Permission denied"):
        run(path, out)


def test_an_image_whose_disk_fails_is_skipped_with_the_reason(source, out, monkeypatch):
    digest = importer.file_digest

    def failing(path):
        if path.match("train/a/0.png"):
            raise OSError(5, "Input/output error")
        return digest(path)

    monkeypatch.setattr("kdtf.prepare.formats.file_digest", failing)
    recorder = Recorder()
    assert run(source, out, recorder).skipped == 1 and len(read(out, "X_train")) == 5
    assert recorder.said == ["Skipped 'train/a/0.png': Input/output error."]


def test_a_note_of_an_earlier_import_that_may_not_be_read(source, out, monkeypatch):
    run(source, out)
    monkeypatch.setattr("kdtf.prepare.output.Path.read_bytes", denied)
    refused_note = rf"^{out}/provenance\.json must be readable\. Got: Permission denied\.$"
    with pytest.raises(UserError, match=refused_note):
        run(source, out)


def test_where_the_writing_fails_it_is_the_output_that_is_named(source, out, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "/somewhere/.prepare-x")

    monkeypatch.setattr("kdtf.prepare.write.ArrayStream.append", full)
    refused(
        source, out, f"--out must be on a disk with room left. Got {str(out)!r} (No space left on device)."
    )
