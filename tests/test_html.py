"""report.html: made again without TensorFlow, self-contained, and working in a real browser."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdtf.cli import main

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_draws_it_sorts_it_and_fetches_nothing(page, tmp_path):
    """A click on the first table's accuracy heading, twice; any error or request would show in the title."""
    probe = """
    <script>
    const heard = [];
    addEventListener("error", e => heard.push(e.message));
    addEventListener("load", () => {
      const table = document.querySelector("table");
      const at = [...table.querySelectorAll("th")].findIndex(th => th.textContent.trim() === "accuracy");
      const read = () => [...table.tBodies[0].rows].map(r => Number(r.cells[at].dataset.value));
      const press = () => table.querySelectorAll("th button")[at].click();
      press(); const up = read(); press(); const down = read();
      const sorted = up.every((v, i) => !i || up[i - 1] <= v) && down.every((v, i) => !i || down[i - 1] >= v);
      const drawn = [...document.images].every(i => i.complete && i.naturalWidth > 100);
      const asked = performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:"));
      const found = {sorted, drawn, fetched: asked.length, heard, n: up.length};
      document.body.innerHTML = "<p id=verdict>" + JSON.stringify(found) + "</p>";
    });
    </script></head>"""
    file = tmp_path / "probe.html"
    file.write_text(page.replace("</head>", probe, 1), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    verdict = re.search(r'<p id="verdict">(.*?)</p>', done.stdout)
    assert verdict, done.stderr[-2000:]
    assert verdict[1] == '{"sorted":true,"drawn":true,"fetched":0,"heard":[],"n":11}'
