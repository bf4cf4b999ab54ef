"""TensorFlow's start-up noise, stopped where it comes from.

TensorFlow 2.21, its converter and the LiteRT runtime write to file descriptor 2 from C++, partly
before any log level is read. Inside `native_noise` that descriptor is caught; lines known to be noise
are dropped and everything else is passed on, so that no real warning is lost.
"""

import os
import re
import sys
import tempfile
from contextlib import contextmanager
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
def native_noise():
    """Drop known noise written to file descriptor 2 meanwhile; pass on the rest, also after an error."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines()
            rest = [line for line in lines if line.strip() and not NOISE.search(line)]
            if rest:
                sys.stderr.write("\n".join(rest) + "\n")
