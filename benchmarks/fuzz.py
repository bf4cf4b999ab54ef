"""A coverage-guided fuzzer (atheris, `pip install atheris`) on everything of ours that reads a file.

    python benchmarks/fuzz.py all --student S.tflite --seconds 200 --out findings   # every target in turn
    python benchmarks/fuzz.py card --student S.tflite --out findings                # one, until stopped

A target reads bytes as one kind of file and may refuse them with the exceptions meant for that;
whatever else comes out is a finding, kept in `--out` with the input that made it, and so are more than
2 GiB of memory and 25 s for one input. Starts from the good files of `tests/harmful_files.py` and goes on
from `--out`'s corpus.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def _file(content: bytes, name: str) -> Path:
    path = SCRATCH / name
    path.write_bytes(content)
    return path


def array(content: bytes) -> None:
    """.npy: as an image, and as labels or pixels."""
    for read in (lambda p: predictor.map_images(p), lambda p: arrays.map_npy(p, "X")):
        refused(lambda read=read: read(_file(content, "a.npy")))


def shards(content: bytes) -> None:
    """A whole shard and one of these bytes, as one array."""
    good = np.zeros((3, 9, 9), np.uint8)  # as the good file to begin with
    np.save(SCRATCH / "s" / "X_train-00000-of-00002.npy", good)
    _file(content, "s/X_train-00001-of-00002.npy")
    refused(lambda: _gathered(SCRATCH / "s"))


def zarr(content: bytes) -> None:
    """The note of a zarr store, of either format."""
    for note in ("zarr.json", ".zarray"):
        folder = SCRATCH / "z" / note
        (folder / "X_train.zarr" / "c" / "0").mkdir(parents=True, exist_ok=True)
        for chunk in ("0.0", "c/0/0"):
            (folder / "X_train.zarr" / chunk).write_bytes(bytes(16))
        (folder / "X_train.zarr" / note).write_bytes(content)
        refused(lambda folder=folder: _gathered(folder))


def _gathered(folder: Path) -> None:
    with gathered(folder, SCRATCH / "work") as files:
        for name, path in files.values():
            arrays.map_npy(path, name)
            path.unlink()


def line(content: bytes) -> None:
    """A run's command line, a token in each line of the input, up to where data would be opened."""
    argv = [os.fsdecode(token) for token in content.split(b"\n")]
    if not all(map(is_kept_in, argv)):
        return

    def read():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):  # of --help
            settings = arguments.read_config(argv, PARSERS[""])
            check_names(settings)

    refused(read)


def archive(content: bytes) -> None:
    """.npz with MedMNIST's or Keras' keys."""

    def read():
        with arrays.unpacked(_file(content, "a.npz"), SCRATCH / "work") as files:
            for name, path in files.values():
                arrays.map_npy(path, name)

    refused(read)
    for path in (SCRATCH / "work").glob("*"):
        path.unlink()


def image(content: bytes) -> None:
    """PNG, JPEG, TIFF, BMP, all the way to pixels."""
    refused(lambda: predictor.to_pixels(predictor.read_image(_file(content, "a.png")).image, (8, 8, 3), True))


def dicom(content: bytes) -> None:
    """DICOM, all the way to pixels."""
    refused(lambda: predictor.to_pixels(predictor.read_dicom(_file(content, "a.dcm")).image, (8, 8, 1), True))


def card(content: bytes) -> None:
    """A bundle's .json, and one image by it; the checksum is made to fit."""

    def read():
        try:
            facts = json.loads(content)
            facts["sha256"] = SHA256
        except (ValueError, TypeError, RecursionError):
            text = content
        else:
            text = json.dumps(facts).encode()
        _file(text, "s.json")
        student = predictor.Predictor(SCRATCH / "s.tflite")
        list(student.rows([SCRATCH / "zeros.npy"]))

    refused(read)


def table(content: bytes) -> None:
    """Reports as CSV."""
    refused(lambda: read_corpus(_file(content, "a.csv"), TextConfig(folds=2)))


def groups(content: bytes) -> None:
    """A table of patients."""
    table = _file(content, "g.csv")
    refused(lambda: by_table(["a/1.png", "b/2.png"], read_groups(table), table.name))


def subgroups(content: bytes) -> None:
    """A table of groups beside the arrays."""
    refused(lambda: read_tables({"test": _file(content, "subgroups_test.csv")}, {"test": 2}))


def log(content: bytes) -> None:
    """A log of predictions: what is no line of ours is counted, and none is refused."""
    folder = SCRATCH / "log"
    folder.mkdir(exist_ok=True)
    (folder / "predictions.jsonl").write_bytes(content)
    refused(lambda: read_log(folder, SHA256, ("a", "b")))


def model(content: bytes) -> None:
    """A text model as JSON."""
    refused(lambda: text_models.load_model(_file(content, "m.json")).probabilities(["no effusion"]))


def settings(content: bytes) -> None:
    """TOML settings."""
    refused(lambda: config.Config.from_dict(config.read_toml(_file(content, "s.toml"))))


def stage(content: bytes) -> None:
    """The note of a finished stage."""
    folder = SCRATCH / "r" / "work" / "x-0123456789abcdef"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / stage_folders.NOTE).write_bytes(content)
    stage_folders.list_stages(SCRATCH / "r")


SHA256 = CARD = ""  # of the student the cards are for
READERS = (
    *(
        array,
        shards,
        zarr,
        archive,
        image,
        dicom,
        card,
        table,
        groups,
        subgroups,
        log,
        model,
        settings,
        stage,
    ),
    line,
)
TARGETS = {reader.__name__: reader for reader in READERS}


LOGGED = (
    '{{"time": "2026-11-02T00:00:00.000Z", "model": "{}", "class": "a", '
    '"probabilities": {{"a": 1.0, "b": 0.0}}, '
    '"uncertain": false, "unlike": false, "warning": "", '
    '"statistics": {{"brightness": 1.0, "contrast": 2.0, "colour": 0.0, "layout": 3.0}}}}\n'
)


def refused(read) -> None:
    """Call; what a command would tell in one line is no finding."""
    try:
        read()
    except (UserError, predictor.BundleError, predictor.Unusable) as error:
        assert "\n" not in str(error), repr(str(error))


def seeds(target: str, corpus: Path) -> None:
    """Good files to begin with."""
    import harmful_files

    kinds = {
        "array": ("image npy",),
        "shards": ("image npy",),
        "archive": ("npz",),
        "image": ("png", "jpeg", "tiff", "bmp"),
    }
    kinds |= {"dicom": ("dicom",), "table": ("csv",), "settings": ("toml",)}
    for kind in kinds.get(target, ()):
        with tempfile.TemporaryDirectory() as folder:
            files, _ = harmful_files.KINDS[kind](Path(folder), Path("none.tflite"))
            for i, path in enumerate(files):
                (corpus / f"good-{kind}-{i}".replace(" ", "-")).write_bytes(path.read_bytes())
    note = {"zarr_format": 2, "shape": [4, 4], "chunks": [4, 4], "dtype": "|u1", "compressor": None}
    texts_of = {
        "line": "\n".join(WORKING[""].split()),
        "zarr": json.dumps(note | {"fill_value": 0, "order": "C", "filters": None}),
        "card": CARD,
        "groups": "file,group\na/1.png,p1\nb/2.png,p2\n",
        "subgroups": "sex,site\nF,a\nM,b\n",
        "log": LOGGED.format(SHA256),
        "stage": '{"kind": "x", "settings": {}, "inputs": {}, "seconds": 1.5, "sha256": {"a": "b"}}',
        "model": json.dumps(
            {"format": text_models.FORMAT, "settings": {}, "stop_words": ["the"], "vocabulary": ["a", "b"]}
            | {"log_prior": [-0.7, -0.7], "log_likelihood": [[-0.7, -0.7], [-0.7, -0.7]]}
        ),
    }
    if target in texts_of:
        (corpus / "good").write_text(texts_of[target])


def fuzz_all(args) -> int:
    failed = []
    for target in TARGETS:
        argv = [sys.executable, __file__, target, "--out", args.out, "--seconds", str(args.seconds)]
        argv += ["--student", args.student]
        done = subprocess.run(argv, capture_output=True, text=True)
        last = [line for line in done.stderr.splitlines() if "cov:" in line or "DONE" in line][-1:]
        print(f"{target}: exit code {done.returncode}; {' '.join(last)}", flush=True)
        if done.returncode:
            failed.append(target)
            print(done.stderr[-3000:], flush=True)
    print(f"{len(TARGETS)} targets, {args.seconds} s each; findings in: {', '.join(failed) or 'none'}")
    return len(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=0, help="of each target; 0 is until stopped")
    parser.add_argument("--student", required=True, help="a .tflite with its .json, small")
    parser.add_argument("--out", required=True, help="folder for the corpus and the findings")
    args = parser.parse_args()
    if args.target == "all":
        sys.exit(fuzz_all(args) > 0)
    global SHA256, CARD
    CARD = Path(args.student).with_suffix(".json").read_text()
    facts = json.loads(CARD)
    SHA256 = facts["sha256"]
    shutil.copy(args.student, SCRATCH / "s.tflite")
    np.save(SCRATCH / "zeros.npy", np.zeros((2, 9, 9), np.uint8))
    out = Path(args.out).absolute()
    corpus = out / args.target
    corpus.mkdir(parents=True, exist_ok=True)
    os.chdir(SCRATCH)  # what a line names is looked for there
    seeds(args.target, corpus)
    flags = [f"-artifact_prefix={out}/{args.target}-", "-rss_limit_mb=2048", "-timeout=25"]
    flags += ["-max_len=32768", f"-max_total_time={args.seconds}", str(corpus)]
    atheris.Setup([sys.argv[0], *flags], TARGETS[args.target])
    atheris.Fuzz()


if __name__ == "__main__":
    import atheris
    import numpy as np

    with atheris.instrument_imports(include=["kdtf"]):
        from kdtf import config, predictor, stage_folders
        from kdtf.cli import arguments
        from kdtf.data import arrays
        from kdtf.data.shards import gathered
        from kdtf.data.subgroups import read_tables
        from kdtf.drift.reading import read_log
        from kdtf.errors import UserError
        from kdtf.prepare.groups import by_table
        from kdtf.prepare.groups import read_table as read_groups
        from kdtf.runs.check import check_names
        from kdtf.texts import model as text_models
        from kdtf.texts.corpus import TextConfig, read_corpus
    from harmful_commands import WORKING, is_kept_in, parsers

    PARSERS = parsers()
    SCRATCH = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    (SCRATCH / "s").mkdir()
    main()
