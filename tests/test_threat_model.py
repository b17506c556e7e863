"""The threat model's tests exist: a document that names what is not there is worse than none."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text()
HERE = {name for path in ROOT.glob("tests/**/*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
NAMED = sorted(set(re.findall(r"`(test_\w+)`", DOCUMENT)))


def test_it_names_tests_in_full():
    assert len(NAMED) > 50
    assert "…" not in DOCUMENT


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_it_names_exists(name):
    assert name in HERE


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]+)`", DOCUMENT))))
def test_a_file_that_it_names_exists(path):
    assert (ROOT / path).exists()


def test_every_attack_is_told():
    """An attack that nobody reads about is told nowhere: each file of attacks has at least one in the document."""
    for path in ROOT.glob("tests/**/test_*.py"):
        attacks = set(re.findall(r"^def (test_attack_\w+)", path.read_text(), re.M))
        assert not attacks or attacks & set(NAMED), f"{path.name} has attacks and the threat model names none of them"


@pytest.mark.parametrize("kind", ["plain", "masked", "committee", "paillier", "ckks", "grouped"])
def test_every_sum_has_a_row(kind):
    assert (ROOT / "src" / "commonprior" / "sums" / f"{kind}.py").exists()
    assert re.search(rf"^\| {kind}[ ,|(]", DOCUMENT, re.M)
