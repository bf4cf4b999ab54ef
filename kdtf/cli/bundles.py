"""What commands that take a bundle have in common: a `.tflite` with its `.json`, and errors about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, require
from ..files import require_file
from .terminal import Terminal, one_line

if TYPE_CHECKING:
    from ..predictor import Predictor


def require_bundle(path: str, name: str) -> None:
    """Raise `UserError` where a bundle cannot be two files: what is not there the predictor says."""
    file = Path(path)
    require(file.name, name, "a .tflite file with its .json beside it", path)
    for own in (file, file.with_suffix(".json")):
        require_file(own, name)


def say_limits(predictor: "Predictor", terminal: Terminal) -> None:
    """What a card says against the answers that were given."""
    for sentence in predictor.limits:
        terminal.say(one_line(sentence))


@contextmanager
def bundle_errors() -> Iterator[None]:
    """A bundle or an image that cannot be used, as `UserError`: the predictor knows nothing of kdtf."""
    from ..predictor import BundleError

    try:
        yield
    except BundleError as error:
        raise UserError(str(error)) from None
