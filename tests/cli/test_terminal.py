"""The closing tables, bars and warnings of the console."""

from dataclasses import replace
from pathlib import Path

import pytest

from kdtf.cli.terminal import Terminal, one_line, print_summary, print_texts
from kdtf.evidence import metrics

ROW = {"teacher": "alone", "model": "alone", "recipe": "keras", "accuracy": 0.75, "f1": 0.5, "auc": None}
ROW |= {"size_kib": 2048.4, "latency_ms": None, "loss": 1.0}
OTHER = {
    **ROW,
    "teacher": "vgg16",
    "model": "distilled",
    "recipe": "int8",
    "auc": 0.9126,
    "latency_ms": 0.256,
}


def cells(text):
    """The texts of each line of a table, in its order."""
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in text.splitlines()
    ]


def test_the_summary_has_the_headline_metrics_with_dashes_for_what_is_not_known(capsys):
    print_summary([ROW, OTHER], Path("R"), synthetic=True)
    text = capsys.readouterr().out
    assert "Test scores on a synthetic phantom: not patient data" in text
    assert ["teacher", "model", "recipe", "accuracy", "macro F1", "AUC", "KiB", "ms/image"] in cells(text)
    assert ["alone", "alone", "keras", "0.750", "0.500", "-", "2,048", "-"] in cells(text)
    assert ["vgg16", "distilled", "int8", "0.750", "0.500", "0.913", "2,048", "0.26"] in cells(text)
    assert text.endswith("Everything is in R: start with report.html.\n")


def test_a_new_headline_metric_is_a_row_of_the_table_of_metrics(capsys, monkeypatch):
    kappa = replace(metrics.METRICS["accuracy"], label="kappa", format=".1f")
    monkeypatch.setitem(metrics.METRICS, "kappa", kappa)
    print_summary([{**ROW, "kappa": 0.25}], Path("R"), synthetic=False)
    text = capsys.readouterr().out
    assert cells(text)[2][3:8] == ["accuracy", "macro F1", "AUC", "kappa", "KiB"]
    assert ["0.750", "0.500", "-", "0.2", "2,048"] in [row[3:8] for row in cells(text)]


def test_the_scores_of_texts_have_their_intervals(capsys):
    names = ("accuracy", "balanced_accuracy", "f1", "auc")
    row = {
        f"{name}{end}": value for name in names for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))
    }
    print_texts([{"model": "naive Bayes", "test_texts": 7, **row}], Path("R"))
    text = capsys.readouterr().out
    assert "Scores on 7 test texts, 95 % interval" in text
    assert ["model", "accuracy", "balanced accuracy", "macro F1", "AUC"] in cells(text)
    assert ["naive Bayes", *["0.500"] * 4] in cells(text) and ["", *["0.400 to 0.600"] * 4] in cells(text)


def test_a_warning_is_printed_once_and_kept(capfd):
    terminal = Terminal()
    for _ in range(2):
        terminal.warn("[careful]")
        terminal.say("done")
    assert capfd.readouterr().err == "Warning: [careful]\ndone\ndone\n" and terminal.warnings == ["[careful]"]
    with terminal.bar("counting", 2) as advance:  # no terminal, no bar
        advance(2)
    assert capfd.readouterr() == ("", "")


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
