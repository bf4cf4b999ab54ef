"""Sources to import, and what came of them: shared by the tests of `prepare`."""

import io
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from kdtf.errors import UserError
from kdtf.prepare import PrepareConfig, prepare
from kdtf.progress import Progress

SIDE = 8  # px: squares of this size come back unresized


def noise(seed, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def truncated(path):
    save(path, noise(0, (64, 64)), quality=90)
    path.write_bytes(path.read_bytes()[:-900])


def tree(root, splits=("train", "val", "test"), classes=("a", "b"), each=3):
    """SPLIT/CLASS/N.png of noise, or CLASS/N.png with `splits` of one empty name."""
    for i, (split, name, n) in enumerate((s, c, n) for s in splits for c in classes for n in range(each)):
        save(root / split / name / f"{n}.png", noise(i))
    return root


def packed(path, files):
    """A .tgz of {name: bytes}; returns its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def run(source, out, progress=None, **settings):
    return prepare(source, PrepareConfig(out=str(out), **{"size": SIDE, **settings}), progress or Progress())


def read(out, name):
    return np.load(out / f"{name}.npy", allow_pickle=False)


def content(folder):
    """{relative path: bytes} of all there is, folders as None."""
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(source, out, message, **settings):
    """`prepare` ends with `message` (`*` for anything), in one line, and leaves everything as it was."""
    before = content(source.parent)
    with pytest.raises(UserError, match=re.escape(message).replace(r"\*", ".*")) as caught:
        run(source, out, **settings)
    assert "\n" not in str(caught.value) and content(source.parent) == before
