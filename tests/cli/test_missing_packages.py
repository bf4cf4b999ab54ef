"""A package that is not installed is named in one line, and by a run before it has done anything."""

import sys

import pytest

from kdtf.cli.entry import main

HINT = "`pip install .` where kdtf lies installs all that it needs.\n"


@pytest.mark.parametrize(
    "module, package",
    [("seaborn", "seaborn"), ("PIL", "pillow"), ("jinja2", "jinja2"), ("ai_edge_litert", "ai-edge-litert")],
)
def test_a_run_asks_for_all_packages_first(module, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)  # as Python has what cannot be imported
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "nowhere"]) == 2
    rule = f"Error: The Python package {package} must be installed. Got 'nothing of that name'. "
    assert capsys.readouterr().err == rule + HINT and list(tmp_path.iterdir()) == []


def test_another_command_says_which_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "t.csv").write_text("findings,impression,label\n")
    assert main(["reports", str(tmp_path / "t.csv")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: The Python package pandas must be installed. It cannot be imported (")
    assert error.endswith(HINT) and error.count("\n") == 1
