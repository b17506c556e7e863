"""What the prior predicted for tasks that nobody trained on, and whether its error bars can be believed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from commonprior.monitor._html import Markup, element, paragraph
from commonprior.monitor._metrics import target_unit
from commonprior.monitor._plots import MOST_DRAWN, Z90, prediction_plot
from commonprior.monitor._words import count, figure, percent
from commonprior.task import TaskSpec

ENOUGH = 50
"""From fewer predictions than this nothing is said of the intervals but the share."""


def prediction_block(frame: pd.DataFrame, spec: TaskSpec) -> Markup:
    """Return truth against prediction of rows (task, truth, mean, sd), and the coverage of the 90% intervals."""
    truth, mean, sd = (np.asarray(frame[name], np.float64) for name in ("truth", "mean", "sd"))
    kept = np.isfinite(truth) & np.isfinite(mean) & np.isfinite(sd) & (sd >= 0)
    if not kept.any():
        return paragraph("None of the predictions is a finite number.")
    tasks = len(set(frame["task"].astype(str)[kept]))
    truth, mean, sd = truth[kept], mean[kept], sd[kept]
    inside = float(np.mean(np.abs(truth - mean) <= Z90 * sd))
    caption = [f"{spec.target.name}: {count(len(truth), 'prediction')} of {count(tasks, 'task')} nobody trained on."]
    if len(truth) > MOST_DRAWN:
        caption.append(f"{MOST_DRAWN} of them are drawn.")
    if len(truth) < len(frame):
        caption.append(f"{count(len(frame) - len(truth), 'row')} without finite numbers left out.")
    caption.append("Bars are central 90% intervals; the dashed line is a perfect prediction. Root mean square error "
                   f"over all: {figure(float(np.sqrt(np.mean((truth - mean) ** 2))))}.")  # fmt: skip
    legend = element(
        "ul", {"class": "legend"},
        element("li", None, element("span", {"class": "dot round", "style": "--c:var(--accent)"}), "truth inside"),
        element("li", None, element("span", {"class": "dot turned", "style": "--c:var(--warn)"}), "truth outside"),
    )  # fmt: skip
    beside = element(
        "div", None, element("p", {"class": "large"}, f"{percent(inside)} of truths lie in the 90% interval"),
        paragraph(_judged(inside, len(truth))), legend, element("p", {"class": "caption"}, " ".join(caption)),
    )  # fmt: skip
    plot = prediction_plot(truth, mean, sd, target_unit(spec) or spec.target.name, "p-")
    return element("div", {"class": "side"}, element("figure", None, plot), beside)


def _judged(inside: float, predictions: int) -> str:
    if predictions < ENOUGH:
        return "That is too few predictions to judge the intervals by."
    if inside < 0.85:
        return "The intervals are too narrow: the prior is more confident than it should be."
    if inside > 0.95:
        return "The intervals are too wide: the prior is less confident than it could be."
    return "On the whole, the error bars can be believed."
