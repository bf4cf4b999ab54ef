"""Images as they come -> the arrays a run reads, whole or not at all.

A folder of images (the rows of `formats`) or an .npz file becomes `X_*.npy`, `y_*.npy` and what goes with
them, once its classes and counts have been shown; a tree of folders that may mean something else is refused.
`fetch` downloads open data sets to make them of. The same source and settings give the same bytes,
whatever the number of workers. Nothing in an input file is executed, nothing of a DICOM header is kept, and
arrays that somebody else made are never replaced.
"""

from .importer import Summary, prepare
from .outline import Outline
from .settings import PrepareConfig

__all__ = ["Outline", "PrepareConfig", "Summary", "prepare"]
