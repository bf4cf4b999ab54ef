"""What reports say of a run is so."""

import json

from kdtf.data.load import load


def test_the_report_says_what_the_digest_covers(finished, tiny, tmp_path):
    """Not the names of classes, which change no weight: under others the digest is the same."""
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "a sha256 over pixels, labels, groups and the number of classes)" in page
    digest = json.loads((finished / "manifest.json").read_text())["data"]["digest"]
    data = load(tiny, tmp_path)
    names = tuple(f"other {name}" for name in data.classes)
    assert digest == data.digest == load(tiny, tmp_path, class_names=names).digest and digest in page
