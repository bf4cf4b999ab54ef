"""What a server stands and how fast it is: hostile requests, and clients that ask at the same time.

    python benchmarks/serve.py hostile STUDENT.tflite --requests 10000
    python benchmarks/serve.py load STUDENT.tflite --seconds 10

Starts `python -m kdtf serve` itself. `hostile` sends seeded requests of the kinds below; after every hundred
of them a good image must get `Predictor`'s own answer, and at the end the memory and the open files of the
server's processes are compared with those after every tenth. `load` lets 1 to 64 clients, each on a
connection of its own, send an image as soon as the last one is answered.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from memory import memory, processes
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from kdtf.predictor import Predictor  # noqa: E402
from kdtf.serve.worker import answer_of  # noqa: E402

AT_ONCE, PATIENCE = 32, 30.0  # hostile clients; seconds after which one is lost
MOST = 1 << 20  # bytes of a body that the server takes
CLIENTS = (1, 2, 4, 8, 16, 32, 64)


class Server:
    """A server process; its log is read at the end."""

    def __init__(self, student: str, folder: str, *settings: str):
        self.log = Path(folder, "log")
        command = [sys.executable, "-m", "kdtf", "serve", student, "--port", "0", "--rate", "0", *settings]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        self.port = int(re.search(r"http://[^:]+:(\d+)", line)[1])

    def end(self) -> str:
        """What it said on stderr when it was ended."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]

    def usage(self) -> tuple[float, int, list[int]]:
        """(MiB of memory of its own, open files, process numbers) of the server and its workers."""
        numbers = processes(self.process.pid)
        private = sum(memory(number)[0] for number in numbers)
        files = sum(len(os.listdir(f"/proc/{number}/fd")) for number in numbers)
        return private, files, numbers


# Requests


def picture(side: int, seed: int, form: str) -> bytes:
    """A grey image of noise as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A request for an answer."""
    lines = ["POST /predict HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + body


def bomb() -> bytes:
    """A PNG that says it has 30,000 x 30,000 pixels."""
    header = (30000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 16))), (b"IEND", b"")]
    chunks = [
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def harmed(rng: random.Random, good: list[bytes]) -> bytes:
    """A good file with some bytes changed."""
    content = bytearray(rng.choice(good))
    for _ in range(rng.randint(1, 40)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def truncated(rng: random.Random, good: list[bytes]) -> bytes:
    """The beginning of a good file."""
    content = rng.choice(good)
    return content[: rng.randrange(1, len(content))]


def wrong(rng: random.Random) -> bytes:
    """What is no image."""
    array = io.BytesIO()
    np.save(array, np.zeros((3, 32, 32), np.uint8))
    dicom = bytes(128) + b"DICM" + rng.randbytes(rng.randint(0, 2000))
    kinds = [b"PK\x03\x04" + rng.randbytes(500), b"%PDF-1.7\n" + rng.randbytes(500), b"<svg/>", b"{}"]
    kinds += [b"GIF89a" + rng.randbytes(100), array.getvalue(), dicom, rng.randbytes(rng.randint(1, 3000))]
    return rng.choice([*kinds, bomb(), b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"P5 9999999 9999999 255\n"])


def malformed(rng: random.Random) -> bytes:
    """What is no request that can be answered."""
    return rng.choice(
        [
            rng.randbytes(rng.randint(1, 500)) + b"\r\n\r\n",
            b"POST /predict HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"b" * 40000 + b"\r\n\r\n",
            post(b"x", "Transfer-Encoding: chunked"),
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            b"DELETE /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ]
    )


KINDS = {
    "harmed": 30,
    "truncated": 25,
    "wrong type": 20,
    "malformed": 10,
    "oversized": 5,
    "gone": 6,
    "slow": 4,
}


async def hostile(kind: str, rng: random.Random, good: list[bytes], port: int) -> str:
    """One request of a kind; the status of its answer, or what happened instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if kind == "gone":  # the client goes away in the middle
            request = post(rng.choice(good))
            writer.write(request[: rng.randrange(1, len(request))])
            await writer.drain()
            await asyncio.sleep(rng.random() * 0.05)
            return "client gone"
        if kind == "slow":
            request = post(rng.choice(good), "Connection: close")
            begin = rng.choice([0, request.index(b"\r\n\r\n")])  # of the headers, or of the body
            writer.write(request[:begin])
            for i in range(begin, len(request), 8):
                writer.write(request[i : i + 8])
                await writer.drain()
                await asyncio.sleep(0.5)
                if reader.at_eof() or reader._buffer:
                    break
        elif kind == "oversized":
            length = rng.choice([MOST + 1, 2 * MOST, 1 << 40])
            writer.write(post(bytes(min(length, 2 * MOST)), "Connection: close", length=length))
        else:
            body = {"harmed": harmed, "truncated": truncated}.get(kind)
            content = body(rng, good) if body else wrong(rng)
            request = malformed(rng) if kind == "malformed" else post(content, "Connection: close")
            writer.write(request)
            if kind == "malformed":
                writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
        return line.split()[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"
    except ConnectionError:
        return "closed"
    finally:
        writer.transport.abort()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """(status, body) of a request on a connection that stays open."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    return int(head.split()[1]), await reader.readexactly(length)


async def ask_once(port: int, request: bytes) -> tuple[int, bytes]:
    """The same on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask(reader, writer, request)
    finally:
        writer.close()


def expected(student: str, content: bytes, folder: str) -> dict:
    """What `Predictor` says of a file of these bytes, as the server has it."""
    path = Path(folder, "good.png")
    path.write_bytes(content)
    predictor = Predictor(student)
    return answer_of(next(iter(predictor.rows(path))), predictor.classes)


async def campaign(server: Server, student: str, requests: int, seed: int, folder: str) -> None:
    """Send hostile requests and print what became of them."""
    good = [picture(32, i, form) for i, form in enumerate(("PNG", "JPEG", "TIFF", "BMP"))]
    answer = expected(student, good[0], folder)
    rng, outcomes, checks = random.Random(seed), Counter(), Counter()
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=requests)
    turn, usages = asyncio.Semaphore(AT_ONCE), []

    async def one(kind: str) -> None:
        async with turn:
            try:
                outcome = await hostile(kind, random.Random(rng.random()), good, server.port)
            except TimeoutError:
                outcome = "no answer"
            outcomes[kind, outcome] += 1

    for start in range(0, requests, 100):
        await asyncio.gather(*(one(kind) for kind in kinds[start : start + 100]))
        status, body = await ask_once(server.port, post(good[0]))
        told = json.loads(body) if status == 200 else {}
        checks[all(told.get(name) == value for name, value in answer.items())] += 1
        if 10 * (start + 100) // requests > len(usages):
            usages.append(server.usage())
    await asyncio.sleep(6)  # connections that were left open have been closed by then
    usages.append(server.usage())
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"{kind:<12} {outcome:<12} {count:>6}")
    print(f"good images answered as by Predictor: {checks[True]}, otherwise: {checks[False]}")
    print("after each tenth, and at the end:")
    for private, files, numbers in usages:
        print(f"  {private:.1f} MiB, {files} open files, {len(numbers)} processes")
    _, text = await ask_once(server.port, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    print(*re.findall(rb"^kdtf_workers\S* .*$", text, re.MULTILINE), sep="\n")


async def load(server: Server, clients: int, seconds: float) -> None:
    """So many clients for some seconds; a line of the table."""
    request, times, wrong = post(picture(64, 0, "PNG")), [], 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while (began := time.perf_counter()) < end:
            status, _ = await ask(reader, writer, request)
            wrong += status != 200
            times.append(1000 * (time.perf_counter() - began))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    cuts = statistics.quantiles(times, n=100)
    rate = len(times) / seconds
    print(f"| {clients} | {rate:,.0f} | {cuts[49]:.1f} | {cuts[98]:.1f} | {wrong} |", flush=True)


def main() -> None:
    """Read the arguments and run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["hostile", "load"])
    parser.add_argument("student")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    student = str(Path(arguments.student).resolve())
    limits = ("--max-mib", "1", "--timeout", "3") if arguments.what == "hostile" else ()
    with TemporaryDirectory() as folder:
        server = Server(student, folder, "--workers", arguments.workers, *limits)
        try:
            if arguments.what == "hostile":
                asyncio.run(campaign(server, student, arguments.requests, arguments.seed, folder))
            else:
                print("| clients | images a second | median ms | p99 ms | refused |\n|---|---|---|---|---|")
                for clients in CLIENTS:
                    asyncio.run(load(server, clients, arguments.seconds))
        finally:
            said = server.end()
        records = [json.loads(line) for line in server.log.read_text().splitlines()]
        faults = Counter(record["error"] for record in records if "error" in record)
        print(f"exit code {server.process.returncode}; {len(records)} log records, faults: {dict(faults)}")
        print(f"on stderr: {said!r}")


if __name__ == "__main__":
    main()
