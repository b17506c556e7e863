"""The pictures of an explained prediction: what each sample and each feature did to it, and how it came about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from commonprior.explanation import Explanation, Trace
from commonprior.monitor._html import Markup, clean, element, join
from commonprior.monitor._svg import ACCENT, INK, MUTED, WARN, drawn
from commonprior.monitor._words import count, figure

MOST_BARS = 16
"""Of more samples or features the strongest are drawn, and the rest as one bar."""

_LONGEST = 26
_TRACE = "Dashed: the final prediction. The error is on the whole support."
_STEPS = (1, 2, 2.5, 5, 10)


def explanation_block(why: Explanation, prefix: str) -> Markup:
    """Return one prediction in a sentence and in pictures; `prefix` is its own on the page."""
    effect = f"effect on {why.about}"
    samples = effect_plot(*_strongest(why.samples, why.left_out, why.influence, "sample"), effect, f"{prefix}s-")
    features = effect_plot(
        *_strongest(why.features, why.attribution, np.full(len(why.features), np.nan), "feature"), effect, f"{prefix}f-"
    )
    panels = [
        _panel("Support samples", samples, _about_samples(why)), _panel("Features", features, _about_features(why)),
        _panel("Samples one by one", trace_plot(why.growth, why.about, "samples", f"{prefix}g-"), _TRACE),
    ]  # fmt: skip
    if len(why.steps.at):
        panels.append(_panel("Inner steps", trace_plot(why.steps, why.about, "inner steps", f"{prefix}t-"), _TRACE))
    return join(element("p", {"class": "large"}, _summary(why)), element("div", {"class": "panels"}, *panels))


def effect_plot(names: Sequence[str], values: np.ndarray, marks: np.ndarray, label: str, prefix: str) -> Markup:
    """Return a bar a name from 0 to its value, in order; `marks` are hollow diamonds, NaN where there is none."""

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        at = np.arange(len(values))
        axes.barh(at, values, height=0.62, color=[ACCENT if value >= 0 else WARN for value in values])
        axes.plot(marks, at, "D", markersize=5, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.1)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set(ylim=(len(values) - 0.4, -0.6))
        axes.set_yticks(at, [_short(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.set_title(clean(label), loc="left", color=MUTED, pad=8)

    told = ", ".join(f"{clean(name)} {figure(float(value))}" for name, value in zip(names, values, strict=True))
    return drawn(draw, (5.2, 0.9 + 0.27 * len(values)), f"{label}: {told}", prefix)


def trace_plot(trace: Trace, label: str, what: str, prefix: str) -> Markup:
    """Return a prediction, and below it the error on the support, by how many samples or steps led there."""

    def draw(page: Figure) -> None:
        above, below = page.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _line(above, trace.at, trace.predictions, f"prediction: {label}", ACCENT)
        above.axhline(trace.predictions[-1], color=MUTED, linewidth=0.8, linestyle=(0, (4.0, 2.0)), zorder=0)
        _line(below, trace.at, trace.errors, "error on the support", INK)
        below.set_xlabel(what)
        below.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=_STEPS))

    ends = f"{figure(float(trace.predictions[0]))} to {figure(float(trace.predictions[-1]))}"
    return drawn(draw, (5.2, 3.9), f"{label} after 0 to {trace.at[-1]} {what}: {ends}", prefix)


def _line(axes: Axes, at: np.ndarray, values: np.ndarray, label: str, colour: str) -> None:
    axes.plot(at, values, color=colour, marker="o" if len(at) <= 30 else "", markersize=3.4)
    axes.set_title(clean(label), loc="left", color=MUTED, pad=6)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))


def _strongest(
    names: Sequence[str], values: np.ndarray, marks: np.ndarray, noun: str
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, values and marks, strongest first, what is beyond `MOST_BARS` as one."""
    order = np.argsort(-np.abs(values), kind="stable")
    if len(order) <= MOST_BARS:
        return [str(names[i]) for i in order], values[order], marks[order]
    order, others = order[: MOST_BARS - 1], order[MOST_BARS - 1 :]
    shown = [*(str(names[i]) for i in order), count(len(others), f"other {noun}")]
    return shown, np.append(values[order], values[others].sum()), np.append(marks[order], marks[others].sum())


def _summary(why: Explanation) -> str:
    sample, feature = (int(np.argmax(np.abs(effects))) for effects in (why.left_out, why.attribution))
    return (
        f"{why.about}: {figure(why.prediction)}. Support sample {why.samples[sample]} did most to it "
        f"({_signed(why.left_out[sample])}); of its own features, {why.features[feature]} "
        f"({_signed(why.attribution[feature])})."
    )


def _panel(title: str, plot: Markup, caption: str) -> Markup:
    return element("figure", None, element("h3", None, title), plot, element("figcaption", None, caption))


def _about_samples(why: Explanation) -> str:
    bars = "Bars: the prediction less what it would be without the sample."
    if why.is_smooth:
        return f"{bars} Diamonds: its derivative by the sample's weight, through the adaptation."
    return f"{bars} No derivative is shown: to this learner a sample counts in full or not at all."


def _about_features(why: Explanation) -> str:
    total = why.prediction - why.baseline
    text = (
        f"Integrated gradients: how {figure(why.baseline)}, the prediction for the baseline (the support's average "
        f"sample unless another was given), became {figure(why.prediction)}."
    )
    if math.isfinite(why.unexplained) and abs(why.unexplained) > 0.01 * abs(total):
        text += f" {figure(why.unexplained)} of it is unexplained."
    return text


def _signed(value: float) -> str:
    return f"+{figure(float(value))}" if value > 0 else figure(float(value))


def _short(name: str) -> str:
    name = clean(name)
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
