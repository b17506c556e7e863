"""What a site writes to its own disk: which attempts it entered, what it signed, what it spent, what it remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from commonprior.accountant import Spend
from commonprior.appendlog import AppendLog, write_whole
from commonprior.entry import NO_HEAD
from commonprior.prior import Tensors

NO_ATTEMPT = -1


class Finished(NamedTuple):
    """The last round this site agreed to: `head` is the hash of its entry, `prior` of the prior that came of it."""

    round: int
    head: bytes
    prior: bytes


class SiteLog:
    """A site's append-only log. Each line is on the disk before the bytes that it is about leave the site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = AppendLog(folder / "log.cbor")
        self._lines: list[dict[str, Any]] = [dict(v) for v in self._log.values() if isinstance(v, dict)]
        self._spent: Spend | None = None
        for line in self._of("spent"):
            self._add(Spend.decode(line["spend"]))

    def entered(self, round_: int, attempt: int) -> None:
        """Note that the site takes part in an attempt; it never enters the same one twice."""
        self._write({"what": "entered", "round": round_, "attempt": attempt})

    def signed(self, round_: int, attempt: int, survivors: list[bytes]) -> None:
        """Note whose updates (by key) the site agreed to see summed."""
        self._write({"what": "signed", "round": round_, "attempt": attempt, "survivors": survivors})

    def spent(self, round_: int, attempt: int, spend: Spend) -> None:
        """Note a release before it leaves."""
        self._write({"what": "spent", "round": round_, "attempt": attempt, "spend": spend.encode()})
        self._add(spend)

    def finished(self, finished: Finished) -> None:
        """Note the round that the site has just agreed to."""
        self._write({"what": "finished", **finished._asdict()})

    def last_attempt(self, round_: int) -> int:
        """Return the highest attempt at a round that was entered, or `NO_ATTEMPT`."""
        return max((n["attempt"] for n in self._of("entered", round_)), default=NO_ATTEMPT)

    def signed_before(self, round_: int) -> list[bytes] | None:
        """Return the contributors (by key) that an earlier attempt at this round agreed on, if one did."""
        lines = self._of("signed", round_)
        return list(lines[0]["survivors"]) if lines else None

    def last_finished(self) -> Finished:
        """Return the last finished round; round -1 before the opening."""
        lines = self._of("finished")
        if not lines:
            return Finished(-1, NO_HEAD, NO_HEAD)
        return Finished(lines[-1]["round"], lines[-1]["head"], lines[-1]["prior"])

    def total_spent(self) -> Spend | None:
        """Return everything this site has ever spent in this run, aborted attempts included."""
        return self._spent

    def remember(self, round_: int, memory: Tensors) -> None:
        """Keep what the site remembers after a round; the one before is kept too, for a round that is repeated."""
        write_whole(self._file(round_), save({k: np.ascontiguousarray(v) for k, v in memory.items()}))
        self._file(round_ - 2).unlink(missing_ok=True)

    def recall(self, round_: int) -> Tensors:
        """Return what was remembered after a round; nothing where there was none."""
        file = self._file(round_)
        return load(file.read_bytes()) if file.exists() else {}

    def _add(self, spend: Spend) -> None:
        self._spent = spend if self._spent is None else self._spent + spend

    def _file(self, round_: int) -> Path:
        return self._folder / f"memory-{round_:06d}.safetensors"

    def _of(self, what: str, round_: int | None = None) -> list[dict[str, Any]]:
        return [n for n in self._lines if n["what"] == what and (round_ is None or n["round"] == round_)]

    def _write(self, line: dict[str, Any]) -> None:
        self._log.append(line)
        self._lines.append(line)
