"""What a metric is called, in which unit it is, and which way is better."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from commonprior.task import TaskSpec

Verdict = Literal["better", "worse", "no clear difference", ""]
"""How a contestant stands to the reference, by its paired difference; empty where that is not known."""


class Metric(NamedTuple):
    """A metric for people. `up` is 1 where higher is better, -1 where lower is, 0 where neither is."""

    name: str
    label: str
    unit: str
    up: Literal[-1, 0, 1]
    meaning: str

    @property
    def axis(self) -> str:
        """The label of an axis: name, unit, and which way is better."""
        unit = f" ({self.unit})" if self.unit else ""
        way = {1: ", higher is better", -1: ", lower is better", 0: ""}[self.up]
        return f"{self.label}{unit}{way}"

    def verdict(self, difference: float, low: float, high: float) -> Verdict:
        """Return what a paired difference to the reference, with its interval, says; a tie where it includes 0."""
        if self.up == 0 or not all(map(math.isfinite, (difference, low, high))):
            return ""
        if low <= 0 <= high:
            return "no clear difference"
        return "better" if difference * self.up > 0 else "worse"


_KNOWN = {
    "r2": ("R²", 1, "share of a task's variance that is explained; 1 is perfect, 0 the task's mean"),
    "rmse": ("Root mean square error", -1, "typical size of an error"),
    "spearman": ("Rank correlation", 1, "Spearman's: whether samples are put in the right order"),
    "nll": ("Negative log-likelihood", -1, "punishes errors and wrong confidence together"),
    "coverage_90": ("Coverage of 90% intervals", 0, "share of true values inside; 0.9 is right, less is overconfident"),
    "accuracy": ("Accuracy", 1, "share of samples whose class is right"),
    "delta_auprc": ("ΔAUPRC", 1, "average precision less the share of the sought class"),
}

HEADLINES = ("r2", "accuracy", "rmse", "spearman", "delta_auprc", "nll")
"""The metric that leads, by what there is."""


def metric_of(name: str, spec: TaskSpec) -> Metric:
    """Return what is known of a metric; of one that is not known, neither way is called better."""
    label, up, meaning = _KNOWN.get(name, (name, 0, ""))
    if name not in _KNOWN and any(word in name.lower().split() for word in ("loss", "rmse", "nll", "error")):
        up = -1
    return Metric(name, label, target_unit(spec) if name == "rmse" else "", up, meaning)  # pyright: ignore[reportArgumentType]


def target_unit(spec: TaskSpec) -> str:
    """Return the unit that labels and predictions are in: the logarithm's where the recipe takes one."""
    target = spec.target
    return f"log10 {target.unit}".strip() if target.transform == "log10" else target.unit


def target_label(spec: TaskSpec) -> str:
    """Return the target's name with its unit."""
    unit = target_unit(spec)
    return f"{spec.target.name} ({unit})" if unit and unit != spec.target.name else spec.target.name
