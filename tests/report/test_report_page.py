"""report.html: made again without TensorFlow, self-contained, and working in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kdtf.config import Config
from kdtf.errors import UserError
from kdtf.evidence.tables import TABLES, EvidenceTable
from kdtf.report import frames
from kdtf.report import page as pages
from kdtf.report.page import render
from kdtf.runs.kinds import PACKAGES
from kdtf.versions import versions

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
    assert "</b><span>macro AUC</span>" in other
    assert "of the 54 without a copy in train or val" in other


def test_a_folder_of_before_the_manifest_named_it_is_read_too(copied, monkeypatch):
    choices = []

    def choose(rows):
        choices.append(rows)
        return rows[3]

    monkeypatch.setattr(pages, "file_to_ship", choose)
    assert "Ship alone_Student_int8-qat.tflite" in render(copied(ship=None))
    assert len(choices) == 1 and choices[0][3]["recipe"] == "int8-qat"


def test_both_forms_of_the_accuracy_are_one_rounding(copied):
    """0.7775 is 0.777 in binary, and 77.75 is 77.8: the card says 0.777 and 77.7 %."""
    folder = copied()
    summary = pd.read_csv(folder / "summary.csv")
    summary.assign(accuracy=0.7775).to_csv(folder / "summary.csv", index=False)
    page = render(folder)
    assert "<b>0.777</b><span>accuracy on test</span>" in page and "77.7 % of 60 test images right" in page


def test_what_distilling_gained_over_seeds_is_the_verdict_of_evidence(copied):
    """The page judges nothing; for a table of 0.1.0, which has no verdict, evidence is asked."""
    folder = copied()
    seeds, gains = (pd.read_csv(folder / name) for name in ("seeds.csv", "gains.csv"))
    (sentence,) = pages.gains_over_seeds({"seeds": seeds}, "vgg16")
    assert sentence in seeds.verdict.tolist() and sentence in render(folder)
    of_earlier = {"As it is.": seeds.assign(verdict="As it is."), sentence: seeds.drop(columns="verdict")}
    assert all(pages.gains_over_seeds({"seeds": own}, "") == [text] for text, own in of_earlier.items())
    without = [name for name in seeds if name.startswith("gain") or name == "verdict"]
    assert pages.gains_over_seeds({"seeds": seeds.drop(columns=without)}, "vgg16") == []
    tables = {"seeds": seeds, "gains": gains.assign(verdict="As it is.")}
    assert pages.gains_over_seeds(tables, "vgg16") == ["As it is."]
    assert pages.gains_over_seeds(tables, "alone") == []
    assert pages.gains_over_seeds({**tables, "gains": gains.assign(seeds=1)}, "vgg16") == []


def earlier_run(folder: Path) -> Path:
    """Leave files of a teacher that is not in this run."""
    for name in ("gradcam.png", "quantization_error.csv"):
        shutil.copy(folder / f"vgg16_{name}", folder / f"resnet_{name}")
    return folder


def test_what_earlier_runs_left_in_the_folder_is_not_shown(copied, page):
    assert "resnet" not in render(earlier_run(copied())) and render(copied()) == page


def test_in_a_folder_whose_manifest_lists_no_files_all_are_shown(copied):
    page = render(earlier_run(copied(outputs=None)))
    assert 'alt="resnet: Grad-CAM' in page and ">resnet</td>" in page


def test_no_file_outside_the_folder_is_shown(copied, page):
    folder = copied()
    outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
    shutil.copy(folder / "pareto.png", folder.parent / "other_gradcam.png")
    assert render(copied(outputs={**outputs, "../other_gradcam.png": ""})) == page


def test_a_new_table_of_evidence_is_read_by_its_row(results, monkeypatch):
    """A folder of before it, whose manifest does not name it, is read without."""
    names = [path.name for path in results.iterdir()]
    monkeypatch.setitem(TABLES, "copies", EvidenceTable("audit_pairs.csv", lambda data: []))
    monkeypatch.setitem(TABLES, "later", EvidenceTable("later.csv", lambda data: []))
    tables = frames.read_tables(results, names)
    assert tables.keys() == {*frames.CSV, *TABLES} - {"later"}
    assert tables["copies"].equals(pd.read_csv(results / "audit_pairs.csv"))


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
    assert pages.command(config) == "python main.py --data '/my data' --no-flip --epochs 3"
    assert pages.command({**config, "data": {"data": ""}}) == "python main.py --no-flip --epochs 3"
    demo = Config.demo().with_values({"epochs": 2}).to_dict()
    assert pages.command(demo) == "python main.py --demo --epochs 2"
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
    folder = copied(outputs=None)
    shutil.copy(folder / "pareto.png", folder / "mine_confusion_matrix.png")
    assert 'alt="mine_confusion_matrix"' in render(folder)


def test_names_from_files_cannot_become_markup(copied):
    page = render(copied(warnings=["<script>alert(1)</script>"]))
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UserError, match="--results must be the folder of a finished run"):
        render(tmp_path)


def test_the_command_draws_the_page_of_a_finished_run_again(finished, tmp_path, capsys):
    from kdtf.cli.entry import main

    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Every image is a synthetic phantom" in page
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["versions"] == versions(PACKAGES) and f"pillow {manifest['versions']['pillow']}" in page
    folder = tmp_path / "r"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("work", "report.html"))
    assert main(["report", "--results", str(folder)]) == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    assert "report.html" in capsys.readouterr().out


def test_the_command_tells_of_a_folder_without_a_run(tmp_path, capsys):
    from kdtf.cli.entry import main

    assert main(["report", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("Error: --results must be the folder of a finished run.")


def test_a_browser_draws_it_sorts_it_and_fetches_nothing(finished, browser):
    """Two clicks on the accuracy heading of all models; no error in the console, no request but the page.

    Chromium's own first tab asks for addresses of its own.
    """
    for log in ("browser", "performance"):
        browser.get_log(log)  # of what came before
    address = (finished / "report.html").resolve().as_uri()
    browser.get(address)
    table = browser.find_element("css selector", "#models ~ .scroll table")
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
    assert {url for url in addresses if not url.startswith(("data:", "chrome"))} == {address}
