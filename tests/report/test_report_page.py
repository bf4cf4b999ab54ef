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
from kdtf.report import answer, frames
from kdtf.report import page as pages
from kdtf.report.page import render
from kdtf.runs.kinds import PACKAGES
from kdtf.store import Store
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
    assert f"<b>{row.accuracy:.3f}</b><span>accuracy on test, 6 copies included</span>" in other
    clean = f"<b>{row.clean_accuracy:.3f}</b><span>accuracy without copies</span>"
    assert other.index(clean) < other.index("<span>accuracy on test")  # the honest one first
    assert f"With the copies it is {100 * row.accuracy:.1f} % of 60 test images (95 % interval " in other
    assert "</b><span>macro AUC without copies</span>" in other
    assert "right of the 54 test images without a copy in train or val" in other


def test_a_folder_of_before_the_manifest_named_it_is_read_too(copied, monkeypatch):
    choices = []

    def choose(rows):
        choices.append(rows)
        return rows[3]

    monkeypatch.setattr(answer, "file_to_ship", choose)
    assert "Ship alone_Student_int8-qat.tflite" in render(copied(ship=None))
    assert choices and choices[0][3]["recipe"] == "int8-qat"


def test_both_forms_of_the_accuracy_are_one_rounding(copied):
    """0.7775 is 0.777 in binary, and 77.75 is 77.8: the card says 0.777 and 77.7 %."""
    folder = copied()
    summary = pd.read_csv(folder / "summary.csv")
    summary.assign(accuracy=0.7775).to_csv(folder / "summary.csv", index=False)
    page = render(folder)
    assert "<b>0.777</b><span>accuracy on test" in page and "77.7 % of 60 test images" in page


def test_what_distilling_gained_over_seeds_is_the_verdict_of_evidence(copied):
    """The page judges nothing; for a table of 0.1.0, which has no verdict, evidence is asked."""
    folder = copied()
    seeds, gains = (pd.read_csv(folder / name) for name in ("seeds.csv", "gains.csv"))
    (sentence,) = answer.gains_over_seeds({"seeds": seeds}, "vgg16")
    assert sentence in seeds.verdict.tolist() and sentence in render(folder)
    of_earlier = {"As it is.": seeds.assign(verdict="As it is."), sentence: seeds.drop(columns="verdict")}
    assert all(answer.gains_over_seeds({"seeds": own}, "") == [text] for text, own in of_earlier.items())
    without = [name for name in seeds if name.startswith("gain") or name == "verdict"]
    assert answer.gains_over_seeds({"seeds": seeds.drop(columns=without)}, "vgg16") == []
    tables = {"seeds": seeds, "gains": gains.assign(verdict="As it is.")}
    assert answer.gains_over_seeds(tables, "vgg16") == ["As it is."]
    assert answer.gains_over_seeds(tables, "alone") == []
    assert answer.gains_over_seeds({**tables, "gains": gains.assign(seeds=1)}, "vgg16") == []


def judged(folder: Path, **broken: str) -> str:
    """The page of a results folder whose verdict has these rules broken."""
    verdict = pd.read_csv(folder / "verdict.csv")
    for rule, found in broken.items():
        at = verdict.rule.str.startswith(rule)
        verdict.loc[at, "met"], verdict.loc[at, "found"] = False, found
    verdict.to_csv(folder / "verdict.csv", index=False)
    return render(folder)


def test_it_says_no_where_a_rule_is_broken(copied, page):
    no = judged(copied(), Every="lowest for ill: 10.0 % of its 20 images")
    card = re.search(r'<section class="card answer no".*?</section>', no, re.DOTALL).group()
    assert "<strong>None of these is good enough to ship.</strong>" in card and "Ship " not in card
    assert "Val chose vgg16_Student_int8.tflite" in card and "It breaks 1 of 6 rules." in card
    assert card.count("✗ not met") == 1 and "lowest for ill: 10.0 % of its 20 images" in card
    assert "None of these" not in page and "✗ not met" not in page and page.count("✓ met") >= 4


def test_a_folder_of_before_the_verdict_has_no_rules(copied):
    folder = copied()
    names = json.loads((folder / "manifest.json").read_text())["outputs"]
    early = {name: digest for name, digest in names.items() if name not in ("verdict.csv", "top_class.csv")}
    page = render(copied(outputs=early))
    assert "Ship vgg16_Student_int8.tflite" in page and "✓ met" not in page


def test_the_card_has_the_largest_class_and_chance(page, results):
    share = pd.read_csv(results / "verdict.csv").limit.iloc[0]
    assert f"<b>{share:.3f}</b><span>largest class, always named</span>" in page
    assert "<b>0.333</b><span>chance, 3 classes</span>" in page


def test_classes_are_told_by_the_class_named_first_with_those_of_every_split(page, results):
    section = re.search(r'<h2 id="classes">.*?<h2 ', page, re.DOTALL).group()
    clean, whole = section.split("<h3>")[1:3]
    assert clean.startswith("The chosen file on the test images without a copy in train or val</h3>")
    rows = pd.read_csv(results / "top_class.csv")
    own = rows[(rows.teacher == "vgg16") & (rows.recipe == "int8") & (rows.seed == 0)]
    for part, images in ((clean, "clean"), (whole, "all")):
        for row in own[own.images == images].itertuples():
            cells = re.search(rf">{row[6]}</td>.*?</tr>", part).group()
            assert f"{row.sensitivity:.2f} ({row.sensitivity_low:.2f} to {row.sensitivity_high:.2f})" in cells
            assert ">10 (33%)<" in cells and ">8 (33%)<" in cells  # in train and val
            assert f">{row.class_images} ({row.class_images / row.of:.0%})<" in cells
    assert page.index('id="classes"') < page.index('id="thresholds"')


def test_the_chosen_file_is_marked_in_every_table_that_has_it(page):
    for section in ("calibration", "models", "comparisons", "files"):
        table = re.search(rf'<h2 id="{section}">.*?</table>', page, re.DOTALL).group()
        (row,) = re.findall(r'<tr class="chosen">.*?</tr>', table, re.DOTALL)
        assert "◆ chosen" in row and "vgg16" in row and ">int8</abbr>" in row


def test_warnings_are_ranked_and_details_stand_below_the_tables(copied):
    page = render(copied(warnings=["a", "b"], remarks={"first": ["47 copies."], "later": ["int8 loses."]}))
    assert page.index("47 copies.") < page.index('<nav aria-label="Contents">') < page.index("int8 loses.")
    assert page.index('<h2 id="later">') < page.index("int8 loses.") < page.index('<h2 id="words">')


def test_what_bench_measured_of_the_files_of_the_run_is_shown(copied):
    names = ["alone_Student_int8.tflite", "alone_Student_float32.tflite"]
    row = {"macs": 1234567, "median_ms": 0.25, "arena_bytes": 2048, "micro_arena_bytes": None}
    npu = {
        "npu": "ethos-u55-128",
        "npu_percent": 100.0,
        "npu_left": None,
        "npu_sram_bytes": 10240,
        "npu_cycles": 54321,
    }
    outputs = json.loads((copied() / "manifest.json").read_text())["outputs"]
    folder = copied(outputs=outputs | dict.fromkeys(names, 64 * "1"))
    digests = [64 * "1", 64 * "0"]  # the second is of another run's file
    rows = [{"file": f"d/{name}", "sha256": own, **row} for name, own in zip(names, digests, strict=True)]
    Store(folder).write_csv("bench.csv", [own | npu for own in rows])
    page = " ".join(render(folder).split())
    table = page.partition("What bench measured")[2].partition("</table>")[0]
    assert ">1,234,567</td>" in table and ">2.0</td>" in table and "Micro" not in table
    npus = page.partition("On an NPU")[2].partition("</table>")[0]
    assert ">54,321</td>" in npus and ">10.0</td>" in npus and ">100</td>" in npus
    assert all(own.count("<tr") == 2 and names[1] not in own for own in (table, npus))
    pd.DataFrame(rows).drop(columns="sha256").to_csv(folder / "bench.csv")
    assert "What bench measured" not in render(folder)


def test_words_are_explained_where_they_stand_and_in_a_list(page):
    assert '<abbr title="how the numbers of a network are stored in its file">recipe</abbr>' in page
    assert "<dt>ECE</dt>" in page and "resample the test images" in page


def test_every_section_is_in_the_contents(page):
    contents = re.search(r'<nav aria-label="Contents">.*?</nav>', page, re.DOTALL).group()
    links, ids = re.findall(r'href="#(\w+)"', contents), re.findall(r'<h2 id="(\w+)"', page)
    assert links == [name for name in ids if name != "first"]


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
    heads = re.findall(r'<button type="button">(?:<abbr[^>]*>)?([^<]*)<', section)
    assert heads == [
        *("teacher", "model", "recipe", "accuracy", "without copies", "loss", "macro F1", "AUC", "KiB"),
        *("ms/image", "training, s"),
    ]
    assert section.count("<tr") == 1 + len(pd.read_csv(results / "summary.csv"))


def test_the_first_rows_of_a_table_are_of_the_first_seed_and_all_are_behind_a_line(page, results):
    section = re.search(r'<h2 id="comparisons">.*?<h2 ', page, re.DOTALL).group()
    first, all_rows = section.split("<details>")
    comparisons = pd.read_csv(results / "comparisons.csv")
    wanted = comparisons[(comparisons.seed == 0) & (comparisons.images == "all")]
    assert first.count("<tr") == 1 + len(wanted) < all_rows.count("<tr") == 1 + len(comparisons)
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


def test_a_click_enlarges_a_picture_and_a_phone_shows_all_of_the_page(finished, browser):
    """At 390 px nothing is wider than the screen but what scrolls by itself; cells carry their headings."""
    size = browser.get_window_size()
    browser.get((finished / "report.html").resolve().as_uri())
    small = browser.find_element("css selector", ".zoom img")
    width = small.size["width"]
    browser.execute_script("document.querySelector('.zoom').click()")
    large = browser.find_element("css selector", "dialog[open] img")
    assert large.size["width"] > width and large.get_attribute("alt") == small.get_attribute("alt")
    browser.execute_script("document.querySelector('dialog button').click()")
    assert not browser.find_elements("css selector", "dialog[open]")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        label = browser.execute_script(
            "return getComputedStyle(document.querySelector('#models ~ .scroll td'), '::before').content"
        )
        assert label == '"teacher"'
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.set_window_size(size["width"], size["height"])


def test_at_1280_px_no_table_hides_a_column(finished, browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        browser.get((finished / "report.html").resolve().as_uri())
        hidden = browser.execute_script(
            "document.querySelectorAll('details').forEach(d => d.open = true);"
            "return [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1)"
            ".map(s => s.getAttribute('aria-label'))"
        )
        assert hidden == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
