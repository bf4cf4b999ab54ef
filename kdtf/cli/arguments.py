"""Settings as command-line arguments: the flags, their help lines and types, presets and TOML files."""

import argparse
import sys
import typing
from dataclasses import Field, fields
from pathlib import Path

from .. import __version__
from ..config import Config, Section, flag, read_toml
from ..errors import UserError, require_known

PRESETS = Path(__file__).parent / "presets"
DEMO = "demo"  # a preset that has a flag of its own
RUN_HELP = (
    "Fine-tune teachers on chest images, distil each into a small student, quantize it to .tflite, and "
    "report all of them. 'audit' looks the data over and stops there, 'status' lists the finished "
    "stages, 'report' makes report.html again. These have a --help of their own: 'prepare' makes arrays "
    "of images, 'fetch' downloads open data, 'reports' classifies report texts; 'predict' runs a "
    "finished student on images, 'bench' measures what it costs, 'c-array' makes C source of it, 'page' "
    "a web page that runs it."
)


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit."""

    def error(self, message: str) -> typing.NoReturn:
        """Raises `UserError`."""
        raise UserError(f"{message}. See --help.")


def program_name() -> str:
    """What the program was called as: main.py, kdtf, or python -m kdtf."""
    called = Path(sys.argv[0])
    return "python -m kdtf" if called.name == "__main__.py" else called.name or "kdtf"


def new_parser(command: str, usage: str, description: str) -> Parser:
    """A parser of a command's own; `usage` is what follows its name."""
    name = f"{program_name()} {command}".strip()
    return Parser(
        prog=name,
        usage=f"{name} {usage}",
        description=description,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )


def add_section(parser: Parser, defaults: Section) -> None:
    """The flags of a section of settings."""
    group = parser.add_argument_group(type(defaults).__doc__.splitlines()[0])
    for setting in fields(defaults):
        _add_flag(group, setting, getattr(defaults, setting.name))


def _add_flag(group: argparse._ArgumentGroup, setting: Field, default: object) -> None:
    text = setting.metadata["help"].replace("%", "%%")
    if isinstance(default, bool):
        state = "on" if default else "off"
        help_line = f"{text} [{state}]"
        group.add_argument(flag(setting.name), action=argparse.BooleanOptionalAction, help=help_line)
        return
    if isinstance(default, tuple):
        kind, several = typing.get_args(setting.type)[0], {"nargs": "+"}
        default = " ".join(map(str, default)) or None
    else:
        # the type of an optional setting is in its annotation, "int | None" say
        name = getattr(setting.type, "__name__", str(setting.type))
        kind, several = next(k for k in (int, float, str) if k.__name__ in name), {}
    suffix = "" if default is None else f" [{default}]"
    metavar = setting.metadata["metavar"]
    group.add_argument(flag(setting.name), type=kind, metavar=metavar, help=text + suffix, **several)


def run_parser(commands: typing.Iterable[str]) -> Parser:
    """The arguments of a run, made from the fields of `Config`: grouped, one line of help each."""
    parser = new_parser("", f"[{' | '.join(commands)}] [settings]", RUN_HELP)
    parser.add_argument("--version", action="version", version=f"kdtf {__version__}")
    parser.add_argument("--status", action="store_true", help="the same as the command 'status'")
    text = "a synthetic chest phantom and a short recipe: nothing is downloaded"
    parser.add_argument("--demo", action="store_true", help=text)
    text = f"settings of a known system: {', '.join(preset_names())}"
    parser.add_argument("--preset", metavar="NAME", help=text)
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings; flags override it")
    for section in fields(Config):
        add_section(parser, getattr(Config(), section.name))
    return parser


def read_config(argv: list[str], commands: typing.Iterable[str] = ()) -> tuple[Config, bool]:
    """The run's settings, and whether it is the demo. Raises `UserError`."""
    values = vars(run_parser(commands).parse_args(argv))
    values.pop("status", None)
    demo = values.pop("demo", False)
    preset = DEMO if demo else values.pop("preset", None)
    if preset:
        require_known("--preset", preset, [*preset_names(), DEMO])
    config = Config.from_dict(read_toml(PRESETS / f"{preset}.toml")) if preset else Config()
    if "config" in values:
        nested = read_toml(values.pop("config"))
        Config.from_dict(nested)  # names and values are checked section by section
        config = config.with_values({k: v for section in nested.values() for k, v in section.items()})
    return config.with_values(values), preset == DEMO


def preset_names() -> list[str]:
    """The presets of a known system; the demo has a flag of its own."""
    return sorted(path.stem for path in PRESETS.glob("*.toml") if path.stem != DEMO)
