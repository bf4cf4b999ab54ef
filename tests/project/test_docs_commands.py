"""Every command that README and report print: short ones are run, long ones parsed and let in at the door.

Those that `fetch` prints are run in tests/prepare/test_fetch_commands.py.
"""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdtf.cli.arguments import preset_names, read_config
from kdtf.cli.commands import COMMANDS
from kdtf.cli.deploy_commands import DEPLOY_COMMANDS
from kdtf.cli.entry import main
from kdtf.cli.run import RUN_COMMANDS
from kdtf.config import Config
from kdtf.report.page import command
from kdtf.runs.check import check_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = "python main.py "
OTHERS = ("pip", "npm", "python -m http.server", "python -m pytest")  # programs that are not ours
XRAYS = ("person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "person78_virus_140.jpeg")
NORMAL = ("IM-0001-0001.jpeg", "IM-0003-0001-0002.jpeg", "NORMAL2-IM-0501-0001.jpeg")


def commands_of(text):
    """The shell lines of a page, in blocks and in sentences, each once."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [part.strip() for line in blocks.splitlines() for part in line.split("#")[0].split("&&")]
    inline = re.findall(r"`(python (?:main\.py|-m)[^`]*)`", text)
    return list(dict.fromkeys(filter(None, [*lines, *(" ".join(own.split()) for own in inline)])))


LINES = commands_of(README)
OURS = [line.removeprefix(PROGRAM) for line in LINES if line.startswith(PROGRAM)]
DEPLOYED = [line for line in OURS if line.split()[0] in DEPLOY_COMMANDS]  # with extras, or without an end
SHORT = [line for line in OURS if line.split()[0] in {**COMMANDS, **RUN_COMMANDS}.keys() - DEPLOY_COMMANDS]
LONG = [line for line in OURS if line not in (*SHORT, *DEPLOYED)]


def test_all_commands_of_the_readme_are_known():
    named = {line.split()[0] for line in SHORT}
    known = {*COMMANDS, *RUN_COMMANDS} - DEPLOY_COMMANDS.keys()
    assert named == known, "say in the README how each command is called"
    assert {line.split()[0] for line in LONG} == {"--demo", "--teachers", "--help", "--preset"}
    rest = [line for line in LINES if not line.startswith((PROGRAM, *OTHERS))]
    assert set(rest) == {"python main.py", "python -m kdtf"}  # a run of the default settings


def test_the_files_that_other_programs_are_given_are_there():
    named = [
        word for line in LINES if line.startswith("pip") for word in line.split() if word.endswith(".txt")
    ]
    assert named and all((ROOT / name).is_file() for name in named)
    assert "npm ci --prefix web" in LINES and (ROOT / "web/package-lock.json").is_file()


@pytest.fixture
def place(tmp_path, tiny, finished, monkeypatch):
    """A working folder with what the commands name."""
    for folder, names in (("NORMAL", NORMAL), ("PNEUMONIA", XRAYS)):
        for split in ("train", "test"):
            for i, name in enumerate(names):
                path = tmp_path / "FOLDER" / split / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(i).integers(0, 256, (20, 30), dtype=np.uint8)
                Image.fromarray(noise).save(path)
    where = (
        "left lobe",
        "right lobe",
        "hilum",
        "apex",
        "pleura",
        "lingula",
        "carina",
        "base",
        "trachea",
        "septum",
    )
    found = (("clear", "normal"), ("nodule", "abnormal"))
    rows = "".join(f"{text} {place},none,{label}\n" for place in where for text, label in found)
    (tmp_path / "FILE.csv").write_text("findings,impression,label\n" + rows)
    shutil.copytree(tiny, tmp_path / "FData")
    results = tmp_path / "Results"
    shutil.copytree(finished, results, ignore=shutil.ignore_patterns("*.tflite"))
    for name, own in (("vgg16", "mobilenet"), ("alone", "alone")):
        for suffix in ("tflite", "json"):
            shutil.copy(finished / f"{own}_Student_int8.{suffix}", results / f"{name}_Student_int8.{suffix}")
    (tmp_path / "scans").mkdir()
    for path in (tmp_path / "scans/a.png", tmp_path / "one.png"):
        Image.new("L", (40, 40), 90).save(path)
    (tmp_path / "web").mkdir()
    if (ROOT / "web/node_modules").is_dir():
        (tmp_path / "web/node_modules").symlink_to(ROOT / "web/node_modules")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(line):
    """The words of a command as a shell has them, NAME as `list`."""
    words = ["list" if word == "NAME" else word for word in shlex.split(line)]
    return [own for word in words for own in (map(str, sorted(Path().glob(word))) if "*" in word else [word])]


@pytest.mark.parametrize("line", SHORT)
def test_a_short_command_of_the_readme_does_what_it_says(line, place, capsys):
    words = words_of(line)
    if words[0] == "page" and not (place / "web/node_modules").exists():
        pytest.skip("no LiteRT.js: run `npm ci` in web/")
    if words[0] == "prepare":
        shutil.rmtree(place / "FData")
    if words[0] == "reports":
        words += ["--results", "texts"]
    assert main(words) == 0, capsys.readouterr().err
    made = {"page": "site/index.html", "predict": "said.csv", "bench": "Results/bench.csv",
            "c-array": "firmware/student.cc", "prepare": "FData/X_train.npy"}  # fmt: skip
    assert words[0] not in made or (place / made[words[0]]).is_file()
    assert "unknown" not in capsys.readouterr().err  # no patient of the X-rays, whose pattern it is


@pytest.mark.parametrize("line", DEPLOYED)
def test_a_command_for_devices_has_the_flags_that_the_readme_gives_it(line, capsys):
    name, *words = shlex.split(line)
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out.split()
    assert {word for word in words if word.startswith("--")} <= {word.rstrip(",") for word in text}


@pytest.mark.parametrize("line", [line for line in LONG if "NAME" not in line and "--help" not in line])
def test_a_long_command_of_the_readme_gets_past_the_door(line, place, capsys):
    config = read_config(shlex.split(line))
    check_names(config)
    if config.data.demo:  # 14 seconds of drawing; CI runs it, from the wheel
        return
    assert main(["audit", *shlex.split(line), "--results", "audited"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_of_the_readme_is_known_and_complete(name):
    assert f"| `{name}` |" in README
    check_names(read_config(["--preset", name]))


# The command that a report prints

CONFIGS = {
    "the default": {},
    "lists": {"teachers": ("cnn5", "vgg16"), "sides": (32, 64), "alphas": (0.1, 0.5)},
    "switches": {"flip": False, "ensemble": True, "mixed": True, "strict": True},
    "text to be quoted": {"data": "a b/c's", "class_names": ("no lesion", "$HOME"), "log_dir": "t b"},
    "numbers": {"alpha": 0.25, "seed": 7, "threads": 2, "min_sensitivity": 0.9},
}


@pytest.mark.parametrize("start", [Config(), Config.demo()], ids=["plain", "demo"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_of_a_report_gives_its_settings(name, start):
    changed = {k: v for k, v in CONFIGS[name].items() if not (start.data.demo and k == "data")}
    config = start.with_values(changed)
    words = shlex.split(command(json.loads(json.dumps(config.to_dict()))))
    assert words[:2] == ["python", "main.py"] and ("--demo" in words) == start.data.demo
    assert read_config(words[2:]) == config


def test_the_command_in_a_report_gives_the_settings_in_its_manifest(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    [line] = [html.unescape(own) for own in re.findall(r"python main\.py[^<]*--results[^<]*", page)]
    config = Config.from_dict(json.loads((finished / "manifest.json").read_text())["config"])
    assert read_config(shlex.split(line)[2:]) == config
