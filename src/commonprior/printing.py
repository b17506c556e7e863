"""How the command line prints names and values. Imports nothing heavy: a refusal should not take seconds."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape


def print_pairs(console: Console, rows: Mapping[str, str]) -> None:
    """Print names and values, one a line; a hash is never broken, so that it can be copied."""
    width = max(map(len, rows))
    for left, right in rows.items():
        console.print(f"[bold]{left:<{width}}[/bold]  {escape(right)}", soft_wrap=True)
