"""The page about the ledger does what it says: its Python runs, its files, rules, terms and tests are there."""

import json
import re
from pathlib import Path

from commonprior.ledger.client import MOST_BALLOTS, MOST_MEMBERS, Rules
from commonprior.ledger.contract import CONTRACTS, artefact

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ledger.md").read_text()
CONTRACTS_PAGE = (ROOT / "contracts" / "README.md").read_text()


def test_its_python_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(compile("\n".join(blocks), "docs/ledger.md", "exec"), names)
    assert {"change", "rounds", "before"} <= set(names)


def test_the_files_that_both_pages_link_to_exist():
    for page, folder in ((PAGE, ROOT / "docs"), (CONTRACTS_PAGE, ROOT / "contracts")):
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", page) if "://" not in link]
        assert links
        assert all((folder / link).exists() for link in links)


def test_the_tests_that_both_pages_name_exist():
    here = {n for path in ROOT.glob("tests/**/*.py") for n in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
    named = set(re.findall(r"`(test_\w+)`", PAGE + CONTRACTS_PAGE))
    assert len(named) >= 3
    assert named <= here


def test_every_function_and_event_of_every_contract_is_in_the_table():
    for name in CONTRACTS:
        row = re.search(rf"^\| {name} \| .*", CONTRACTS_PAGE, re.M)[0]
        known = artefact(name)
        named = known.functions.keys() | {event["name"] for event in known._events.values()}
        words = set(re.findall(r"\w+", row))
        assert named <= words, f"{name}: {sorted(named - words)}"


def test_the_default_rules_and_limits_are_those_of_the_code():
    rules = Rules()
    said = {"tokens": "1,000 credits", "notice": "7 days", "least": "1 credit", "window": "1 day", "answer": "6 hours",
            "price": "1 credit"}  # fmt: skip
    unit = {"credit": 10**6, "day": 86_400, "hour": 3600}
    for rule, text in said.items():
        assert f"| `{rule}` | {text} |" in CONTRACTS_PAGE
        number, word = text.replace(",", "").split()
        assert getattr(rules, rule) == int(number) * unit[word.rstrip("s")]
    assert f"| members | {MOST_MEMBERS} |" in CONTRACTS_PAGE
    assert f"| ballots in a round | {MOST_BALLOTS} |" in CONTRACTS_PAGE


def test_the_gas_that_is_said_is_that_of_the_vector():
    spent = json.loads((ROOT / "tests" / "vectors" / "ledger_gas.json").read_text())
    said = set(re.findall(r"\d{2,3}(?:,\d{3})+", CONTRACTS_PAGE))
    assert {f"{gas:,}" for gas in spent.values()} <= said


def test_what_was_not_run_says_so_first():
    for file in (ROOT / "deploy" / "besu" / "docker-compose.yml", ROOT / "deploy" / "besu" / "README.md"):
        assert "not run by us" in " ".join(file.read_text().lower().split("\n")[:3])
