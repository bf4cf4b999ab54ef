"""What each command says of itself: its name as it was called, the settings it uses, lists of names."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kdtf.cli.arguments import PRESETS, preset_line, preset_names
from kdtf.cli.commands import COMMANDS
from kdtf.cli.entry import main
from kdtf.cli.run import RUN_COMMANDS
from kdtf.config import Config, DataConfig
from kdtf.prepare.fetch import INSTRUCTIONS, SOURCES
from kdtf.sections import flag

ROOT = Path(__file__).parents[2]
FLAGS = {flag(f.name) for section in fields(Config) for f in fields(getattr(Config(), section.name))}


def output_of(capsys, *argv):
    """What a command prints that ends well."""
    assert main(list(argv)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def listed(text):
    """The flags of a run that a help text lists."""
    words = {word.rstrip(",") for line in text.splitlines() for word in line.split()[:2]}
    return words & FLAGS


@pytest.mark.parametrize("command", ["", *RUN_COMMANDS, *COMMANDS])
@pytest.mark.parametrize(
    "program, name",
    [("/somewhere/main.py", "main.py"), ("kdtf/__main__.py", "python -m kdtf"), ("/bin/kdtf", "kdtf")],
)
def test_every_command_calls_itself_as_it_was_called(command, program, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program])
    text = output_of(capsys, *([command] if command else []), "--help")
    assert text.startswith(f"usage: {f'{name} {command}'.strip()} ") and text.count("usage:") == 1
    assert "main.py" not in text.splitlines()[0].replace(name, "", 1)


@pytest.mark.parametrize(
    "argv, name",
    [(["main.py"], "main.py"), (["-m", "kdtf"], "python -m kdtf"), (["{scripts}/kdtf"], "kdtf")],
)
def test_the_ways_to_call_it(argv, name, tmp_path):
    """From source, as a module, and as pip's script does."""
    (tmp_path / "kdtf").write_text("import sys\nfrom kdtf.__main__ import run\nsys.exit(run())\n")
    argv = [part.format(scripts=tmp_path) for part in argv]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *argv, "status", "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    usage = f"usage: {name} status [--results DIR] [--verify]\n"
    assert done.returncode == 0 and done.stdout.startswith(usage)


def test_the_run_lists_every_setting_and_every_command(capsys):
    text = output_of(capsys, "--help")
    assert listed(text) == FLAGS
    assert f"[{' | '.join([*RUN_COMMANDS, *COMMANDS])}] [settings]" in text.splitlines()[0]
    assert all(f"'{command}'" in text for command in [*RUN_COMMANDS, *COMMANDS])


def test_status_report_and_audit_list_the_settings_they_use(capsys):
    for command, own in {"status": {"--results", "--verify"}, "report": {"--results"}}.items():
        assert listed(text := output_of(capsys, command, "--help")) == own and "--demo" not in text
    text = output_of(capsys, "audit", "--help")
    data = {flag(f.name) for f in fields(DataConfig)}
    assert listed(text) == {*data, "--results", "--seed", "--accept-versions", "--verify"}
    assert all(name in text for name in ("--preset", "--config")) and "--version " not in text


def test_status_takes_the_command_line_of_a_run(tmp_path, capsys):
    run = ["--preset", "imagewoof", "--alpha", "0.3", "--teachers", "vgg16", "--no-flip", "--fresh"]
    text = output_of(capsys, "status", *run, "--results", str(tmp_path))
    assert text == f"{tmp_path}: 0 finished stages, 0 to be made.\n"
    assert output_of(capsys, *run, "--results", str(tmp_path), "--status") == text
    assert main(["status", "--alpha", "7"]) == 2 and "--alpha must be between" in capsys.readouterr().err


def test_status_counts_stages_of_an_earlier_kdtf_apart(tmp_path, capsys):
    """Nothing makes them again: a run goes past them."""
    ours = {"kind": "views", **{part: {} for part in ("settings", "inputs", "made_with", "environment")}}
    for name, note in (("a", ours), ("b", {}), ("c", None)):
        folder = tmp_path / "work" / f"{name}-{name * 16}"
        folder.mkdir(parents=True)
        if note is not None:
            (folder / "stage.json").write_text(json.dumps({**note, "seconds": 1.0, "sha256": {}}))
    lines = output_of(capsys, "status", "--results", str(tmp_path)).splitlines()
    assert lines[-1] == f"{tmp_path}: 1 finished stage, 1 to be made, 1 of an earlier kdtf."
    assert sum("of an earlier kdtf, not used" in line for line in lines) == 1


def test_presets_are_listed_a_line_each(capsys):
    lines = output_of(capsys, "--preset", "list").splitlines()
    assert [line.split()[0] for line in lines] == preset_names() and "demo" not in preset_names()
    for line, name in zip(lines, preset_names(), strict=True):
        assert line.endswith(f" {preset_line(name)}") and len(preset_line(name)) > 40
        assert preset_line(name)[:40] in (PRESETS / f"{name}.toml").read_text()


def test_data_sets_are_listed_a_line_each(capsys):
    lines = output_of(capsys, "fetch", "list").splitlines()
    assert [line.split()[0] for line in lines] == [*SOURCES, *INSTRUCTIONS]
    assert "CC BY 4.0" in lines[0] and "behind an account" in lines[-1]


def test_the_demo_and_a_preset_exclude_each_other(capsys):
    for argv in (["--demo", "--preset", "imagewoof"], ["audit", "--preset", "imagewoof", "--demo"]):
        assert main(argv) == 2
        printed = capsys.readouterr()
        expected = "--demo must be given without --preset. Got 'imagewoof'. Choose one of the two."
        assert printed.err == f"Error: {expected}\n" and printed.out == ""


@pytest.mark.parametrize(
    "argv", [["predict"], ["--teachers"], ["fetch"], ["page", "s.tflite"], ["status", "x"]]
)
def test_what_cannot_be_parsed_is_one_line(argv, capsys):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("Error: ") and printed.err.endswith(" See --help.\n")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [*([*filter(None, [name]), "--help"] for name in ("", *RUN_COMMANDS, *COMMANDS)),
     ["--preset", "list"], ["fetch", "list"], ["status"]],
    ids=" ".join,
)  # fmt: skip
def test_nothing_is_wider_than_a_terminal_of_80_columns(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Results/work" / f"cnn5-unlabelled-student-evaluation-{'a' * 16}"
    folder.mkdir(parents=True)
    note = {"kind": "x", "seconds": 12345.6, "sha256": {}, "made_with": {}, "environment": {}}
    (folder / "stage.json").write_text(json.dumps({**note, "settings": {}, "inputs": {}}))
    for module in ("terminal", "arguments"):
        monkeypatch.setattr(f"kdtf.cli.{module}.columns_of", lambda stream: 80)
    lines = output_of(capsys, *argv).splitlines()
    assert lines and [line for line in lines if len(line) > 80] == []
