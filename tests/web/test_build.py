"""The page that runs students in a browser: made whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest
from page_parts import MODULES, WEB, needs_litert

from kdtf.cli.entry import main
from kdtf.web.build import LITERT, LITERT_VERSION, build, names, node_modules


def refused(capsys, *argv):
    assert main(["page", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.with_suffix(".json").unlink(), "A bundle must be a .tflite and a .json file."),
        (lambda f: f.write_bytes(b"x" + f.read_bytes()), "must be the file its .json was written for"),
        (lambda f: edit(f, classes=["a"]), "must have the input and classes its .json states."),
        (lambda f: edit(f, temperature=0), "must describe a kdtf student. It does not."),
        (lambda f: edit(f, thresholds={"a": 2}), "thresholds must be between 0 and 1, by class."),
        (lambda f: edit(f, thresholds=[1]), "must describe a kdtf student. It does not."),
        (lambda f: edit(f, test={"auc": None}), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, test={"auc": [None, 0, 1]}), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, test={"auc": [0.5]}), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, bytes=10**400), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, limits="none"), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, made_by=[]), "must be a card as kdtf wrote it. It is not."),
        (lambda f: edit(f, recipe=None), "must be a card as kdtf wrote it. It is not."),
    ],
)
def test_a_bad_bundle_is_told_and_leaves_nothing(colour, tmp_path, capsys, change, text):
    for file in colour.glob("rgb_int8.*"):
        shutil.copy(file, tmp_path)
    change(tmp_path / "rgb_int8.tflite")
    assert text in refused(capsys, tmp_path / "rgb_int8.tflite", "--out", tmp_path / "page")
    assert {p.suffix for p in tmp_path.iterdir()} <= {".tflite", ".json"}


def edit(file, **changes):
    path = file.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_else_cannot_be_used_is_told(colour, tmp_path, capsys):
    bundle, out = colour / "rgb_int8.tflite", tmp_path / "page"
    assert "A bundle must be a .tflite file with its .json" in refused(
        capsys, bundle.with_suffix(".json"), "--out", out
    )
    assert "Got one of them twice." in refused(capsys, bundle, bundle, "--out", out)
    assert "--out" in refused(capsys, bundle)
    assert not any(tmp_path.iterdir())


def test_where_litert_js_is_missing_the_message_says_how_to_get_it(colour, tmp_path, capsys, monkeypatch):
    """The commands for a checkout and for an installed kdtf, which looks in the working directory."""
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, colour / "rgb_int8.tflite", "--out", tmp_path / "page")
    assert f"LiteRT.js must be in node_modules. Got 'no {next(iter(LITERT))}'." in text
    assert "Run `npm ci` in web/ of the repository once, or `npm install @litertjs/core@" in text
    text = refused(capsys, colour / "rgb_int8.tflite", "--out", tmp_path / "page", "--node-modules", "other")
    assert "LiteRT.js must be in other." in text and not any(tmp_path.iterdir())


def test_node_modules_are_those_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert node_modules() == Path("node_modules")
    (tmp_path / "web" / "node_modules").mkdir(parents=True)
    assert node_modules() == Path("web/node_modules")


def test_one_version_of_litert_js():
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert wanted == {"@litertjs/core": LITERT_VERSION}


@needs_litert
def test_the_page_is_made_from_any_folder_that_npm_installed_into(colour, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    assert main(["page", str(colour / "rgb_int8.tflite"), "--out", "page"]) == 0
    assert all((tmp_path / "page" / target).is_file() for target in LITERT.values())


def test_students_are_called_by_what_tells_them_apart():
    assert names([Path("r/a.tflite"), Path("r/b.tflite")]) == ["a", "b"]
    assert names([Path("r/a.tflite"), Path("s/a.tflite")]) == ["r/a", "s/a"]


@needs_litert
def test_a_page_replaces_an_earlier_page_and_nothing_else(colour, tmp_path, capsys):
    bundle, out = colour / "rgb_int8.tflite", tmp_path / "page"
    for _ in range(2):
        assert main(["page", str(bundle), "--out", str(out), "--node-modules", str(MODULES)]) == 0
    assert "--out must be" not in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["page"]
    (out / "notes.txt").write_text("mine")
    modules = ("--node-modules", MODULES)
    assert "It holds notes.txt." in refused(capsys, bundle, "--out", out, *modules)
    assert (out / "notes.txt").read_text() == "mine" and (out / "index.html").exists()
    assert "It holds page." in refused(capsys, bundle, "--out", tmp_path, *modules)
    assert "--out must be a new folder" in refused(capsys, bundle, "--out", bundle, *modules)


@needs_litert
def test_neither_card_nor_page_tells_a_path(finished, tiny, tmp_path):
    bundle = finished / "mobilenet_Student_int8.tflite"
    text = (build([bundle], tmp_path / "page", MODULES) / "students.json").read_text()
    for content in (text, bundle.with_suffix(".json").read_text()):
        assert str(tiny) not in content and str(finished) not in content
    (entry,) = json.loads(text)["students"]
    assert entry["levels"] == list(range(256)) and entry["card"]["synthetic"] is True
