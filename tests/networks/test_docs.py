"""The page about networks does what it says: its Python runs, from top to bottom."""

import re
from pathlib import Path

from commonprior import networks
from commonprior.plugin import kinds

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


def test_its_python_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    exec(compile("\n".join(blocks), "docs/networks.md", "exec"), names)
    assert {"small", "squares"} <= set(names)


def test_it_names_every_network():
    assert all(f"`{kind}`" in PAGE for kind in kinds(networks))
