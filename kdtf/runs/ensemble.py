"""The tasks of an ensemble: the mean of what its members said already. No network is run."""

from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp

from .fitted import MEASURED
from .perform import Workspace
from .stages import LOGITS, VAL_LOGITS


def label_views(space: Workspace, temperature: float) -> None:
    """Logits (V, N, K) whose softmax at a temperature is the mean of the members' at that temperature.

    And those of val (n, K), where the members have labelled it.
    """
    folders = list(space.inputs.values())
    parts = [np.load(folder / LOGITS, mmap_mode="r") for folder in folders]
    mean = np.lib.format.open_memmap(space.folder / LOGITS, "w+", np.float32, parts[0].shape)
    with space.progress.bar(f"{space.title}: labelling", len(mean)) as advance:
        for v in range(len(mean)):
            mean[v] = mean_logits([part[v] for part in parts], temperature)
            advance(v + 1)
    mean.flush()
    if all((folder / VAL_LOGITS).exists() for folder in folders):
        val = mean_logits([np.load(folder / VAL_LOGITS) for folder in folders], temperature)
        np.save(space.folder / VAL_LOGITS, val)


def mean_logits(logits: list[np.ndarray], temperature: float) -> np.ndarray:
    """T * log of the mean of softmax(z / T) over some logits z (N, K); float32 (N, K)."""
    log_probs = [log_softmax(z.astype(np.float64) / temperature, axis=-1) for z in logits]
    mean = logsumexp(np.stack(log_probs), axis=0) - np.log(len(logits))
    return (temperature * mean).astype(np.float32)


def evaluate(space: Workspace) -> None:
    """What the ensemble says of val and test, and the time that all its members take for one image."""
    measured = [_measured(folder) for folder in space.inputs.values()]
    arrays = {name: np.stack([own[name] for own in measured]) for name in measured[0]}
    probs = {name: arrays[name].mean(axis=0) for name in ("val_probs", "test_probs")}
    np.savez(space.folder / MEASURED, allow_pickle=False, latency_ms=arrays["latency_ms"].sum(), **probs)


def _measured(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / MEASURED, allow_pickle=False) as stored:
        return dict(stored)
