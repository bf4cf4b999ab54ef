"""Images in order, a bounded number at a time, and those that are skipped."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from recorder import Recorder
from sources import content, read, refused, run, save, truncated

from kdtf.prepare.write import ArrayStream, in_order


def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    truncated(source / "train/a/1.jpg")
    outputs = []
    for workers in (1, 2, 5):
        run(source, tmp_path / f"{workers}", workers=workers, teacher_size=12, group_regex=r"\d")
        outputs.append(content(tmp_path / f"{workers}"))
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) == 18


def test_nothing_is_kept_in_memory_but_a_few_images():
    begun, taken, most, lock = 0, 0, 0, threading.Lock()

    def work(i):
        nonlocal begun
        with lock:
            begun += 1
        return i

    with ThreadPoolExecutor(4) as pool:
        for item, result in in_order(pool, work, range(300), 8):
            most = max(most, begun - taken)
            taken += 1
            assert item == result == taken - 1
    assert taken == 300 and 1 <= most <= 8


def test_images_are_in_flight_by_the_number_of_workers(source, out, monkeypatch):
    in_flight = []
    monkeypatch.setattr("kdtf.prepare.write.in_order", lambda *g: in_flight.append(g[3]) or in_order(*g))
    run(source, out, workers=3)
    assert in_flight == [6, 6, 6]


def test_a_stream_gets_its_number_at_the_end(tmp_path):
    with ArrayStream(tmp_path / "a.npy", (2, 3)) as stream:
        for i in range(1234):
            stream.append(np.full((2, 3), i % 256, np.uint8))
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (1234, 2, 3) and np.array_equal(array[:, 1, 2], np.arange(1234) % 256)


def test_progress_counts_the_images(source, out):
    class Bar(Recorder):
        def bar(self, title, total):
            from contextlib import nullcontext

            return nullcontext(lambda done: self.said.append((done, total)))

    recorder = Bar()
    run(source, out, recorder)
    assert recorder.said == [(i + 1, 18) for i in range(18)]


def test_skipped_images_leave_no_hole(source, out, tmp_path):
    run(source, tmp_path / "sound")
    truncated(source / "train/a/1 cut.jpg")
    (source / "train/b/0.png.bmp").write_text("no image")
    recorder = Recorder()
    assert run(source, out, recorder).skipped == 2
    for name in ("X_train", "y_train"):
        assert (out / f"{name}.npy").read_bytes() == (tmp_path / f"sound/{name}.npy").read_bytes()
    assert (out / "files_train.csv").read_text() == (tmp_path / "sound/files_train.csv").read_text()
    skipped = json.loads((out / "provenance.json").read_text())["skipped"]
    assert [image["file"] for image in skipped] == ["train/a/1 cut.jpg", "train/b/0.png.bmp"]
    assert "truncated" in skipped[0]["reason"] and len(recorder.said) == 2 and "1 cut.jpg" in recorder.said[0]
    assert recorder.warnings == ["2 of 20 images could not be read and were skipped: see provenance.json."]


def test_strict_stops_at_the_first(source, out):
    truncated(source / "test/a/1.jpg")
    refused(source, out, "'test/a/1.jpg' must be an image that can be read. Got: image file", strict=True)
    assert not out.exists()


def test_16_bit_images_that_look_like_12_bits(source, out, tmp_path):
    save(source / "train/a/9.png", np.full((8, 8), 4095, np.uint16))
    recorder = Recorder()
    run(source, out, recorder)
    assert "look like 12-bit data: none is above 4095" in recorder.warnings[0]
    assert "--window" in recorder.warnings[0] and read(out, "X_train")[3].max() == 16
    recorder = Recorder()
    run(source, out, recorder, window=(2048, 4096))
    assert not recorder.warnings and read(out, "X_train")[3].min() == 255
    save(source / "test/a/9.png", np.full((8, 8), 4096, np.uint16))
    run(source, out, recorder := Recorder())
    assert not recorder.warnings
