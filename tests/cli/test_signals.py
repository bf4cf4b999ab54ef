"""A signal ends a command wherever it arrives."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdtf.cli import entry

ROOT = Path(__file__).parents[2]
COMMAND = """
import signal, time, weakref
import kdtf.cli
from kdtf.__main__ import run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it

class Owner:
    pass

def command():
    owner = Owner()
    kept = weakref.ref(owner, lambda _: signal.raise_signal(signal.{name}))
    del owner  # an exception in the callback goes nowhere
    time.sleep(20)
    return 0

kdtf.cli.main = command
raise SystemExit(run())
"""


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_in_the_callback_of_a_weak_reference_is_not_lost(name, code):
    command = [sys.executable, "-c", COMMAND.format(name=name)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (code, "")


@pytest.mark.parametrize(
    "signal, code", [(SystemExit(143), 143), (KeyboardInterrupt(), 130), (KeyError(), None)]
)
def test_a_signal_that_a_library_turns_into_an_error_is_still_one(signal, code, monkeypatch, capsys):
    def command(argv):
        try:
            raise signal
        except BaseException:
            raise TypeError("no maximum") from None

    monkeypatch.setitem(entry.COMMANDS, "bench", command)
    if code is None:
        with pytest.raises(TypeError, match="no maximum"):
            entry.main(["bench"])
        return
    assert entry.main(["bench"]) == code
    assert capsys.readouterr().err.startswith("Interrupted. ")


def test_other_exceptions_that_python_drops_are_still_told():
    code = COMMAND.replace("signal.raise_signal(signal.{name})", "1 / 0").replace("time.sleep(20)", "pass")
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0 and "ZeroDivisionError" in process.stderr
