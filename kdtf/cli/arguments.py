"""Settings as command-line arguments: the flags, their help lines and types, presets and TOML files."""

import argparse
import re
import shlex
import sys
import typing
from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from pathlib import Path

from .. import __version__
from ..config import Config
from ..errors import UserError, require, require_known
from ..sections import Section, flag
from ..settings_file import read_toml
from .terminal import columns_of, wrapped

PRESETS = Path(__file__).parent / "presets"
HELP_WIDTH = 110  # most columns of --help
DEMO = "demo"  # has a flag of its own and is not listed
RUN_HELP = (
    "Fine-tune teachers on chest images, distil each into a small student, quantize it to .tflite, and "
    "report all of them. Every command has a --help of its own: 'audit' looks the data over and stops "
    "there, 'status' lists the finished stages, 'report' makes report.html again; 'prepare' makes arrays "
    "of images, 'fetch' downloads open data, 'reports' classifies report texts; 'predict' runs a "
    "finished student on images, 'bench' measures what it costs, 'c-array' makes C source of it, 'page' "
    "a web page that runs it, 'npu' compiles it for an Ethos-U, 'export' writes it as ONNX, 'serve' answers "
    "over HTTP with it, 'drift' compares what it met with its training images."
)


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message: str) -> typing.NoReturn:
        """Raises `UserError`."""
        raise UserError(f"{message}. See --help.")


class PresetAction(argparse.Action):
    """Keeps the name of a preset; at `list` it prints a line for each and exits, as --version does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: typing.Any,
        option_string: str | None = None,
    ) -> None:
        """What argparse calls when it meets the flag."""
        if values == "list":
            print_list({name: preset_line(name) for name in preset_names()})
            parser.exit()
        setattr(namespace, self.dest, values)


def program_name() -> str:
    """What the program was called as: main.py, kdtf, or python -m kdtf."""
    program = Path(sys.argv[0])
    return "python -m kdtf" if program.name == "__main__.py" else program.name or "kdtf"


def command_line(*arguments: str) -> str:
    """A command of this program that can be given to a shell, as the program itself was called."""
    name = program_name()
    script = Path(sys.argv[0]).suffix == ".py" and name != "python -m kdtf"
    return f"{f'python {shlex.quote(sys.argv[0])}' if script else name} {shlex.join(arguments)}"


def new_parser(command: str, usage: str, description: str) -> Parser:
    """A parser of a command's own; `usage` is what follows its name."""
    name = f"{program_name()} {command}".strip()
    return Parser(
        prog=name,
        usage=wrapped(f"usage: {name} {usage}", sys.stdout, " " * 7).removeprefix("usage: "),
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=_help_width()),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )


def _help_width() -> int:
    """As wide as the terminal, where that is not too wide to read."""
    return min(HELP_WIDTH, columns_of(sys.stdout) or HELP_WIDTH)


def print_list(lines: Mapping[str, str]) -> None:
    """Names with what they are, a line each; on a terminal what is longer goes on below itself."""
    side = max(map(len, lines)) + 2
    for name, text in lines.items():
        print(wrapped(f"{name:<{side}}{text}", sys.stdout, " " * side))


def add_section(parser: Parser, defaults: Section, listed: Collection[str] | None = None) -> None:
    """The flags of a section of settings; the help lists those in `listed`, all of them for None."""
    title = (type(defaults).__doc__ or "").partition("\n")[0]
    group = parser.add_argument_group(wrapped(f"{title}:", sys.stdout).removesuffix(":"))
    for setting in fields(defaults):
        hidden = listed is not None and setting.name not in listed
        _add_flag(group, setting, getattr(defaults, setting.name), hidden=hidden)


def _add_flag(group: argparse._ArgumentGroup, setting: Field, default: object, *, hidden: bool) -> None:
    text = argparse.SUPPRESS if hidden else setting.metadata["help"].replace("%", "%%")
    if isinstance(default, bool):
        line = text if hidden else f"{text} [{'on' if default else 'off'}]"
        group.add_argument(flag(setting.name), action=argparse.BooleanOptionalAction, help=line)
        return
    several: dict[str, typing.Any] = {}
    if isinstance(default, tuple):
        kind, several = typing.get_args(setting.type)[0], {"nargs": "+"}
        default = " ".join(map(str, default)) or None
    else:
        # the type of an optional setting is in its annotation, "int | None" say
        name = getattr(setting.type, "__name__", str(setting.type))
        kind = next(k for k in (int, float, str) if k.__name__ in name)
    line = text if hidden or default is None else f"{text} [{default}]"
    metavar = setting.metadata["metavar"]
    group.add_argument(flag(setting.name), type=kind, metavar=metavar, help=line, **several)


def run_parser(
    command: str = "",
    usage: str = "[settings]",
    description: str = RUN_HELP,
    listed: Collection[str] | None = None,
) -> Parser:
    """A parser that takes every setting of a run, made from the fields of `Config`: one line of help each.

    Its help lists those in `listed`, all of them for None: a command that needs few of them still takes
    the command line of the run it belongs to.
    """
    parser = new_parser(command, usage, description)

    def add(name: str, text: str, **how: typing.Any) -> None:
        line = text if listed is None or name in listed else argparse.SUPPRESS
        parser.add_argument(flag(name), help=line, **how)

    add("version", "show program's version number and exit", action="version", version=f"kdtf {__version__}")
    add("status", "the same as the command 'status'", action="store_true")
    text = f"settings of a known system: {', '.join(preset_names())}; 'list' says what they are"
    add("preset", text, metavar="NAME", action=PresetAction)
    add("config", "TOML file of settings; flags override it", metavar="FILE")
    for section in fields(Config):
        add_section(parser, getattr(Config(), section.name), listed)
    return parser


def read_config(argv: list[str], parser: Parser | None = None) -> Config:
    """The run's settings: defaults, over them a preset or the demo, a file, flags. Raises `UserError`."""
    values = vars((parser or run_parser()).parse_args(argv))
    values.pop("status", None)
    demo, preset = values.get("demo", False), values.pop("preset", None)
    require(not (demo and preset), "--demo", "given without --preset", preset, "Choose one of the two.")
    config = Config.demo() if demo else preset_config(preset) if preset else Config()
    if "config" in values:
        nested = read_toml(values.pop("config"))
        Config.from_dict(nested)  # names and values are checked section by section
        config = config.with_values({k: v for section in nested.values() for k, v in section.items()})
    return config.with_values(values)


def preset_config(name: str) -> Config:
    """The settings of a preset. Raises `UserError` for an unknown one."""
    require_known("--preset", name, [*preset_names(), DEMO])
    return Config.demo() if name == DEMO else Config.from_dict(read_toml(PRESETS / f"{name}.toml"))


def preset_names() -> list[str]:
    """The presets of a known system."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_line(name: str) -> str:
    """What a preset is: the first sentence of the comment on top of its file, without its name."""
    lines = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))
    return re.split(r"(?<=\.)\s", comment.removeprefix(f"{name}: "))[0]
