"""What a site writes to its own disk: which attempts it entered, what it signed, what it spent, what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from commonprior.accountant import Spend, Unit, nothing_spent
from commonprior.appendlog import AppendLog, write_whole
from commonprior.prior import Tensors

NO_ATTEMPT = NO_ROUND = -1
WITHHELD = "withheld.txt"


class Finished(NamedTuple):
    """A round that a site agreed to: `head` is the hash of its entry, `prior` of the prior that came of it, `counted`
    the attempt that its ballot names, which of public deltas is the contract's.
    """

    round: int
    head: bytes
    prior: bytes
    attempt: int = 0
    counted: int = 0


class SiteLog:
    """A site's append-only log. Each line is on the disk before the bytes that it is about leave the site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = AppendLog(folder / "log.cbor")
        self._lines: list[dict[str, Any]] = [dict(v) for v in self._log.values() if isinstance(v, dict)]
        self._spent: Spend | None = None
        for line in self._of("spent"):
            self._add(Spend.decode(line["spend"]))

    def open(self, fixed: bytes, ledger: Mapping[str, Any]) -> None:
        """Note the hash of what the run's opening, which the site is about to sign, fixes for every round, and where
        its ballots are counted.
        """
        self._write({"what": "opened", "fixed": fixed, "ledger": dict(ledger)})

    def entered(self, round_: int, attempt: int, head: bytes) -> None:
        """Note that the site takes part in an attempt, and upon which head; it never enters the same one twice."""
        self._write({"what": "entered", "round": round_, "attempt": attempt, "head": head})

    def signed(self, round_: int, attempt: int, survivors: list[bytes]) -> None:
        """Note whose updates (by key) the site agreed to see summed."""
        self._write({"what": "signed", "round": round_, "attempt": attempt, "survivors": survivors})

    def spent(self, round_: int, attempt: int, spend: Spend) -> None:
        """Note a release before it leaves."""
        self._write({"what": "spent", "round": round_, "attempt": attempt, "spend": spend.encode()})
        self._add(spend)

    def finished(self, finished: Finished) -> None:
        """Note a round that the site has just agreed to."""
        self._write({"what": "finished", **finished._asdict()})

    def opened(self) -> bytes | None:
        """Return what `open` noted last, if it did."""
        lines = self._of("opened")
        return lines[-1]["fixed"] if lines else None

    def ledger(self) -> Mapping[str, Any]:
        """Return where the run's ballots are counted; nothing where they are not."""
        lines = self._of("opened")
        return lines[-1]["ledger"] if lines else {}

    def last_attempt(self, round_: int) -> int:
        """Return the highest attempt at a round that was entered, or `NO_ATTEMPT`."""
        return max((n["attempt"] for n in self._of("entered", round_)), default=NO_ATTEMPT)

    def built_on(self, round_: int) -> bytes | None:
        """Return the head upon which the site began a round, if it did: it never begins that round upon another."""
        lines = self._of("entered", round_)
        return lines[0]["head"] if lines else None

    def signed_before(self, round_: int) -> list[bytes] | None:
        """Return the contributors (by key) that an earlier attempt at this round agreed on, if one did."""
        lines = self._of("signed", round_)
        return list(lines[0]["survivors"]) if lines else None

    def last_finished(self) -> int:
        """Return the last round that the site agreed to, the opening being 0; -1 before that."""
        return max((line["round"] for line in self._of("finished")), default=NO_ROUND)

    def finished_at(self, round_: int) -> Finished | None:
        """Return what the site agreed to last for a round, if it did."""
        signed = self.all_signed_at(round_)
        return signed[-1] if signed else None

    def all_signed_at(self, round_: int) -> list[Finished]:
        """Return everything that the site ever agreed to for a round."""
        return [
            Finished(round_, line["head"], line["prior"], line["attempt"], line.get("counted", line["attempt"]))
            for line in self._of("finished", round_)
        ]

    def moved_past(self, round_: int) -> bool:
        """Say whether the site has gone on from a round: then it never takes it up again."""
        return self.last_finished() > round_ or self.last_attempt(round_ + 1) != NO_ATTEMPT

    def spent_so_far(self, unit: Unit) -> Spend:
        """Return everything this site has ever spent in this run, aborted attempts included."""
        return self._spent or nothing_spent(unit)

    def withhold(self, why: str) -> None:
        """Write down for the site's own people why it refused, where that says something of its tasks."""
        write_whole(self._folder / WITHHELD, (why + "\n").encode())

    def remember(self, round_: int, memory: Tensors) -> None:
        """Keep what the site remembers after a round; the one before is kept too, for a round that is repeated."""
        if memory:
            write_whole(self._file(round_), save({k: np.ascontiguousarray(v) for k, v in memory.items()}))
        self._file(round_ - 2).unlink(missing_ok=True)

    def recall(self, round_: int) -> Tensors:
        """Return what was remembered after a round; nothing where there was none."""
        file = self._file(round_)
        return load(file.read_bytes()) if file.exists() else {}

    def _add(self, spend: Spend) -> None:
        self._spent = self.spent_so_far(spend.unit) + spend

    def _file(self, round_: int) -> Path:
        return self._folder / f"memory-{round_:06d}.safetensors"

    def _of(self, what: str, round_: int | None = None) -> list[dict[str, Any]]:
        return [n for n in self._lines if n["what"] == what and (round_ is None or n["round"] == round_)]

    def _write(self, line: dict[str, Any]) -> None:
        self._log.append(line)
        self._lines.append(line)
