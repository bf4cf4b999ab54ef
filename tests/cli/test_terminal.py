"""The closing tables, bars and warnings of the console."""

import os
import pty
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdtf.cli.display import Bar, about, clock
from kdtf.cli.terminal import Terminal, one_line, print_summary, print_texts
from kdtf.evidence import metrics
from kdtf.progress import Place

ROOT = Path(__file__).parents[2]
ROW = {"teacher": "alone", "model": "alone", "recipe": "keras", "accuracy": 0.75, "f1": 0.5, "auc": None}
ROW |= {"clean_accuracy": 0.463, "size_kib": 2048.4, "latency_ms": None, "loss": 1.0}
OTHER = {
    **ROW,
    "teacher": "vgg16",
    "model": "distilled",
    "recipe": "int8",
    "auc": 0.9126,
    "clean_accuracy": None,
    "latency_ms": 0.256,
}


def words(text):
    """The words of each line of a table, in its order."""
    return [line.split() for line in text.splitlines()]


def in_a_terminal(code, columns):
    """What some code shows on a terminal: its raw output; stdout and stderr are one there."""
    pid, terminal = pty.fork()
    if not pid:
        for name in ("NO_COLOR", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)
        os.environ |= {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown.decode()
    return shown.decode()


def lines_of(shown):
    """The lines that were ever on the terminal, without the orders between them."""
    return [
        line.rstrip()
        for line in re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
        if line.strip()
    ]


def test_the_summary_has_the_headline_metrics_with_dashes_for_what_is_not_known(capsys):
    print_summary([ROW, OTHER], "None is good.", Path("R"), synthetic=True)
    text = capsys.readouterr().out
    assert "Test scores on a synthetic phantom: not patient data" in text
    header = "teacher model recipe accuracy clean macro F1 AUC KiB ms/image"
    assert header.split() in words(text)
    assert ["alone", "alone", "keras", "0.750", "0.463", "0.500", "-", "2,048", "-"] in words(text)
    assert ["vgg16", "distilled", "int8", "0.750", "-", "0.500", "0.913", "2,048", "0.26"] in words(text)
    assert text.splitlines()[-3].startswith("clean: accuracy on the test images that have no copy")
    assert text.endswith("\nNone is good.\nEverything is in R: start with report.html.\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_summary_fits_a_terminal(columns):
    """Only names of teachers are folded."""
    code = f"""
from pathlib import Path
from kdtf.cli.terminal import print_summary
row = {OTHER!r}
rows = [row | {{"teacher": name}} for name in ("cnn5-unlabelled", "efficientnetlite0-unlabelled")]
print_summary(rows, "It is good.", Path("R"), synthetic=False)
"""
    lines = lines_of(in_a_terminal(code, columns))
    assert max(map(len, lines)) <= columns
    if columns >= 80:
        assert sum(" distilled int8 " in line and line.endswith(" 2,048     0.26") for line in lines) == 2
        assert any(re.match("cnn5-unlabelled +distilled int8", line) for line in lines)


def test_a_new_headline_metric_is_a_row_of_the_table_of_metrics(capsys, monkeypatch):
    kappa = replace(metrics.METRICS["accuracy"], label="kappa", format=".1f")
    monkeypatch.setitem(metrics.METRICS, "kappa", kappa)
    print_summary([{**ROW, "kappa": 0.25}], "It is good.", Path("R"), synthetic=False)
    text = capsys.readouterr().out
    assert words(text)[1][3:9] == ["accuracy", "clean", "macro", "F1", "AUC", "kappa"]
    assert ["0.750", "0.463", "0.500", "-", "0.2", "2,048"] in [row[3:9] for row in words(text)]


def test_the_scores_of_texts_have_their_intervals(capsys):
    names = ("accuracy", "balanced_accuracy", "f1", "auc")
    row = {
        f"{name}{end}": value for name in names for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))
    }
    print_texts([{"model": "naive Bayes", "test_texts": 7, **row}], Path("R"))
    text = capsys.readouterr().out
    assert "Scores on 7 test texts, 95 % interval" in text
    assert ["model", "accuracy", "balanced", "accuracy", "macro", "F1", "AUC"] in words(text)
    assert ["naive", "Bayes", *["0.500"] * 4] in words(text)
    assert ["0.400", "to", "0.600"] * 4 in words(text)


def test_a_warning_is_printed_once_and_kept(capfd):
    terminal = Terminal()
    for _ in range(2):
        terminal.warn("[careful]")
        terminal.say("done")
    assert capfd.readouterr().err == "Warning: [careful]\ndone\ndone\n" and terminal.warnings == ["[careful]"]
    with terminal.bar("counting", 2) as advance:  # no terminal, no bar
        advance(2)
    assert capfd.readouterr() == ("", "")


def test_a_file_has_a_plain_line_a_stage(capfd):
    terminal = Terminal()
    with terminal.stage("audit"), terminal.bar("auditing", 1) as advance:  # made again, for another one
        advance(1)
    with terminal.stage("views", Place(2, 9)):
        pass
    with terminal.stage("vgg16-whole", Place(3, 9, 100.0, 200.0)), terminal.bar("vgg16", 2) as advance:
        advance(1, {"epoch": 1, "loss": 0.5, "val_accuracy": 0.75})
    with pytest.raises(ValueError), terminal.stage("x\x1b[31m", Place(4, 9, 10.0, 20.0)):
        raise ValueError
    lines = ["2 of 9: views", "3 of 9: vgg16-whole, about 5 min left", "4 of 9: x\\x1b[31m, about 30 s left"]
    assert capfd.readouterr().err.splitlines() == lines and terminal.stages == []


LIVE = """
import sys, time
from kdtf.cli.terminal import Terminal
from kdtf.progress import Place
terminal = Terminal()
heard = []
terminal.watchers.append(lambda stage, epoch: heard.append((stage, epoch["epoch"])))
with terminal.working():
    time.sleep(0.6)
    with terminal.display.hidden():
        print("in between")
    terminal.warn("On val the teacher is " + "worse " * 20 + "than the student.")
    with terminal.stage("vgg16-whole", Place(3, 9, 100.0, 200.0)):
        with terminal.bar("vgg16: a name that is far longer than there is room for", 4) as advance:
            for i in range(3):
                time.sleep(0.4)
                advance(i + 1, {"epoch": i + 1, "loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.75})
            time.sleep(0.6)
print("to stdout")
assert heard == [("vgg16-whole", 1), ("vgg16-whole", 2), ("vgg16-whole", 3)], heard
"""


BESIDE = """
import time
from kdtf.cli.terminal import Terminal
from kdtf.progress import Place
terminal = Terminal()
first, second = terminal.beside(), terminal.beside()
with terminal.working(), first.stage("cnn5-whole", Place(3, 9)), first.bar("cnn5", 4) as advance:
    with second.stage("alone-student", Place(4, 9)), second.bar("alone", 4) as other:
        advance(1)
        other(2, {"epoch": 2, "loss": 0.5})
        time.sleep(0.6)
    time.sleep(0.6)  # drawn again
    second.warn("worse")
    time.sleep(0.6)
assert terminal.warnings == ["worse"] and terminal.stages == []
"""


def test_a_terminal_shows_all_that_is_done_side_by_side():
    lines = lines_of(in_a_terminal(BESIDE, 80))
    first = [line.startswith("3 of 9: cnn5-whole, 0:0") for line in lines]
    second = [line.startswith("4 of 9: alone-student, 0:0") for line in lines]
    (warned,) = (i for i, line in enumerate(lines) if line == "Warning: worse")
    assert any(first[:warned]) and any(second[:warned]) and any(first[warned:])
    assert not any(second[warned:]) and "  epoch 2 of 4, loss 0.500" in lines


def test_a_terminal_shows_stage_epoch_scores_and_times():
    lines = lines_of(in_a_terminal(LIVE, 80))
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("starting: 0:00 since the start") for line in lines)
    assert any(
        re.match(r"3 of 9: vgg16-whole, 0:0\d since the start, about 3 min left", line) for line in lines
    )
    assert "  epoch 3 of 4, loss 0.500, val loss 0.250, val accuracy 0.750" in lines
    bars = [line for line in lines if "━" in line]
    assert any(re.search(r"━ +0:0\d elapsed, 0:0\d left$", line) for line in bars), bars
    assert any(re.fullmatch(r"3 of 9: vgg16-whole, \d s", line) for line in lines)
    assert lines[-1] == "to stdout" and lines.count("in between") == 1
    first = next(i for i, line in enumerate(lines) if line.startswith("Warning"))
    warning = " ".join(lines[first : first + 3])  # broken at words, none of them lost
    assert warning.startswith(f"Warning: On val the teacher is {'worse ' * 20}than the student.")


@pytest.mark.parametrize(
    "seconds, words_, digits",
    [(4, "about 10 s", "0:04"), (44, "about 40 s", "0:44"), (100, "about 2 min", "1:40"),
     (5399, "about 90 min", "1:29:59"), (5400, "about 1.5 h", "1:30:00")],
)  # fmt: skip
def test_how_long_in_words_and_in_digits(seconds, words_, digits):
    assert (about(seconds), clock(seconds)) == (words_, digits)


def test_what_is_left_of_a_bar_counts_from_where_it_began(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("kdtf.cli.display.time.monotonic", lambda: now[0])
    bar = Bar("a training that goes on from a checkpoint", 10, started=0.0)
    bar.advance(6)
    assert bar.left() is None
    now[0] = 4.0
    bar.advance(8)
    assert bar.left() == 4.0


def test_what_is_said_and_warned_of_holds_no_escapes(capfd):
    terminal = Terminal()
    terminal.say("class \x1b[31mred\x1b[0m\nError: no")
    terminal.warn("\x1b]0;title\x07")
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["class \\x1b[31mred\\x1b[0m\\nError: no", "Warning: \\x1b]0;title\\x07"]
    assert terminal.warnings == ["\x1b]0;title\x07"]  # as it is, for the report


@pytest.mark.parametrize("text, line", [("a\nb", "a\\nb"), ("ü☃", "ü☃"), ("\x1b[31m", "\\x1b[31m")])
def test_what_cannot_be_printed_is_escaped(text, line):
    assert one_line(text) == line
