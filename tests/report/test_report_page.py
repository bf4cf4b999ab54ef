"""report.html: made again without TensorFlow, self-contained, and working in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kdtf.errors import UserError
from kdtf.report import page as pages
from kdtf.report.page import render

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(results):
    return render(results)


@pytest.fixture
def copied(results, tmp_path):
    """A copy of the results folder to change, and a function that changes its manifest."""
    folder = tmp_path / "r"
    shutil.copytree(results, folder, ignore=shutil.ignore_patterns("work"))

    def change(**changes) -> Path:
        manifest = json.loads((folder / "manifest.json").read_text())
        values = {name: value for name, value in {**manifest, **changes}.items() if value is not None}
        (folder / "manifest.json").write_text(json.dumps(values))
        return folder

    return change


def test_it_opens_with_the_answer(page):
    assert page.index("Ship ") < page.index("95 % interval")
    assert "research only, not a medical device" in page
    assert "Mind this." in page


def test_it_says_first_that_the_images_are_synthetic(copied, page):
    banner = "Every image is a synthetic phantom"
    data = json.loads((copied() / "manifest.json").read_text())["data"]
    synthetic = render(copied(data={**data, "synthetic": True}))
    assert synthetic.index(banner) < synthetic.index("Ship ") and banner not in page


def test_the_student_to_ship_is_the_one_the_manifest_names(page, copied, results):
    assert "Ship vgg16_Student_int8.tflite: the student distilled from vgg16, recipe int8." in page
    alone = {"teacher": "alone", "model": "alone", "recipe": "int8-qat", "seed": 0}
    other = render(copied(ship=alone))
    assert "Ship alone_Student_int8-qat.tflite: the student trained alone, recipe int8-qat." in other
    summary = pd.read_csv(results / "summary.csv")
    (row,) = summary[(summary.teacher == "alone") & (summary.recipe == "int8-qat")].itertuples()
    assert f"<b>{row.accuracy:.3f}</b><span>accuracy on test</span>" in other
    assert f"{100 * row.accuracy:.1f} % of 60 test images right (95 % interval " in other
    assert "of the 54 without a copy in train or val" in other


def test_a_folder_of_before_the_manifest_named_it_is_read_too(copied, monkeypatch):
    choices = []

    def choose(rows):
        choices.append(rows)
        return rows[3]

    monkeypatch.setattr(pages, "file_to_ship", choose)
    assert "Ship alone_Student_int8-qat.tflite" in render(copied(ship=None))
    assert len(choices) == 1 and choices[0][3]["recipe"] == "int8-qat"


def test_what_distilling_gained_over_seeds_is_said_in_words():
    row = {"teacher": "vgg16", "images": "all", "seeds": 3}
    cases = {
        (0.02, 0.01, 0.03): "a gain",
        (-0.02, -0.03, -0.01): "a loss",
        (0.02, -0.01, 0.05): "no evidence",
    }
    for ends, words in cases.items():
        gains = dict(zip(("gain", "gain_low", "gain_high"), ends, strict=True))
        (sentence,) = pages.gains_over_seeds(pd.DataFrame([{**row, **gains}]))
        assert sentence.startswith("Over 3 seeds distilling from vgg16 against training alone: " + words)
        assert f"({100 * ends[0]:+.1f} points on average" in sentence
    assert pages.gains_over_seeds(pd.DataFrame([row])) == []


def test_nothing_is_fetched_and_every_picture_has_words(page, results):
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page) and "url(" not in page
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == len(list(results.glob("*.png")))
    assert all(re.search(r'alt="[^"]{20,}"', p) for p in pictures)


def test_every_model_is_a_row(page, results):
    section = re.search(r'<h2 id="models">.*?</table>', page, re.DOTALL).group()
    heads = re.findall(r'<button type="button">([^<]*)<', section)
    assert heads == [
        *("teacher", "model", "recipe", "accuracy", "without copies", "loss", "macro F1", "AUC", "KiB"),
        *("ms/image", "training, s"),
    ]
    assert section.count("<tr>") == 1 + len(pd.read_csv(results / "summary.csv"))


def test_the_first_rows_of_a_table_are_of_the_first_seed_and_all_are_behind_a_line(page, results):
    section = re.search(r'<h2 id="comparisons">.*?<h2 ', page, re.DOTALL).group()
    first, all_rows = section.split("<details>")
    comparisons = pd.read_csv(results / "comparisons.csv")
    wanted = comparisons[(comparisons.seed == 0) & (comparisons.images == "all")]
    assert first.count("<tr>") == 1 + len(wanted) < all_rows.count("<tr>") == 1 + len(comparisons)
    assert f"All {len(comparisons)} rows" in all_rows


def test_repeated_seeds_have_a_section_and_one_seed_has_none(copied):
    folder = copied()
    assert '<h2 id="seeds">' in render(folder)
    seeds = pd.read_csv(folder / "seeds.csv")
    seeds.assign(seeds=1).to_csv(folder / "seeds.csv", index=False)
    assert '<h2 id="seeds">' not in render(folder)


def test_the_command_gives_the_settings_that_differ_from_the_defaults(page):
    config = {"student": {"epochs": 3}, "data": {"data": "/my data"}, "views": {"flip": False}}
    assert pages.command(config, synthetic=False) == ("python main.py --data '/my data' --no-flip --epochs 3")
    assert pages.command(config, synthetic=True) == "python main.py --no-flip --epochs 3"
    assert "python main.py --data /somewhere/chest --epochs 3" in page


def test_it_is_made_again_without_tensorflow(results, page):
    code = (
        "import sys; from pathlib import Path; from kdtf.report.page import render; "
        f"page = render(Path({str(results)!r})); sys.stdout.buffer.write(page.encode()); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert again.returncode == 0 and again.stdout.decode() == page


def test_a_picture_of_another_program_goes_by_its_name(copied):
    folder = copied()
    shutil.copy(folder / "pareto.png", folder / "mine_confusion_matrix.png")
    assert 'alt="mine_confusion_matrix"' in render(folder)


def test_names_from_files_cannot_become_markup(copied):
    page = render(copied(warnings=["<script>alert(1)</script>"]))
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UserError, match="--results must be the folder of a finished run"):
        render(tmp_path)


def test_the_command_draws_the_page_of_a_finished_run_again(finished, capsys):
    from kdtf.cli.entry import main

    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Every image is a synthetic phantom" in page
    assert main(["report", "--results", str(finished)]) == 0
    assert (finished / "report.html").read_text(encoding="utf-8") == page
    assert "report.html" in capsys.readouterr().out


def test_the_command_tells_of_a_folder_without_a_run(tmp_path, capsys):
    from kdtf.cli.entry import main

    assert main(["report", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("Error: --results must be the folder of a finished run.")


def test_a_browser_draws_it_sorts_it_and_fetches_nothing(finished, browser):
    """Two clicks on the first table's accuracy heading; no error in the console, no request but the page.

    Chromium's own first tab asks for chrome: addresses.
    """
    for log in ("browser", "performance"):
        browser.get_log(log)  # of what came before
    address = (finished / "report.html").resolve().as_uri()
    browser.get(address)
    table = browser.find_element("css selector", "table")
    heads = table.find_elements("css selector", "th button")
    at = [head.text for head in heads].index("accuracy")

    def column():
        cells = table.find_elements("css selector", f"tbody td:nth-child({at + 1})")
        return [float(cell.get_attribute("data-value")) for cell in cells]

    heads[at].click()
    rising = column()
    heads[at].click()
    assert rising == sorted(rising) and column() == sorted(rising, reverse=True) and len(rising) == 11
    assert browser.execute_script(
        "return [...document.images].every(i => i.complete && i.naturalWidth > 100)"
    )
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
    addresses = {request["params"]["request"]["url"] for request in requests}
    assert {url for url in addresses if not url.startswith(("data:", "chrome:"))} == {address}
