"""What a run survives: faults at random moments, each followed by the same command to the end.

    python benchmarks/faults.py kill --tries 50 [--seed 0] [--jobs 2]

A small whole run (phantom, teacher `cnn5` frozen and then fine-tuned, two students, two recipes,
`--deterministic`) is the reference. After a fault the same command is given again; every file of the
results folder but the manifest, which holds seconds, must then be byte for byte the reference's.

    kill      SIGKILL at a random moment
    stop      SIGINT and SIGTERM in turn: exit code 130 or 143 and one line on stderr
    disk      a disk that is full at a random size, then larger (a tmpfs; needs root)
    readonly  a results folder on a file system that became read-only (needs root)
    damage    a file of the finished folder cut short, with a flipped bit, or gone
    nan       a learning rate that loses the loss: exit code 2, then a lower one
    together  two runs side by side, and a third that wants the first's folder and is refused
    memory    an address space too small for the run: one line, exit code 2, then enough

Thousands of runs would take days so. These campaigns fork theirs (`forked_faults`), and are limited by
`--kills` instead of `--tries`:

    kills     SIGKILL at every write and rename in turn, within every file, then at random moments
    signals   SIGINT and SIGTERM in turn, at random moments
    power     a power cut: only what was flushed to the disk is sure to be there
    readers   `report`, `status` and `predict` while runs write the same folder

Prints a line a try and a count; exit code 1 if any try failed. Tries are drawn from `--seed`, but when
a fault meets the run depends on the machine too.
"""

import argparse
import contextlib
import hashlib
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked_faults

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
RUN = shlex.split(
    "--teachers cnn5 --weights none --freeze --views 2 --epochs 12 --batch-size 8 --fine-tune-epochs 2 "
    "--scratch-epochs 2 --fine-tune-batch-size 8 --recipes float32 int8 --deterministic --threads 1"
)
LOST = "Traceback"


class Work:
    """A folder with the small data and the reference run on them, by RUN and `changes` to it."""

    def __init__(self, folder: Path, *changes: str):
        from kdtf.data import phantom

        self.folder, self.data, self.changes = folder, folder / "data", changes
        phantom.write(self.data, train=48, val=16, test=24, side=32, teacher_side=32, seed=1)
        self.reference = folder / "reference" / "r"
        self.reference.parent.mkdir()
        started = time.monotonic()
        done = self.finish(self.reference)
        self.seconds = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        self.expected = digests(self.reference)

    def command(self, results: Path, *more: str) -> list[str]:
        paths = ["--data", str(self.data), "--results", results.name]  # the report quotes them
        return [sys.executable, str(ROOT / "main.py"), *paths, *RUN, *self.changes, *more]

    def start(self, results: Path, *more: str, **how) -> subprocess.Popen:
        pipe = subprocess.PIPE
        how |= {"stdout": pipe, "stderr": pipe, "text": True, "cwd": results.parent}
        how.setdefault("preexec_fn", heard)
        return subprocess.Popen(self.command(results, *more), **how)

    def finish(self, results: Path, *more: str, **how) -> subprocess.CompletedProcess:
        process = self.start(results, *more, **how)
        out, error = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def same(self, results: Path) -> str:
        """ "" if the results are the reference's, else what differs."""
        found = digests(results)
        names = {n for n in {*found, *self.expected} if found.get(n) != self.expected.get(n)}
        return ", ".join(sorted(names))[:300]

    def goes_on(self, results: Path) -> str:
        """The same command again, to the end: "" or what is wrong."""
        done = self.finish(results)
        if done.returncode or LOST in done.stderr:
            return f"exit code {done.returncode}: {done.stderr[-300:]}"
        return self.same(results)


def heard() -> None:
    """A command in the background of a shell ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def digests(results: Path) -> dict[str, str]:
    """{file: sha256} of a results folder, the manifest and finished stages left out."""
    files = (p for p in results.iterdir() if p.is_file() and p.name != "manifest.json")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def signalled(work: Work, rng: random.Random, results: Path, number: int) -> tuple[float, float, int, str]:
    """A run that was sent a signal while it ran: the moment, seconds until it was gone, exit code, stderr."""
    most = 1.5 * work.seconds  # another try beside this one slows it down
    while True:
        moment = rng.uniform(0, most)
        process = work.start(results)
        time.sleep(moment)
        if process.poll() is None:
            break
        most = moment  # it was over before
        shutil.rmtree(results, ignore_errors=True)
    process.send_signal(number)
    asked = time.monotonic()
    out, error = process.communicate(timeout=120)
    code = process.returncode
    if "Everything is in" in out:  # it was over, and Python was putting its own things away
        shutil.rmtree(results)
        return signalled(work, rng, results, number)
    return moment, time.monotonic() - asked, code, error


def kill(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    moment, *_ = signalled(work, rng, results, signal.SIGKILL)
    stands = sum(not p.name.startswith(".") for p in (results / "work").glob("*-*"))
    return f"at {moment:.1f} s, {stands} stages stood", work.goes_on(results)


def stop(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    sent, code = ((signal.SIGINT, 130), (signal.SIGTERM, 143))[number % 2]
    moment, waited, got, error = signalled(work, rng, results, sent)
    what = f"{sent.name} at {moment:.1f} s, gone {waited:.1f} s later"
    told = error.strip().splitlines()[-1:] == [
        "Interrupted. What is finished is kept; the same command goes on from it."
    ]
    if got != code or not told:
        return what, f"exit code {got}: {error[-300:]}"
    return what, work.goes_on(results)


@contextlib.contextmanager
def small_disk(place: Path, size: int):
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def in_words(done, *wanted: str) -> str:
    """ "" if a run ended with exit code 2 and a last line that holds the `wanted` words."""
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode != 2 or LOST in done.stderr or not all(word in last for word in wanted):
        return f"exit code {done.returncode}: {done.stderr[-400:]}"
    return ""


def disk(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    from kdtf.stage_folders import list_stages

    whole = sum(f.stat().st_size for f in work.reference.rglob("*") if f.is_file())
    size = rng.randrange(whole // 50, whole)
    place = results.parent / "disk"
    results = place / "r"
    with small_disk(place, size) as remount:
        done = work.finish(results)
        wrong = in_words(done, "--results must be on a disk with room left", "stays valid")
        wrong = wrong or ", ".join(r["name"] for r in list_stages(results) if "damaged" in r["state"])
        if not wrong:
            remount(f"size={4 * whole}")
            wrong = work.goes_on(results)
    return f"full at {size / 2**10:,.0f} KiB", wrong


def readonly(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    moment = rng.uniform(2, work.seconds)
    place = results.parent / "disk"
    results = place / "r"
    with small_disk(place, 2**30) as remount:
        process = work.start(results)
        time.sleep(moment)
        process.send_signal(signal.SIGSTOP)
        subprocess.run(["mount", "-o", "remount,ro", place], capture_output=True, check=False)
        closed = not os.access(place, os.W_OK)
        process.send_signal(signal.SIGCONT)
        if not closed:  # a file was open for writing at that moment
            process.communicate(timeout=600)
            done = None
        else:
            out, error = process.communicate(timeout=600)
            done = subprocess.CompletedProcess([], process.returncode, out, error)
        wrong = ""
        if done and done.returncode:
            wrong = in_words(done, "--results must be writable")
        remount("rw")
        wrong = wrong or work.goes_on(results)
    return f"at {moment:.1f} s" + ("" if closed else " (busy: not closed)"), wrong


def damage(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    shutil.copytree(work.reference, results)
    path = rng.choice(sorted(p for p in results.rglob("*") if p.is_file()))
    how = ("cut short", "a flipped bit", "gone")[number % 3]
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut short":
        path.write_bytes(content[: rng.randrange(len(content))] if content else b"x")
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    return f"{path.relative_to(results)} {how}", work.goes_on(results)


def nan(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    rate = 10.0 ** rng.randint(20, 37)
    done = work.finish(results, "--learning-rate", str(rate))
    wrong = in_words(done, "The loss must stay finite", "in epoch", "lower learning rate")
    return f"--learning-rate {rate:.0e}", wrong or work.goes_on(results)


def memory(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    most = int(rng.uniform(1.0, 3.0) * 2**30)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    done = work.finish(results, preexec_fn=limit)
    wrong = "" if not done.returncode else in_words(done, "Memory must hold")
    if done.returncode < 0 and LOST not in done.stderr:  # the allocator of a native library gave up
        wrong = ""
    what = f"{most / 2**30:.2f} GiB of addresses: exit code {done.returncode}"
    return what, wrong or work.goes_on(results)


def together(work: Work, rng: random.Random, results: Path, number: int) -> tuple[str, str]:
    other = results.parent / "other" / "r"
    other.parent.mkdir()
    started = [work.start(results), work.start(other), work.start(results)]
    time.sleep(0.1)
    ended = [(process, *process.communicate(timeout=600)) for process in started]
    codes = sorted(process.returncode for process, *_ in ended)
    wrong = "" if codes == [0, 0, 2] else f"exit codes {codes}"
    refused = next((error for process, _, error in ended if process.returncode == 2), "")
    wrong = wrong or ("" if "that no other run is using" in refused else refused[-300:])
    return "two side by side, a third into the first's folder", wrong or work.same(results) or work.same(
        other
    )


FAULTS = {f.__name__: f for f in (kill, stop, disk, readonly, damage, nan, memory, together)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fault", choices=[*FAULTS, *forked_faults.CAMPAIGNS])
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--done", help="a file that keeps which operations were tried, to go on another day")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if args.fault in forked_faults.CAMPAIGNS:
        sys.exit(forked_faults.run(args))
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder))
        print(f"the reference run: {work.seconds:.1f} s, {len(work.expected)} files", flush=True)

        def once(number: int) -> bool:
            results = work.folder / f"try{number}" / "r"
            results.parent.mkdir()
            rng = random.Random(1000 * args.seed + number)
            what, wrong = FAULTS[args.fault](work, rng, results, number)
            print(f"{number:4} {args.fault} {what}: {wrong or 'as the reference'}", flush=True)
            shutil.rmtree(results.parent, ignore_errors=True)
            return not wrong

        with ThreadPoolExecutor(args.jobs) as pool:
            counts = Counter(pool.map(once, range(args.tries)))
        print(f"{args.fault}: {args.tries} tries, {counts[True]} passed")
    sys.exit(counts[False] > 0)


if __name__ == "__main__":
    main()
