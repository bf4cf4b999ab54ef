"""Where a page is put: what lies beside it stays."""

import pytest

from kdtf.web.build import LITERT, build


@pytest.fixture
def modules(tmp_path):
    """A folder that looks as if npm had put LiteRT.js in it: the page copies these files as they are."""
    for file in LITERT:
        path = tmp_path / "node_modules" / "@litertjs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("// LiteRT.js")
    return tmp_path / "node_modules"


def test_what_others_call_like_a_part_of_the_page_stays(colour, modules, tmp_path):
    site = tmp_path / "www" / "site"
    others = [site.with_name(name) for name in (".site.part", ".site.old", "site.part", "site.old")]
    for folder in others:
        folder.mkdir(parents=True)
        (folder / "mine.txt").write_text("mine")
    for _ in range(2):
        build([colour / "rgb_int8.tflite"], site, modules)
    assert sorted(path.name for path in site.parent.iterdir()) == sorted(["site", *(o.name for o in others)])
    assert all((folder / "mine.txt").read_text() == "mine" for folder in others)
