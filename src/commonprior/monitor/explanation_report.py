"""Explained predictions as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from commonprior.appendlog import write_whole
from commonprior.explanation import Explanation
from commonprior.monitor._explanation import explanation_block
from commonprior.monitor._html import element, paragraph
from commonprior.monitor._page import page
from commonprior.monitor._words import count


def write_explanations(name: str, explained: Sequence[tuple[str, Explanation]], path: Path) -> None:
    """Write what each prediction (its sample's name, its explanation) rests on. The same data gives the same bytes."""
    write_whole(path, render_explanations(name, explained))


def render_explanations(name: str, explained: Sequence[tuple[str, Explanation]]) -> bytes:
    """Return the file as UTF-8 HTML that needs nothing else."""
    shots = max((len(why.samples) for _, why in explained), default=0)
    told = (
        f"{count(len(explained), 'prediction')} after {count(shots, 'support sample')}. An effect says what the "
        "prediction would be without a sample, or with an average feature in the place of its own: it explains the "
        "model, not nature."
    )
    header = element(
        "header", None,
        element("p", {"class": "kicker"}, "commonprior, explained predictions"), element("h1", None, name),
        paragraph(told),
    )  # fmt: skip
    sections = {sample: explanation_block(why, f"e{n}") for n, (sample, why) in enumerate(explained)}
    return page(name, header, sections, "commonprior. One file, no script, nothing loaded from elsewhere.")
