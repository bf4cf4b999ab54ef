"""Downloads from a server of our own: whole, interrupted, wrong, and none at all."""

import hashlib
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from recorder import Recorder
from sources import packed

from kdtf.errors import UserError
from kdtf.prepare import fetch as module
from kdtf.prepare.fetch import INSTRUCTIONS, SOURCES, Source, fetch
from kdtf.progress import Progress

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(BaseHTTPRequestHandler):
    content, stop_at, ranges, asked = CONTENT, None, True, []

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and cls.ranges else 0
        if start >= len(cls.content) > 0 and wanted:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(cls.content) - start))
        self.end_headers()
        self.wfile.write(cls.content[start : cls.stop_at])

    def log_message(self, *unused):
        pass


@pytest.fixture
def server(monkeypatch):
    """A fresh server; `server.stop_at` cuts the answer, `server.ranges` says whether it can resume."""
    handler = type("Fresh", (Server,), {"asked": []})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/set.npz"
    row = Source(url, hashlib.md5(CONTENT).hexdigest(), "CC BY 4.0", "set.npz")
    monkeypatch.setitem(SOURCES, "set", row)
    yield handler
    running.shutdown()
    running.server_close()


def test_a_file_arrives_whole_with_its_licence_and_is_not_fetched_twice(server, tmp_path):
    progress = Recorder()
    archive = fetch("set", tmp_path / "new", progress)
    assert archive.read_bytes() == CONTENT and progress.said == ["set: licence CC BY 4.0."]
    assert fetch("set", tmp_path / "new", progress) == archive and server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_it_stopped(server, tmp_path, ranges):
    server.stop_at, server.ranges = 100_000, ranges
    with pytest.raises(UserError, match=r"closed early.*goes on from what is there"):
        fetch("set", tmp_path, Progress())
    assert not (tmp_path / "set.npz").exists()
    server.stop_at = None
    assert fetch("set", tmp_path, Progress()).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"] and not list(tmp_path.glob("*.part"))


def test_a_download_that_was_complete_but_not_renamed_is_kept(server, tmp_path):
    (tmp_path / "set.npz.part").write_bytes(CONTENT)
    assert fetch("set", tmp_path, Progress()).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match="must have MD5"):
        fetch("set", tmp_path, Progress())
    assert not list(tmp_path.iterdir())


def test_without_a_connection_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "set", Source("http://127.0.0.1:9/set.npz", "", "", "set.npz"))
    with pytest.raises(
        UserError, match=r"^fetch must be able to reach .*\. It could not \(.*save that address"
    ):
        fetch("set", tmp_path, Progress())


def test_unknown_names_and_sets_behind_an_account(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'dermamnist'"):
        fetch("dermamist", tmp_path, Progress())
    with pytest.raises(UserError, match="without an account"):
        fetch("chest-ct", tmp_path, Progress())
    assert all(row.page.startswith("https://www.kaggle.com/datasets/") for row in INSTRUCTIONS.values())


def test_cifar10_is_read_without_unpickling(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (12, 1), dtype=np.uint8)
    rows = np.concatenate([labels, images.transpose(0, 3, 1, 2).reshape(12, -1)], axis=1)
    names = [
        f"cifar-10-batches-bin/{n}.bin" for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    ]
    archive = packed(tmp_path / "c.tgz", {n: rows[2 * i : 2 * i + 2].tobytes() for i, n in enumerate(names)})
    with np.load(module._cifar10(archive, tmp_path), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["x_train"], images[:10]) and np.array_equal(
            arrays["y_test"], labels[10:]
        )


def test_an_archive_cannot_write_outside(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    good = packed(tmp_path / "g.tgz", {"woof/train/a/1.jpeg": b"1", "woof/val/a/2.jpeg": b"2"})
    assert module._untar(good, out) == out / "woof" and (out / "woof/val/a/2.jpeg").read_bytes() == b"2"
    with pytest.raises(tarfile.FilterError):
        module._untar(packed(tmp_path / "b.tgz", {"woof/x": b"", "../evil": b"no"}), out)
    assert not (tmp_path / "evil").exists()


def test_every_source_is_complete():
    for name, row in SOURCES.items():
        assert row.url.startswith("https://") and len(row.md5) == 32 and row.licence and row.file, name
