"""report.html: made again without TensorFlow, self-contained, and working in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdtf.cli.entry import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(finished):
    return (finished / "report.html").read_text(encoding="utf-8")


def test_it_opens_with_the_answer_and_says_that_the_images_are_synthetic(page):
    assert "Ship " in page and "95 % interval" in page
    assert page.index("Every image is a synthetic phantom") < page.index("Ship ")
    assert "research only, not a medical device" in page


def test_nothing_is_fetched_and_every_picture_has_words(page):
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page) and "url(" not in page
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) >= 4 and all(re.search(r'alt="[^"]{20,}"', p) for p in pictures)


def test_it_is_made_again_without_tensorflow(finished, page):
    code = (
        "import sys; from kdtf.cli import main; "
        f"code = main(['report', '--results', {str(finished)!r}]); "
        "sys.exit(code or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    assert (finished / "report.html").read_text(encoding="utf-8") == page


def test_a_picture_of_another_program_goes_by_its_name(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r", ignore=shutil.ignore_patterns("work"))
    shutil.copy(tmp_path / "r" / "pareto.png", tmp_path / "r" / "mine_confusion_matrix.png")
    assert main(["report", "--results", str(tmp_path / "r")]) == 0
    assert 'alt="mine_confusion_matrix"' in (tmp_path / "r" / "report.html").read_text()


def test_names_from_files_cannot_become_markup(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r", ignore=shutil.ignore_patterns("work"))
    manifest = tmp_path / "r" / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"warnings": [', '"warnings": ["<script>alert(1)</script>",', 1)
    )
    text = manifest.read_text().replace('script>",]', 'script>"]')
    manifest.write_text(text)
    assert main(["report", "--results", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_a_folder_without_a_run_is_told(tmp_path, capsys):
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
    heard = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in heard if m["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith(("data:", "chrome:"))} == {address}
