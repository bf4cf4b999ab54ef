"""TensorFlow's start-up noise, stopped where it comes from.

TensorFlow 2.21, its converter and the LiteRT runtime write to file descriptor 2 from C++, partly
before any log level is read. Inside `native_noise` that descriptor is caught; lines known to be noise
are dropped and everything else is passed on, so that no real warning is lost.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

NOISE = re.compile(
    r"All log messages before absl|^I0000 |^INFO: |cuda_platform\.cc|cudart_stub|computation_placer|"
    r"Unable to register cu|cpu_feature_guard|To enable the following instructions|^fully_quantize: |"
    r"tf_tfl_flatbuffer_helpers|flatbuffer_export|mlir_graph_optimization|Reading SavedModel|"
    r"^W0000 .*(Ignored|quantiz)|^Applying Transformations to tensors"
)


def set_environment() -> None:
    """Before TensorFlow is imported: only errors are logged, and no GPU is looked for where there is none."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


@contextmanager
def native_lines(receive: Callable[[list[str]], None]) -> Iterator[None]:
    """Catch what is written to file descriptor 2 meanwhile, from C++ too.

    `receive` is called with its lines at the end, also after an error; the descriptor is back by then.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines()
            receive([line for line in lines if line.strip()])


def native_noise() -> AbstractContextManager[None]:
    """Drop known noise written to file descriptor 2 meanwhile; pass on the rest, also after an error."""
    return native_lines(_pass_on)


def _pass_on(lines: list[str]) -> None:
    sys.stderr.writelines(f"{line}\n" for line in lines if not NOISE.search(line))
