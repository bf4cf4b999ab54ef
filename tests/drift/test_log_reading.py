"""A log read back: hostile, foreign and damaged lines are left out with a word, the others are in order."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
from test_log import CLASSES, MODEL, NUMBERS, ROW

from kdtf.drift import log, reading
from kdtf.drift.log import CURRENT, PredictionLog
from kdtf.drift.reading import FOREIGN, LONG, TORN, read_log
from kdtf.errors import UserError

GOOD = PredictionLog("", MODEL, CLASSES).record(ROW, datetime(2026, 11, 2, tzinfo=UTC))


def changed(**changes):
    return json.dumps({**GOOD, **changes})


def measured(**changes):
    return changed(statistics={**NUMBERS, **changes})


HOSTILE = {
    "10,000 columns": (json.dumps(GOOD | {f"column {i}": i for i in range(10_000)}), LONG),
    "a line of a MiB": ("x" * (1 << 20), LONG),
    "NaN": (measured(colour=float("nan")), TORN),
    "infinity": (measured(colour=float("inf")), TORN),
    "a number beyond floats": (measured().replace("7.5", "1e999"), FOREIGN),
    "a number beyond images": (measured(layout=1e30), FOREIGN),
    "a number of 5,000 digits": (measured().replace("7.5", "9" * 5000), TORN),
    "a number in words": (measured(layout="=1+1"), FOREIGN),
    "yes for a number": (measured(layout=True), FOREIGN),
    "a statistic less": (changed(statistics={"brightness": 1.0}), FOREIGN),
    "statistics that are a list": (changed(statistics=[1, 2, 3, 4]), FOREIGN),
    "nested": ("[" * 50_000, TORN),
    "a list": ("[1]", FOREIGN),
    "no JSON": ("class,probability\x1b[31m", TORN),
    "no UTF-8": ("\udcff\udcfe", TORN),
    "NUL": ("\0\0\0", TORN),
    "another class": (changed(**{"class": "\x1b[31m"}), FOREIGN),
    "no digest": (changed(model="=cmd|' /C calc'!A0"), FOREIGN),
    "a number for uncertain": (changed(uncertain=1), FOREIGN),
    "no time zone": (changed(time="2026-11-02T00:00:00"), FOREIGN),
    "no time": (changed(time="0001-01-01T00:00:00+14:00"), FOREIGN),
}


def write(folder, *lines):
    (folder / CURRENT).write_bytes(
        b"\n".join(line.encode("utf-8", "surrogateescape") for line in lines) + b"\n"
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_line_of_a_log_is_left_out_with_a_word(tmp_path, name):
    line, reason = HOSTILE[name]
    write(tmp_path, json.dumps(GOOD), line, "", json.dumps(GOOD))
    found = read_log(tmp_path, MODEL, CLASSES)
    assert found.left_out == {reason: 1} and len(found.times) == 2
    assert found.remarks == [f"1 line of the log cannot be used: 1 {reason}."]


def test_images_are_in_the_order_of_time_over_all_files(tmp_path):
    times = ["2026-11-02T00:00:00.250Z", "2026-11-01T23:00:00-02:00", "2026-10-31T00:00:00Z"]
    rows = [changed(time=time, **{"class": name}) for time, name in zip(times, "aba", strict=True)]
    write(tmp_path, rows[0], rows[2])
    (tmp_path / CURRENT).rename(tmp_path / "predictions-000001.jsonl")
    write(tmp_path, rows[1])
    found = read_log(tmp_path, MODEL, CLASSES)
    expected = ["2026-10-31T00:00:00.000", "2026-11-02T00:00:00.250", "2026-11-02T01:00:00.000"]
    assert found.times.astype(str).tolist() == expected and found.named.tolist() == [0, 0, 1]
    assert np.allclose([own[0] for own in found.statistics.values()], [62.2512, 20, 0, 7.5])
    assert found.uncertain.all() and not found.unlike.any() and found.remarks == []


def test_a_file_that_gets_its_number_while_the_log_is_read_is_not_missed(tmp_path, monkeypatch):
    write(tmp_path, json.dumps(GOOD))
    looked = []

    def log_files(folder):
        if len(looked) == 1:  # after the first reading
            (tmp_path / CURRENT).rename(tmp_path / "predictions-000001.jsonl")
            write(tmp_path, json.dumps(GOOD), json.dumps(GOOD))
        looked.append(folder)
        return log.log_files(folder)

    monkeypatch.setattr(reading, "log_files", log_files)
    assert len(read_log(tmp_path, MODEL, CLASSES).times) == 3 and len(looked) == 4


def test_a_log_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / CURRENT).mkdir()
    with pytest.raises(
        UserError, match=r"^DIR must be a log that can be read\. Got '.*' \(Is a directory\)\.$"
    ):
        read_log(tmp_path, MODEL, CLASSES)


def test_answers_of_other_students_are_told_and_left_out(tmp_path):
    others = [changed(model=f"{k:x}" * 64) for k in range(5)]
    write(tmp_path, json.dumps(GOOD), *others, others[0])
    found = read_log(tmp_path, MODEL, CLASSES)
    assert len(found.times) == 1 and sum(found.others.values()) == 6
    (remark,) = found.remarks
    assert remark.startswith("6 images that another student answered are left out (sha256 000000000000...")
    assert remark.endswith("222222222222... and 2 more).")


def test_a_log_without_a_line_of_the_student_is_refused(tmp_path):
    write(tmp_path, changed(model="f" * 64), "x")
    with pytest.raises(UserError, match=r"sha256 0123456789ab\.\.\.") as caught:
        read_log(tmp_path, MODEL, CLASSES)
    assert "1 image that another student answered is left out" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_log_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"DIR must be a folder that predict --log wrote\. Got"):
            read_log(folder, MODEL, CLASSES)
    os.mkfifo(tmp_path / CURRENT)
    with pytest.raises(UserError, match="DIR must be a file that ends"):
        read_log(tmp_path, MODEL, CLASSES)
