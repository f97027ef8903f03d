"""How right label maps are: intersection over union of six groups of labels, pixel accuracy, confusions."""

import numpy as np

from fitter.label.soft_labels import HIDDEN, SoftLabels
from priors.clothing import LABELS

GROUPS = {
    "background": ("background",),
    "upper": ("upper-clothes", "dress", "coat", "jumpsuits", "scarf", "glove"),
    "lower": ("pants", "skirt", "socks"),
    "skin": ("face", "left-arm", "right-arm", "left-leg", "right-leg", "sunglasses"),
    "shoes": ("left-shoe", "right-shoe"),
    "hair": ("hair", "hat"),
}
NO_GROUP = 255
LEAST_PIXELS = 1e-3  # of all: groups below are not scored
GROUP_OF = np.full(256, NO_GROUP, np.uint8)  # by label id; hidden and unknown pixels are in none
for _number, _names in enumerate(GROUPS.values()):
    GROUP_OF[[LABELS.index(name) for name in _names]] = _number


def in_groups(soft: SoftLabels) -> SoftLabels:
    """The same answer with each group's probability on the group's first label.

    Its likeliest label is of the likeliest group, which is what the DSR terms see too; the likeliest single label need
    not be: coat and dress can share what trousers then win.
    """
    prob = np.zeros_like(soft.prob)
    prob[..., HIDDEN] = soft.prob[..., HIDDEN]
    for names in GROUPS.values():
        labels = [LABELS.index(name) for name in names]
        prob[..., labels[0]] = soft.prob[..., labels].sum(-1)
    return SoftLabels(prob, soft.window_px)


def confusion(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """[6, 7] pixels by true group and predicted group, the last column being what is predicted as hidden or unknown.

    Pixels whose truth is in no group are not counted.
    """
    rows, columns = GROUP_OF[true], GROUP_OF[predicted].astype(int)
    columns[columns == NO_GROUP] = len(GROUPS)
    counted = rows != NO_GROUP
    flat = rows[counted].astype(int) * (len(GROUPS) + 1) + columns[counted]
    return np.bincount(flat, minlength=len(GROUPS) * (len(GROUPS) + 1)).reshape(len(GROUPS), -1)


def group_iou(table: np.ndarray) -> np.ndarray:
    """[6] intersection over union from a confusion table."""
    hit = np.diag(table)
    return hit / np.maximum(table.sum(1) + table[:, : len(GROUPS)].sum(0) - hit, 1)


def mean_iou(table: np.ndarray) -> float:
    """Mean IoU of the groups that have LEAST_PIXELS or more of the true ones: what a cut left out is not scored."""
    return float(group_iou(table)[table.sum(1) >= LEAST_PIXELS * table.sum()].mean())


def group_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """miou and accuracy over groups, iou of each, and accuracy over the 20 labels."""
    table = confusion(predicted, true)
    iou = group_iou(table)
    known = true < HIDDEN
    return {
        "miou": mean_iou(table),
        "accuracy": float(np.diag(table).sum() / table.sum()),
        "label_accuracy": float((predicted == true)[known].mean()),
        **dict(zip(GROUPS, iou.tolist(), strict=True)),
    }
