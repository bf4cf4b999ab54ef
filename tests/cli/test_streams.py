"""Stdin, stdout and stderr that are closed, full or unread: an exit code that says so, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdtf.cli.entry import main
from kdtf.cli.streams import Stream, new_terminal, silence

ROOT = Path(__file__).parents[2]
REFUSED = "Error: stdout must be writable. It is not (No space left on device).\n"


def run(redirections, *argv):
    """`python main.py ...` in a shell, with redirections of the three streams."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, str(ROOT / "main.py"), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "redirections, argv, code, error",
    [
        (">/dev/full", ["--version"], 2, REFUSED),
        (">/dev/full", ["status"], 2, REFUSED),
        (">/dev/full 2>/dev/full", ["status"], 2, ""),
        ("2>/dev/full", ["--bogus"], 2, ""),
        ("2>&-", ["--bogus"], 2, ""),
        (">&-", ["status"], 0, ""),
        ("<&- >&- 2>&-", ["status"], 0, ""),
    ],
)
def test_a_stream_that_takes_nothing(redirections, argv, code, error, tmp_path):
    done = run(redirections, *argv, *(["--results", str(tmp_path)] if argv == ["status"] else []))
    assert (done.returncode, done.stderr) == (code, error)


def test_a_closed_stream_is_not_the_number_of_a_file(tmp_path):
    """Else TensorFlow's notes on descriptor 2 would be written into it."""
    code = "import os, sys; from kdtf.cli.streams import standard_streams\nfor n in range(3): os.close(n)\n"
    code += (
        "with standard_streams(): number = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\nos._exit(number)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "file")]
    assert subprocess.run(argv, cwd=ROOT, timeout=60).returncode > 2


def test_notes_that_stderr_cannot_take_are_lost_and_nothing_else():
    with open("/dev/full", "w") as full:
        notes = Stream(full, silence)
        notes.write("a note")
        notes.flush()  # is refused, and led to nowhere
        assert os.fstat(full.fileno()).st_rdev == os.stat(os.devnull).st_rdev
        notes.writelines(["and ", "another"])
        notes.flush()


def test_the_terminal_says_its_notes_to_such_a_stream():
    terminal = new_terminal()
    notes = terminal.console.file
    assert isinstance(notes, Stream) and notes.failed is silence and not terminal.console.is_terminal
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), notes.fileno())
    terminal.say("a note")
    terminal.warn("a warning")
    assert terminal.warnings == ["a warning"]


def test_characters_that_stdout_does_not_know_are_escaped(tmp_path, monkeypatch, capsys):
    with open(tmp_path / "out", "w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["status", "--results", str(tmp_path / "ü")]) == 0
        assert sys.stdout is out  # as it was before
    assert (tmp_path / "out").read_text().startswith(f"{tmp_path}/\\xfc: 0 finished stages")
    assert capsys.readouterr().err == ""
