"""The note that `prepare` leaves beside the arrays it makes, and what a run reads of it.

`prepare` writes the note; here is what identifies it, so that nothing below `prepare` has to know more.
"""

import json
from pathlib import Path

from ..files import Digest, file_digest

PROVENANCE = "provenance.json"
MADE_BY = "kdtf prepare"


def prepared(folder: Path, digest: Digest = file_digest) -> dict:
    """How `prepare` made the images in `folder`: side, keep_aspect and window; {} where it did not.

    An image that a device is shown is made in the same way. {} also where the arrays have been replaced
    since.
    """
    try:
        note = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        ours = note["made_by"] == MADE_BY
        if not ours or note["sha256"]["X_train.npy"] != digest(folder / "X_train.npy"):
            return {}
        settings = note["settings"]
        return {
            "side": settings["size"],
            "keep_aspect": settings["keep_aspect"],
            "window": list(settings["window"]),
        }
    except (OSError, ValueError, LookupError, TypeError):  # other arrays, or none
        return {}
