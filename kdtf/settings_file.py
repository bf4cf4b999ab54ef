"""A file of settings, as the presets are and as --config takes one: TOML, a table a section."""

import tomllib
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import require_file


def read_toml(path: str | Path) -> dict[str, Any]:
    """The nested settings of a TOML preset. Raises `UserError` where it cannot be read."""
    path = Path(path)
    require_file(path, "--config")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows put a mark first
    except OSError as error:
        raise UserError(
            f"--config must be a readable TOML file. Got {str(path)!r} ({error.strerror})."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, a table in a table in a ...
        raise UserError(f"--config must be valid TOML. {path} is not: {error}.") from None
