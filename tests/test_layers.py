"""The arrows of the design: a module imports only from its left, and plug-ins never import each other."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "commonprior"

ORDER = (
    ("errors",), ("canonical", "defence"),
    ("appendlog", "ballot", "identity", "plugin", "printing", "profiles", "task", "work"),
    ("prior", "session", "tables"),
    ("frame", "entry", "sampling"), ("tasks",), ("networks",), ("learners",), ("predictor",), ("suggestion",),
    ("baselines",), ("evaluation", "explanation", "continual"), ("privacy",), ("accountant",), ("sums",),
    ("aggregation",), ("comparisons",), ("engines",), ("site",), ("recipe",), ("round", "runfolder"), ("simulation",),
    ("ledger", "publicround"), ("loading", "planning"), ("contestants", "estimator"), ("coordinator",), ("training",),
    ("tuning", "surveys"), ("monitor",), ("auditing", "commands", "rewarding", "surveying"), ("cli",),
    ("__main__",),
)  # fmt: skip
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
PLUGIN_FOLDERS = ("tasks", "networks", "learners", "baselines", "privacy", "sums", "comparisons", "engines")
MAY_NAME_PLUGINS = {"cli", "commands", "training", "contestants", "estimator", "surveying"}
"""Assembly: these put concrete plug-ins together; everything else sees abstract classes only."""


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        yield ".".join(path.relative_to(SOURCE).with_suffix("").parts), path


def imports(path):
    """Every commonprior module that a file imports anywhere in it, as dotted names below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("commonprior"):
            base = node.module.removeprefix("commonprior").lstrip(".")
            for alias in node.names:
                is_module = (SOURCE / Path(*base.split("."), f"{alias.name}.py")).exists() if base else True
                yield f"{base}.{alias.name}".lstrip(".") if is_module else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("commonprior."):
                    yield alias.name.removeprefix("commonprior.")


ALL = list(modules())


def test_every_module_has_a_place():
    assert len(ALL) > 30
    assert {name.split(".")[0] for name, _ in ALL} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_imports_point_to_the_left(name, path):
    own = name.split(".")[0]
    if own == "__init__":
        return
    for imported in imports(path):
        top = imported.split(".")[0]
        if top in ("", "__init__"):
            continue
        assert RANK[top] <= RANK[own], f"{name} imports {imported}, which lies to its right"


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_plugins_are_named_only_where_things_are_put_together(name, path):
    own = name.split(".")
    for imported in imports(path):
        parts = imported.split(".")
        if len(parts) < 2 or parts[0] not in PLUGIN_FOLDERS or parts[1].startswith("_") or parts[1] == "__init__":
            continue
        allowed = own[0] in MAY_NAME_PLUGINS or (own[0] == parts[0] == "tasks")
        assert allowed, f"{name} names the plug-in {imported}"


def test_names_that_hide_what_is_inside():
    banned = {"utils", "util", "helpers", "common", "misc", "constants"}
    assert not {path.stem for _, path in ALL} & banned
