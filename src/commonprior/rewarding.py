"""What `rewards` does: who earned what in a run, a pot to pay it from, and claims. `cli.py` parses and this prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from commonprior.ballot import Place
from commonprior.canonical import digest
from commonprior.entry import Opening
from commonprior.errors import InputError, LedgerError
from commonprior.identity import Identity
from commonprior.ledger.book import open_chain
from commonprior.ledger.client import Contracts
from commonprior.ledger.journal import Journal
from commonprior.ledger.rewards import CREDIT, Account, Payout, account_of, fund, payouts
from commonprior.recipe import read_recipe
from commonprior.runfolder import RunFolder


def show_rewards(run: Path, console: Console, json_file: Path | None) -> None:
    """Print what every site earned and claimed."""
    contracts, opening, place = _ledger(run)
    account, rounds = account_of(contracts, digest(opening.encode())), payouts(contracts, opening)
    table = Grid("site", "rounds", "earned, credits", "claimed, credits", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = []
    for seat, who in enumerate(place.accounts):
        shares = [payout.shares(account.per_round).get(who, 0) for payout in rounds]
        claimed = sum(amount for (by, _), amount in account.claimed.items() if by == who)
        name = opening.roster[seat].name
        rows.append({"site": name, "rounds": sum(s > 0 for s in shares), "earned": sum(shares), "claimed": claimed})
        table.add_row(name, str(rows[-1]["rounds"]), _number(sum(shares)), _number(claimed))
    console.print(table)
    console.print(f"the pot: {_credits(account.funded)} put in, {_credits(_claimed(account))} claimed, at most "
                  f"{_credits(account.per_round)} a round")  # fmt: skip
    if json_file is not None:
        json_file.write_text(json.dumps({"sites": rows, "funded": account.funded, "per_round": account.per_round,
                                         "claimed": _claimed(account)}) + "\n")  # fmt: skip


def fund_run(run: Path, site: str, amount: float, per_round: float, console: Console) -> None:
    """Put credits of a site into the pot of a run."""
    contracts, opening, _ = _ledger(run)
    who, units, each = _identity(run, opening, site), _units(amount, "--fund"), _units(per_round, "--per-round")
    fund(contracts, digest(opening.encode()), who, units, each)
    console.print(f"{site} put {_credits(units)} into the pot; a round pays {_credits(each)}")


def claim(run: Path, sites: Sequence[str], console: Console) -> None:
    """Fetch what sites earned and have not claimed yet, with their own keys: all of the folder's, if none is named."""
    contracts, opening, place = _ledger(run)
    hash_, rounds = digest(opening.encode()), payouts(contracts, opening)
    names = [member.name for member in opening.roster]
    for name in sites or [n for n in names if (RunFolder(run).site(n) / "identity.json").exists()]:
        who = _identity(run, opening, name)
        account = place.accounts[names.index(name)]
        before = account_of(contracts, hash_)
        due = _due(rounds, account, before)
        for payout in due:
            payout.claim(contracts, hash_, who)
        after = account_of(contracts, hash_)
        console.print(f"{name}: {_credits(_claimed(after) - _claimed(before))} for {len(due)} rounds")


def _due(rounds: Sequence[Payout], who: bytes, account: Account) -> list[Payout]:
    """Return the rounds that owe an account something and can pay all of it: a smaller sum would use the claim up."""
    left, out = account.funded - _claimed(account), []
    for payout in rounds:
        share = payout.shares(account.per_round).get(who, 0)
        if 0 < share <= left and (who, payout.round) not in account.claimed:
            out.append(payout)
            left -= share
    return out


def _claimed(account: Account) -> int:
    return sum(account.claimed.values())


def _credits(units: int) -> str:
    return f"{_number(units)} credits"


def _number(units: int) -> str:
    return f"{units // CREDIT:,}.{units % CREDIT:06d}"


def _units(amount: float, option: str) -> int:
    units = round(amount * CREDIT)
    if not 0 < units < 2**96:
        raise InputError(f"{option} {amount:g}: expected credits, a millionth at least")
    return units


def _ledger(run: Path) -> tuple[Contracts, Opening, Place]:
    """Return the contracts of a run, its opening and where it is recorded."""
    folder = RunFolder(run)
    opening = Journal(folder.journal).opening if folder.journal.exists() else None
    if opening is None:
        raise InputError(f"{folder.journal}: no record here; name a run folder")
    place = Place.read(opening.ledger, len(opening.roster))
    chain = open_chain(read_recipe(folder.recipe).ledger, folder)
    if place is None or chain is None:
        raise LedgerError(f"{run}: the run has no ledger: nothing is paid")
    contracts = Contracts(chain, place.addresses)
    contracts.check()
    return contracts, opening, place


def _identity(run: Path, opening: Opening, site: str) -> Identity:
    """Return a site's own keys, which lie in its own folder."""
    if site not in [member.name for member in opening.roster]:
        raise InputError(f"{site!r} is no site of this run: there are {', '.join(m.name for m in opening.roster)}")
    file = RunFolder(run).site(site) / "identity.json"
    if not file.exists():
        raise InputError(f"{file}: the keys of {site} are not here; run this where the site is")
    return Identity.load(file)
