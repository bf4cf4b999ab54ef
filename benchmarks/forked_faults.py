"""A thousand kills, a hundred signals, power cuts and readers, of runs that are forked: see `forked_runs`.

    python benchmarks/faults.py kills --kills 1000 [--seed 0] [--jobs 2] [--done FILE]

Kills and signals come in chains: a run is cut off, the same command goes on from what that left and is cut
off again, until one comes to its end. After every cut what stands must be the reference's, byte for byte,
and so must all results at the end of a chain. What a kill spoils is thus seen at once, and what it leaves
behind is met by all that follow.

    kills     SIGKILL before each write, rename and removal of a run in turn; the end of the process in the
              middle of each file (by a limit on its size, which the kernel enforces); then SIGKILL at random
              moments until there are as many as asked for
    signals   SIGINT and SIGTERM in turn at random moments: exit code 130 or 143 and one line
    power     what a power cut leaves of a run (`power_cut`): every moment looked at, some of them resumed
    readers   `report`, `status` and `predict` over and over while runs write the same folder
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from forked_runs import LINE, End, Forked, Operation, Shim, import_all

SAME = ("fsync",)  # a process that is killed leaves the same before and after it
LONGEST = 1.2  # CPU seconds to a random cut: a process that finds all finished takes a third of it


class Chain:
    """Runs in one folder, each cut off but the last. Says what was wrong; counts cuts and finished chains."""

    def __init__(self, work: Forked, number: int, seed: int, done: Path):
        self.work, self.rng, self.done = work, random.Random(f"{seed} {number}"), done
        self.results = work.folder / f"chain{number}" / "r"
        self.cuts, self.finished, self.wrong = Counter[str](), 0, list[str]()

    def new_folder(self) -> None:
        shutil.rmtree(self.results.parent, ignore_errors=True)
        self.results.parent.mkdir()

    def go(
        self, kind: str, cut: Callable[[], tuple[End, str]], wanted: Callable[[End], bool], most: int
    ) -> None:
        """Cut runs off until one comes to its end, or `most` were; what is `wanted` of one that was cut."""
        if not self.results.parent.exists():
            self.new_folder()
        while self.cuts[kind] < most:
            end, what = cut()
            if end.code == 0:
                self._finished()
                return
            self.cuts[kind] += 1
            wrong = "" if wanted(end) else f"exit code {end.code}: {end.error[-300:]}"
            self._note(what, wrong or self.work.harm(self.results))
        self.close()

    def close(self) -> None:
        """The same command to its end, after the last cut."""
        end = self.work.run(self.results)
        if end.code:
            self._note("the run after the last cut", f"exit code {end.code}: {end.error[-300:]}")
        else:
            self._finished()

    def _finished(self) -> None:
        self.finished += 1
        self._note("the end of a chain", self.work.same(self.results))
        self.new_folder()

    def _note(self, what: str, wrong: str) -> None:
        if wrong:
            self.wrong.append(f"{what}: {wrong}")
            print(f"FAILED {self.wrong[-1]}", flush=True)


class Cutter:
    """Ends a run, in its own process, before an operation that no run was ended at before, or in it."""

    def __init__(self, work: Forked, results: Path, done: set[str], share: tuple[int, int], log: Path):
        self.work, self.results, self.done, self.share, self.log = work, results, done, share, log
        heard = {own.path.rpartition("/")[2] for own in work.operations if own.what == "open"}
        files = (own for own in work.reference.glob("work/*/*") if own.is_file())
        self.sizes = {own.name: own.stat().st_size for own in work.reference.rglob("*") if own.is_file()}
        self.native = {own.parent.name: own.name for own in files if own.name not in heard}

    def __call__(self) -> None:
        """Begin to listen, in the process of a run."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        Shim(self.results, self._hear)

    def _hear(self, operation: Operation, paths: tuple[Path, ...]) -> None:
        if operation.what in SAME:
            return
        name = f"{operation.what} {operation.path}"
        if self._is_new(name):
            self._note(name)
            os.kill(os.getpid(), signal.SIGKILL)
        file = self._file_of(operation, paths)
        size = self.sizes.get(file, 0)
        name = f"half of {operation.path} {file}"
        if size > 1 and self._is_new(name):
            self._note(name)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))

    def _file_of(self, operation: Operation, paths: tuple[Path, ...]) -> str:
        """The file that is written next: the one opened, or in a new folder what native code writes."""
        if operation.what == "open":
            name = operation.path.rpartition("/")[2]
            return name.removeprefix(".").removesuffix(".part")
        if operation.what == "rename" and paths[-1].parent.name == "work":
            return self.native.get(operation.path.rpartition("work/.")[2].removesuffix(".part"), "")
        return ""

    def _is_new(self, name: str) -> bool:
        number, of = self.share
        return name not in self.done and sum(name.encode()) % of == number

    def _note(self, name: str) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(name) + "\n")
            file.flush()
        self.done.add(name)


def names_in(log: Path) -> list[str]:
    """The operations at which runs were ended so far."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def kills(chain: Chain, kills: int, share: tuple[int, int]) -> None:
    """A chain that is killed at each operation of this share in turn, then chains killed at random."""
    work, results = chain.work, chain.results

    def at_an_operation() -> tuple[End, str]:
        before = names_in(chain.done)
        end = work.run(results, before=Cutter(work, results, set(before), share, chain.done))
        new = names_in(chain.done)[len(before) :]
        return end, new[-1] if new else "nothing new"

    def ended(end: End) -> bool:
        return end.code in (-signal.SIGKILL, -signal.SIGXFSZ)

    chain.go("at operations", at_an_operation, ended, kills)
    while sum(chain.cuts.values()) < kills:
        most = kills - chain.cuts["at operations"]
        chain.go("at random", lambda: at_random(chain, signal.SIGKILL), ended, most)


def signals(chain: Chain, kills: int, share: tuple[int, int]) -> None:
    """Chains of runs that are asked to stop, in the two ways."""
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143}
    sent = list[signal.Signals]()

    def cut() -> tuple[End, str]:
        sent.append((signal.SIGINT, signal.SIGTERM)[chain.cuts["signals"] % 2])
        return at_random(chain, sent[-1])

    def told(end: End) -> bool:
        return end.code == codes[sent[-1]] and end.error.splitlines()[-1:] == [LINE]

    while chain.cuts["signals"] < kills:
        chain.go("signals", cut, told, kills)


def at_random(chain: Chain, number: int) -> tuple[End, str]:
    """A run that is sent a signal after so many CPU seconds."""
    moment = chain.rng.uniform(0.05, LONGEST)
    end = chain.work.finish(chain.work.start(chain.results), chain.results, moment, number)
    return end, f"{signal.Signals(number).name} after {moment:.2f} CPU seconds"


def power(chain: Chain, kills: int, share: tuple[int, int]) -> None:
    """Power cuts: see `power_cut`."""
    import power_cut

    for what, wrong in power_cut.tries(chain.work, chain.rng, kills, share):
        chain.cuts[what] += 1
        chain._note(what, wrong)


def readers(chain: Chain, kills: int, share: tuple[int, int]) -> None:
    """Runs that write one folder, two settings in turn, and beside them four that read it."""
    import reading

    counts, wrong = reading.beside_runs(chain.work, chain.results, kills, chain.rng)
    chain.cuts.update(counts)
    for line in wrong:
        chain._note("readers", line)


CAMPAIGNS = {own.__name__: own for own in (kills, signals, power, readers)}


def shares(
    campaign: str, work: Forked, args: argparse.Namespace, done: Path
) -> Iterator[tuple[Counter, int, list]]:
    """A campaign in as many processes at once as asked for: the cuts, finished chains and faults of each."""
    pids = []
    for number in range(args.jobs):
        out = work.folder / f"counts{number}"
        pid = os.fork()
        if not pid:
            chain = Chain(work, number, args.seed, done)
            try:
                CAMPAIGNS[campaign](chain, -(-args.kills // args.jobs), (number, args.jobs))
            except BaseException as error:
                chain.wrong.append(repr(error))
                raise
            finally:
                out.write_text(json.dumps([chain.cuts, chain.finished, chain.wrong]))
                sys.stdout.flush()
                os._exit(0)
        pids.append((pid, out))
    for pid, out in pids:
        os.waitpid(pid, 0)
        cuts, finished, wrong = json.loads(out.read_text())
        yield Counter(cuts), finished, wrong


def run(args: argparse.Namespace) -> int:
    """A campaign; the exit code."""
    began = time.monotonic()
    import_all()
    with tempfile.TemporaryDirectory() as folder:
        work = Forked(Path(folder))
        print(f"the reference: {work.seconds:.1f} CPU s, {len(work.operations)} operations", flush=True)
        done = Path(args.done).absolute() if args.done else Path(folder, "done")
        earlier = len(names_in(done))
        cuts, finished, wrong = Counter[str](), 0, list[str]()
        for own, chains, faults in shares(args.fault, work, args, done):
            cuts, finished, wrong = cuts + own, finished + chains, wrong + faults
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    kinds = ", ".join(f"{count} {kind}" for kind, count in cuts.items())
    skipped = f"; {earlier} operations had been tried before" if earlier else ""
    ended = f"{finished} chains came to their end"
    print(f"{args.fault}: {kinds}{skipped}; {ended}; {len(wrong)} faults")
    print(f"{used:.0f} CPU s, {time.monotonic() - began:.0f} s")
    return int(bool(wrong))
