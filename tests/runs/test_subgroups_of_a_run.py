"""Groups of test in a run: they make the last report anew and nothing else; cards have them on request."""

import json
import shutil

import numpy as np
import pytest
from small_run import SMALL, stages, table

from kdtf.cli.entry import main
from kdtf.config import Config
from kdtf.data.audit import Audit
from kdtf.data.dataset import Dataset, Split
from kdtf.progress import Progress
from kdtf.records import Predictions, Subgroups
from kdtf.runs.close import Closing
from kdtf.store import Store

SEX = Subgroups("sex", ("F", "M"), np.repeat([0, 1], [25, 35]))


def with_groups(folder, data):
    """A copy of a data folder in which every third test image is of a site that train has not."""
    shutil.copytree(data, folder)
    for split, sites in (("train", "aab"), ("test", "abc")):
        count = len(np.load(data / f"y_{split}.npy"))
        rows = [f"{sites[i % 3]},{'FM'[i % 2]}" for i in range(count)]
        (folder / f"subgroups_{split}.csv").write_text("\n".join(["site,sex", *rows]))
    return folder


def test_a_table_of_groups_makes_the_closing_report_anew_alone(small, tiny, tmp_path, blank, capfd):
    data, before = with_groups(tmp_path / "data", tiny), stages(small)
    assert main(["--data", str(data), "--results", "r", *SMALL]) == 0
    after = stages(small)
    redone = {name.rpartition("-")[0] for name, time in after.items() if before.get(name) != time}
    assert redone == {"closing-report"}
    assert "No training image is in the group 'c' of 'site', which test has" in capfd.readouterr().err
    scores, truth = table(small, "subgroups.csv"), np.load(tiny / "y_test.npy")
    sizes = scores.query("images == 'all' and metric == 'accuracy'").groupby("column").group_images.sum()
    assert sizes.to_dict() == {"site": len(truth), "sex": len(truth)}
    assert {"subgroups.csv", "subgroup_gaps.csv", "subgroups.png"} <= json.loads(
        (small / "manifest.json").read_text()
    )["outputs"].keys()
    assert "Does it do as well in every group" in (small / "report.html").read_text()


@pytest.mark.parametrize("asked", [False, True])
def test_a_card_has_scores_by_group_where_it_is_asked_to(asked, tmp_path):
    pixels, labels = np.zeros((60, 4, 4, 1), np.uint8), np.arange(60) % 2
    split = Split(pixels, labels, None, pixels, subgroups=(SEX,))
    data = Dataset(split, split, split, ("a", "b"), "digest", ())
    copies = np.arange(60) < 5
    config = Config().with_values({"card_subgroups": asked})
    closing = Closing(
        config, data, Audit([], [], {"test": copies, "val": copies}, []), Store(tmp_path), Progress()
    )
    right = np.arange(60) >= 10  # the first ten of F are wrong, five of them copies
    probs = np.eye(2)[np.where(right, labels, 1 - labels)]

    class File:
        predictions = Predictions("alone", "alone", "int8", 0, probs, probs)

    rows = closing._evidence(File).subgroups
    assert [row["group"] for row in rows] == (["F", "M"] if asked else [])
    for row, (images, accuracy) in zip(rows, ((20, 15 / 20), (35, 1)), strict=False):
        assert row["images"] == images and row["test"]["accuracy"][0] == pytest.approx(accuracy)
