"""What tests of the page share: where LiteRT.js is, and what their students say of themselves."""

from pathlib import Path

import pytest

RECIPES = ("int8", "float32", "float16", "dynamic")
WEB = Path(__file__).parents[2] / "web"
MODULES = WEB / "node_modules"
LIMITS = ["It knows three classes.", "<b>No other scanner</b> was tested."]
needs_litert = pytest.mark.skipif(not MODULES.is_dir(), reason="no LiteRT.js: run `npm ci` in web/")
