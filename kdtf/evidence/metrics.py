"""Scores from probabilities. NumPy and scikit-learn only, no TensorFlow; draws nothing."""

import numpy as np


def score(probs: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Accuracy, macro precision, recall, F1, macro one-vs-rest AUC and log loss.

    `probs` (N, K) rows summing to 1, `labels` (N,) ints. `auc` is None where a class is missing
    from `labels`, because it is undefined there. The loss clips probabilities at 1e-7.
    """
    from sklearn import metrics

    predicted = probs.argmax(axis=1)  # (N,)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(probs.shape[1]), average="macro", zero_division=0
    )
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": auc(probs, labels),
        "loss": log_loss(probs, labels),
    }


def auc(probs: np.ndarray, labels: np.ndarray) -> float | None:
    """Macro average of the one-vs-rest areas under the ROC curve; for two classes that of class 1."""
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < probs.shape[1]:
        return None
    return float(np.mean([roc_auc_score(labels == k, probs[:, k]) for k in range(probs.shape[1])]))


def log_loss(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(label), probabilities clipped at 1e-7 as Keras does."""
    chosen = probs[np.arange(len(labels)), labels]  # (N,)
    return float(-np.mean(np.log(np.clip(chosen, 1e-7, 1.0))))


def confusion(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (K, K), rows the true class, columns the predicted one."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probs.argmax(axis=1), labels=range(probs.shape[1]))


def classification_report(probs: np.ndarray, labels: np.ndarray, classes) -> list[dict]:
    """Precision, recall, F1 and support per class, then their macro and weighted averages."""
    from sklearn import metrics

    report = metrics.classification_report(
        labels,
        probs.argmax(axis=1),
        labels=range(len(classes)),
        target_names=list(classes),
        output_dict=True,
        zero_division=0,
    )
    accuracy = {
        "precision": None,
        "recall": None,
        "f1-score": np.mean(probs.argmax(1) == labels),
        "support": len(labels),
    }
    report["accuracy"] = accuracy
    return [{"class": name, **row} for name, row in report.items()]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (N, K) logits, in float64."""
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)
