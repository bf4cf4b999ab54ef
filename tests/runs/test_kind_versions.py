"""Whoever changes the code that makes a kind of stage is asked whether its version is to be raised."""

import json

import pytest
from kind_versions import COMMAND, TABLE, code_of, digest, start_of, versions

from kdtf.runs.kinds import KINDS

STORED, NOW = json.loads(TABLE.read_text()), versions()


@pytest.mark.parametrize("kind", KINDS)
def test_the_version_of_a_kind_is_that_of_its_code(kind):
    """Else a run of a later kdtf goes on from stages that it would make otherwise."""
    assert NOW[kind] == STORED.get(kind), (
        f"The code that makes {kind} changed: raise its version in kdtf/runs/kinds.py if what it makes "
        f"changes, then write the table anew with `{COMMAND}`."
    )


def test_the_table_has_no_kind_that_is_gone():
    assert STORED.keys() == KINDS.keys(), f"Write the table anew with `{COMMAND}`."


@pytest.mark.parametrize(
    "kind, parts",
    [
        ("views", ["kdtf.data.views"]),
        (
            "whole",
            [
                "kdtf.distill.fit",
                "kdtf.models.fused_norm",
                "kdtf.models.efficientnet_lite",
                "kdtf.models.registry",
            ],
        ),
        ("student", ["kdtf.distill.losses", "kdtf.distill.batches", "kdtf.models.students"]),
        ("file", ["kdtf.tflite.quantize", "kdtf.tflite.compact", "kdtf.tflite.tensors"]),
        ("tuned-file", ["kdtf.tflite.qat", "kdtf.tflite.compress", "kdtf.distill.losses"]),
        ("file-evaluation", ["kdtf.predictor", "kdtf.evidence.evaluate"]),
        ("run-report", ["kdtf.evidence.tables", "kdtf.report.gallery", "kdtf.report.figures"]),
    ],
)
def test_the_code_of_a_kind_reaches_where_its_result_is_computed(kind, parts):
    modules = {module for module, _ in code_of(start_of(kind))}
    assert modules >= {start_of(kind)[0], *parts}
    assert not {"kdtf.errors", "kdtf.progress", "kdtf.store", "kdtf.runs.perform"} & modules


def test_a_network_that_a_registry_knows_by_its_name_is_code_of_its_teacher():
    assert {("kdtf.models.networks", "resnet18"), ("kdtf.models.networks", "cnn5")} <= code_of(
        start_of("whole")
    ).keys()


TOY = {
    "kdtf/runs/toy.py": '''
from ..data import grey
from ..data.table import ROWS
from ..errors import require


def make(space):
    """What it makes."""
    require(space)
    return grey.shade(ROWS[0]) + _half(1)


def _half(x):
    return x / 2
''',
    "kdtf/data/grey.py": """
def shade(x):
    return _twice(x)


def _twice(x):
    return 2 * x


OTHER = 1
""",
    "kdtf/data/table.py": "ROWS = (1, 2)  # a comment\n",
    "kdtf/errors.py": "def require(x):\n    return x\n",
}


@pytest.mark.parametrize(
    "file, old, new, counts",
    [
        ("kdtf/runs/toy.py", "x / 2", "x / 3", True),
        ("kdtf/data/grey.py", "2 * x", "3 * x", True),
        ("kdtf/data/table.py", "(1, 2)", "(1, 3)", True),
        ("kdtf/runs/toy.py", "What it makes", "All that it makes", False),
        ("kdtf/data/table.py", "  # a comment", "", False),
        ("kdtf/data/grey.py", "OTHER = 1", "OTHER = 2", False),
        ("kdtf/errors.py", "return x", "return not x", False),
    ],
)
def test_what_decides_a_result_changes_the_digest_and_nothing_else(file, old, new, counts, tmp_path):
    digests = []
    for name, texts in (("before", TOY), ("after", {**TOY, file: TOY[file].replace(old, new)})):
        for path, text in texts.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        digests.append(digest(("kdtf.runs.toy", "make"), tmp_path / name))
    assert (digests[0] != digests[1]) == counts and TOY[file] != TOY[file].replace(old, new)
