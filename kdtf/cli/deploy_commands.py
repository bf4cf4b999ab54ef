"""The commands that take a student to other places: an NPU, another runtime, a server."""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import require
from ..files import disk_errors, require_file, written_aside
from .arguments import Parser, new_parser
from .bundles import bundle_errors, require_bundle
from .drift import log_of, run_drift
from .streams import new_terminal
from .terminal import one_line


def run_npu(argv: list[str]) -> None:
    """`npu FILE.tflite`: a student compiled for an Arm Ethos-U."""
    from ..native_log import native_noise
    from ..tflite.npu import NPUS, check_npu, compiled, require_any_operator

    description = "Compile an int8 student for an Arm Ethos-U NPU, by Vela, and say what it costs there."
    parser = new_parser("npu", "FILE.tflite [--ethos-u NPU] [--out DIR]", description)
    parser.add_argument("file", metavar="FILE.tflite", help="the student; no .json is needed")
    text = f"one of {', '.join(NPUS)} [ethos-u55-128]"
    parser.add_argument("--ethos-u", metavar="NPU", help=text, default="ethos-u55-128")
    parser.add_argument("--out", metavar="DIR", help="folder for the compiled file [.]", default=".")
    arguments = parser.parse_args(argv)
    check_npu(arguments.ethos_u, "--ethos-u")
    file = Path(arguments.file)
    require_file(file, "FILE.tflite")
    require(file.is_file(), "FILE.tflite", "a file", arguments.file)
    with bundle_errors(), native_noise():
        content, cost = compiled(file.read_bytes(), file, arguments.ethos_u)
    require_any_operator(cost, file)
    out = Path(arguments.out, f"{file.stem}_{arguments.ethos_u}.tflite")
    with disk_errors(arguments.out, "--out", ""), written_aside(out) as target:
        target.write(content)
    print(one_line(f"{file.name}: {cost.in_words}"))
    print(f"Written: {one_line(str(out))}, {len(content):,} bytes.")


def run_export(argv: list[str]) -> None:
    """`export FILE.tflite --to onnx`: a student for another runtime."""
    from ..native_log import native_noise
    from ..tflite.onnx_export import check_float, onnx_of

    description = "Write a float32 student as an ONNX file that answers as it does."
    parser = new_parser("export", "FILE.tflite --to onnx [--out DIR]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="a float32 student; its .json is beside it")
    parser.add_argument("--to", metavar="FORMAT", help="onnx", required=True, choices=["onnx"])
    parser.add_argument("--out", metavar="DIR", help="folder for the file [.]", default=".")
    arguments = parser.parse_args(argv)
    bundle = Path(arguments.bundle)
    require_bundle(arguments.bundle, "FILE.tflite")
    out = Path(arguments.out, f"{bundle.stem}.onnx")
    with bundle_errors():
        check_float(bundle)
        with native_noise():
            content, agreement = onnx_of(bundle)
    with disk_errors(arguments.out, "--out", ""), written_aside(out) as file:
        file.write(content)
    print(
        f"In ONNX Runtime {agreement.images} images have the same classes, and probabilities at most "
        f"{agreement.difference:.1g} apart."
    )
    print(f"Written: {one_line(str(out))}, {len(content):,} bytes, opset {agreement.opset}.")


def run_serve(argv: list[str]) -> None:
    """`serve FILE.tflite`: a student behind HTTP. Its log goes to stdout, a line of JSON a request."""
    from datetime import UTC, datetime

    from ..extras import require_extras
    from ..serve.settings import ServerSettings

    arguments = _serve_parser().parse_args(argv)
    values = vars(arguments)
    bundle = values.pop("bundle")
    token, folder = _token(values.pop("token_file", None)), values.pop("log", None)
    settings = ServerSettings(token=token, **values)
    require_extras("serve", "fastapi", "uvicorn")
    require_bundle(bundle, "FILE.tflite")
    from ..serve.server import serve

    terminal = new_terminal()

    def log(record: dict[str, Any]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": time, **record}), flush=True)

    def started(url: str) -> None:
        who = "with the token" if token else "from this computer"
        terminal.say(f"{one_line(bundle)} answers {who} at {url}/predict until Ctrl-C.")

    with bundle_errors():
        serve(Path(bundle), settings, log, started, log_of(folder, bundle) if folder else None)


def _serve_parser() -> Parser:
    from ..serve.settings import TOKEN_VARIABLE, ServerSettings, default_workers

    usual = ServerSettings()
    description = (
        "Answer POST /predict, whose body is a PNG, JPEG, TIFF, BMP or DICOM file, with what the student "
        "says of it in JSON; /health and /metrics too. Research use only."
    )
    parser = new_parser("serve", "FILE.tflite [settings]", description)
    parser.add_argument("bundle", metavar="FILE.tflite", help="the student; its .json is beside it")
    text = f"IP address to listen at; any but {usual.host} needs a token [{usual.host}]"
    parser.add_argument("--host", metavar="ADDRESS", help=text, default=usual.host)
    text = f"port to listen at, 0 for any that is free [{usual.port}]"
    parser.add_argument("--port", metavar="N", type=int, help=text, default=usual.port)
    text = f"file whose first line is the token that clients send [{TOKEN_VARIABLE} of the environment]"
    parser.add_argument("--token-file", metavar="FILE", help=text)
    text = f"most MiB of an image [{usual.max_mib:g}]"
    parser.add_argument("--max-mib", metavar="MIB", type=float, help=text, default=usual.max_mib)
    text = f"most requests a second of one address, 0 for any number [{usual.rate:g}]"
    parser.add_argument("--rate", metavar="N", type=float, help=text, default=usual.rate)
    text = f"seconds in which a request must be answered [{usual.timeout:g}]"
    parser.add_argument("--timeout", metavar="S", type=float, help=text, default=usual.timeout)
    workers = default_workers()
    text = f"processes that run the student [{workers}]"
    parser.add_argument("--workers", metavar="N", type=int, help=text, default=workers)
    text = f"most requests that wait for one of them [{usual.queue}]"
    parser.add_argument("--queue", metavar="N", type=int, help=text, default=usual.queue)
    text = f"most connections that are open [{usual.connections}]"
    parser.add_argument("--connections", metavar="N", type=int, help=text, default=usual.connections)
    text = "append a line an image to the log there, for `drift`: numbers and classes, no pixels, no names"
    parser.add_argument("--log", metavar="DIR", help=text)
    return parser


def _token(path: str | None) -> str:
    """The token in a file or in the environment. Raises `UserError` for a file without one."""
    from ..serve.settings import TOKEN_VARIABLE

    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "")
    require_file(path, "--token-file")
    with disk_errors(path, "--token-file", ""):
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    token = lines[0].strip() if lines else ""
    require(token, "--token-file", "a file whose first line is a token", path)
    return token


DEPLOY_COMMANDS = {"npu": run_npu, "export": run_export, "serve": run_serve, "drift": run_drift}
