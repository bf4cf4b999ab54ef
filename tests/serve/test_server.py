"""A server as its clients meet it: the answers of `Predictor`, what is refused, what is kept, how it ends."""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdtf.cli.entry import main
from kdtf.predictor import Predictor, Row, set_in_words
from kdtf.serve.worker import answer_of

pytest.importorskip("fastapi", reason="no FastAPI: pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="no uvicorn: pip install '.[serve]'")
ROOT = Path(__file__).parents[2]
TOKEN = "a token of 0123".replace(" ", "-") + "456"
SECRET = "Jane Doe"


class Server:
    """`python -m kdtf serve` in a process of its own."""

    def __init__(self, path, *settings, log, **environment):
        self.log = log
        command = [sys.executable, "-m", "kdtf", "serve", str(path), "--port", "0", *settings]
        how = {"stderr": subprocess.PIPE, "text": True, "env": {**os.environ, **environment}, "cwd": ROOT}
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, **how)
        self.started = self.process.stderr.readline()
        self.port = int(re.search(r"http://\S+:(\d+)/", self.started)[1])

    def ask(self, body=b"", method="POST", path="/predict", **headers):
        """(status, JSON or text, headers) of a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if text.startswith("{") else text, dict(answer.getheaders())

    def raw(self, content, *, half=False):
        """All that comes back for these bytes until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(content)
            if half:
                connection.shutdown(socket.SHUT_WR)
            try:
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                return b""

    def workers(self):
        """The numbers of the processes that run the student; a thread has children of its own."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        return [n for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]

    def end(self, number=signal.SIGTERM):
        """What it said on stderr since it began to answer."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[1]


def file_of(pixels, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def noise(side, seed=0, channels=()):
    return np.random.default_rng(seed).integers(0, 256, (side, side, *channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def student(files, tmp_path_factory):
    """A bundle with thresholds, a temperature and training images, so that answers have all parts."""
    from small_run import CLASSES, SHAPE

    from kdtf.tflite.card import runnable_card
    from kdtf.tflite.quantize import file_facts

    folder = tmp_path_factory.mktemp("student")
    card = runnable_card(file_facts(files["int8"], "int8"), len(CLASSES), SHAPE)
    card |= {"classes": list(CLASSES), "temperature": 1.7, "training_images": {"colour": [0, 0, 0]}}
    card["thresholds"] = {name: 0.5 for name in CLASSES}
    quantiles = {CLASSES[0]: 0.5, CLASSES[1]: 0.9}
    card["prediction_sets"] = {"method": "adaptive", "coverage": 0.9, "quantiles": quantiles}
    (folder / "s.tflite").write_bytes(files["int8"])
    (folder / "s.json").write_text(json.dumps(card))
    return folder / "s.tflite"


@pytest.fixture(scope="module")
def server(student, tmp_path_factory):
    settings = ("--workers", "1", "--rate", "0", "--max-mib", "0.5", "--timeout", "3")
    folder = tmp_path_factory.mktemp("log")
    server = Server(student, *settings, "--log", str(folder / "answers"), log=folder / "log")
    yield server
    assert server.end() == "" and server.process.returncode == 0


PICTURES = {
    "grey.png": file_of(noise(32)),
    "colour.png": file_of(noise(20, 1, (3,))),
    "large.jpg": file_of(noise(200, 2), "JPEG"),
    "tiny.bmp": file_of(noise(5, 3), "BMP"),
    "16 bits.tif": file_of(noise(30, 4).astype(np.uint16) * 257, "TIFF"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_answers_are_those_of_predictor_byte_for_byte(name, server, student, tmp_path):
    (tmp_path / name).write_bytes(PICTURES[name])
    predictor = Predictor(student)
    (row,) = predictor.rows(tmp_path / name)
    status, answer, _ = server.ask(PICTURES[name])
    assert status == 200 and not row.error
    said = [answer[part] for part in ("class", "probability", "uncertain", "warning")]
    assert said == [row.label, row.probability, bool(row.uncertain), row.warning]
    assert answer["prediction_set"] == list(row.prediction_set) != []
    assert answer["set"] == set_in_words(row.prediction_set, predictor.classes)
    assert list(answer["probabilities"]) == list(predictor.classes)
    assert np.array(list(answer["probabilities"].values()), row.probs.dtype).tobytes() == row.probs.tobytes()
    assert answer["model"]["sha256"] == predictor.card["sha256"] and "Research use only" in answer["use"]


def test_a_student_without_sets_answers_without_one():
    row = Row("x", 0, "a", 0.5, False, "", "", np.array([0.5, 0.5]))
    answer = answer_of(row, ("a", "b"))
    assert answer["prediction_set"] is None and answer["set"] is None
    empty = answer_of(row._replace(prediction_set=()), ("a", "b"))
    assert empty["prediction_set"] == [] and empty["set"] == "no class"


def test_dicom_is_read_and_no_header_comes_back(server, student, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="no pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.PatientName, data.SOPClassUID, data.SOPInstanceUID = SECRET, "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data.Rows = data.Columns = 32
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = noise(32).tobytes()
    path = tmp_path / "scan.dcm"
    data.save_as(path, enforce_file_format=True)
    (row,) = Predictor(student).rows(path)
    status, answer, _ = server.ask(path.read_bytes(), content_type="application/dicom")
    assert (status, answer["class"], answer["probability"]) == (200, row.label, row.probability)
    broken = path.read_bytes().replace(b"\x28\x00\x10\x00", b"\x28\x00\x99\x00")  # no Rows
    status, answer, _ = server.ask(broken)
    assert status == 422 and SECRET not in json.dumps(answer)
    assert SECRET not in server.log.read_text()


@pytest.mark.parametrize(
    "content", [b"<svg/>", file_of(noise(32))[:300], os.urandom(500), bytes(128) + b"DICM"]
)
def test_what_cannot_be_read_has_predictors_reason(content, server, student, tmp_path):
    (tmp_path / "x").write_bytes(content)
    (row,) = Predictor(student).rows(tmp_path / "x")
    assert server.ask(content)[:2] == (422, {"error": row.error}) and row.error


def test_what_decoders_write_to_stderr_goes_nowhere(server):
    """Pillow logs how many samples this pixel has; the fixture asserts that the server has said nothing."""
    content = file_of(noise(8, 0, (3,)), "TIFF")
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"  # tag 277, one SHORT
    assert content.count(samples + b"\x03") == 1
    assert server.ask(content.replace(samples + b"\x03", samples + b"\x7a"))[0] == 422


def test_what_is_refused(server):
    array = io.BytesIO()
    np.save(array, noise(32))
    assert server.ask(array.getvalue())[:2] == (422, {"error": "a .npy file: send one image"})
    assert server.ask()[:2] == (400, {"error": "the body must be the bytes of an image file"})
    assert server.ask(path="/else", method="GET")[:2] == (404, {"error": "Not Found"})
    assert server.ask(method="GET")[0] == 405
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 524289\r\n\r\n"
    answer = server.raw(head)  # no byte of a body that is too long is waited for
    assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer
    assert answer.endswith(b'{"error":"an image must have at most 524,288 bytes"}')
    status, answer, _ = server.ask(file_of(noise(32)), Host="evil.example")
    assert (status, answer) == (421, {"error": "the Host header must be the address of this server"})
    assert (
        server.ask(path="/docs", method="GET")[0] == server.ask(path="/openapi.json", method="GET")[0] == 404
    )


def test_a_body_without_a_length_is_cut_off_where_it_is_too_long(server):
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert server.raw(head + 9 * chunk).startswith((b"HTTP/1.1 413", b""))
    assert b'status="413"' in server.raw(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )


def test_slow_headers_and_slow_bodies_are_ended_in_time(server):
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nslow"
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        answers = pool.map(server.raw, (b"POST /predict HTTP/1.1\r\nHost: 127.0", b"", head))
        assert [answer[:12] for answer in answers] == [b"", b"", b"HTTP/1.1 408"]
    assert 2.5 < time.monotonic() - began < 20  # as long as a request may take


def test_headers_that_are_no_http_or_too_long(server):
    assert server.raw(b"\x16\x03\x01 hello\r\n\r\n", half=True).startswith(b"HTTP/1.1 400")
    long = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * (20 << 10)
    assert server.raw(long, half=True)[:12] in (b"HTTP/1.1 400", b"")
    assert server.ask(path="/health", method="GET")[:2] == (200, {"status": "ok"})


def test_the_card_of_the_student_is_there_with_its_limits(server, student):
    status, card = server.ask(path="/model", method="GET")[:2]
    assert status == 200 and card == json.loads(student.with_suffix(".json").read_text())


def test_metrics_count_what_was_answered(server):
    def count():
        text = server.ask(path="/metrics", method="GET")[1]
        return int(re.search(r'kdtf_requests_total\{route="/predict",status="200"\} (\d+)', text)[1])

    server.ask(PICTURES["grey.png"])
    before = count()
    server.ask(PICTURES["grey.png"])
    assert count() == before + 1


def test_a_connection_takes_many_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    answers = []
    for name in ("grey.png", "colour.png", "grey.png"):
        connection.request("POST", "/predict", PICTURES[name])
        answers.append(json.loads(connection.getresponse().read()))
    assert answers[0] == answers[2] != answers[1]


def test_the_log_has_a_record_a_request_and_no_name(server):
    server.ask(PICTURES["grey.png"], path="/predict?patient=Jane%20Doe", User_Agent=SECRET)
    server.ask(path="/Jane_Doe", method="GET")
    deadline = time.monotonic() + 10
    while '"route": "other"' not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    text = server.log.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    wanted = {"time", "request", "method", "route", "status", "bytes", "ms"}
    assert records and all(record.keys() == wanted for record in records)
    assert "Jane" not in text and "127.0.0.1" not in text and "s.tflite" not in text
    assert len({record["request"] for record in records}) == len(records)


def test_no_image_is_kept(server):
    """Neither in the folder of the copy of the student nor among the files that its processes have open."""
    server.ask(PICTURES["grey.png"])
    for process in (server.process.pid, *server.workers()):
        links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()]
        assert not [link for link in links if "image" in link]
        folders = {Path(link).parent for link in links if "kdtf-serve-" in link}
        assert all({p.suffix for p in folder.iterdir()} <= {".tflite", ".json"} for folder in folders)


def test_answers_are_logged_without_a_name_and_a_log_that_fails_costs_no_answer(server, student):
    from kdtf.drift.log import CURRENT

    folder = server.log.with_name("answers")
    before = (folder / CURRENT).read_text()
    status, answer, _ = server.ask(PICTURES["grey.png"])
    text = (folder / CURRENT).read_text().removeprefix(before)
    logged = json.loads(text)
    assert logged["class"] == answer["class"] and logged["model"] == answer["model"]["sha256"]
    assert logged["probabilities"] == pytest.approx(answer["probabilities"], rel=1e-5)
    assert logged["statistics"]["brightness"] == pytest.approx(noise(16).mean(), rel=0.2)
    assert not {"file", "index"} & logged.keys() and "fd/" not in text
    kept = folder.rename(folder.with_name("kept"))
    folder.write_text("a file where the folder was")
    assert server.ask(PICTURES["grey.png"])[:2] == (status, answer)
    folder.unlink()
    kept.rename(folder)
    deadline = time.monotonic() + 10
    while '"unlogged": ' not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    (reason,) = re.findall('"unlogged": "([^"]+)"', server.log.read_text())
    assert reason in ("File exists", "Not a directory")  # as it looks for the folder, or for a file in it


def test_a_worker_that_dies_or_hangs_is_replaced(server):
    good = server.ask(PICTURES["grey.png"])[1]
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    assert server.ask(PICTURES["grey.png"])[:2] == (504, {"error": "the image could not be answered in time"})
    assert 2.5 < time.monotonic() - began < 20
    while server.ask(PICTURES["grey.png"])[0] == 504 and time.monotonic() - began < 60:
        pass
    (second,) = server.workers()
    assert second != worker
    os.kill(second, signal.SIGKILL)
    assert server.ask(PICTURES["grey.png"])[0] == 422
    assert server.ask(PICTURES["grey.png"])[1] == good
    assert "kdtf_workers_replaced 2\n" in server.ask(path="/metrics", method="GET")[1]


def test_elsewhere_a_token_is_needed_and_the_rate_is_limited(student, tmp_path):
    settings = ("--host", "0.0.0.0", "--workers", "1", "--rate", "2")
    server = Server(student, *settings, log=tmp_path / "log", KDTF_TOKEN=TOKEN)
    try:
        assert TOKEN not in server.started and "with the token" in server.started
        content, header = PICTURES["grey.png"], f"Bearer {TOKEN}"
        assert server.ask(content)[0] == 401
        statuses = [server.ask(content, Authorization=header)[0] for _ in range(6)]
        assert statuses[0] == 200 and 429 in statuses
    finally:
        assert server.end(signal.SIGINT) == "" and server.process.returncode == 0
    assert TOKEN not in (tmp_path / "log").read_text()


def test_a_student_that_is_replaced_meanwhile_changes_no_answer(student, tmp_path):
    for suffix in (".tflite", ".json"):
        (tmp_path / f"s{suffix}").write_bytes(student.with_suffix(suffix).read_bytes())
    server = Server(tmp_path / "s.tflite", "--workers", "1", "--timeout", "3", log=tmp_path / "log")
    try:
        before = server.ask(PICTURES["grey.png"])[1]
        (tmp_path / "s.tflite").write_bytes(b"another")
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        server.ask(PICTURES["grey.png"])
        assert server.ask(PICTURES["grey.png"])[1] == before
    finally:
        server.end()


def refused(capsys, *command):
    """The one line that a command is refused with."""
    assert main(["serve", *map(str, command)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def test_bad_input_is_answered_in_a_line(student, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KDTF_TOKEN", raising=False)
    assert "with a token. Got '0.0.0.0'." in refused(capsys, student, "--host", "0.0.0.0")
    assert "A bundle must be" in refused(capsys, tmp_path / "none.tflite", "--port", "0")
    (tmp_path / "empty").write_text("\n")
    assert "first line is a token" in refused(capsys, student, "--token-file", tmp_path / "empty")
    assert "--token-file must be" in refused(capsys, student, "--token-file", tmp_path / "missing")
    assert "--log must be a folder." in refused(capsys, student, "--port", "0", "--log", tmp_path / "empty")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Got 127.0.0.1 port {port}: Address" in refused(capsys, student, "--port", port)
