"""The run's append-only journal: one record a round, fsynced before the prior it names is used."""

from __future__ import annotations

from pathlib import Path

from commonprior.appendlog import AppendLog
from commonprior.canonical import digest
from commonprior.entry import NO_HEAD, Entry, Opening, Round, Signatures, make_record, read_entry, read_record
from commonprior.errors import JournalError, MalformedMessage


class Journal:
    """What has happened in a run so far."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)
        self._path = path
        self._read: list[Entry] = []

    def append(self, entry: Entry, signatures: Signatures, ballots: Signatures = ()) -> None:
        """Write a record and wait until the disk has it."""
        self._log.append(make_record(entry.encode(), signatures, ballots))

    def set_aside(self) -> None:
        """Take the last record away, into a file beside the journal: no ledger will take it any more."""
        self._log.set_aside(self._path.with_suffix(".aside.cbor"))
        self._read = []

    @property
    def entries(self) -> list[Entry]:
        """Every entry, in order."""
        try:
            for record in list(self._log)[len(self._read) :]:
                self._read.append(read_entry(read_record(record)[0]))
            return list(self._read)
        except MalformedMessage as error:
            raise JournalError(f"{self._path}: {error}; run `commonprior audit` to see from where") from None

    @property
    def opening(self) -> Opening | None:
        """The first entry, if the run has begun."""
        entries = self.entries[:1]
        return entries[0] if entries and isinstance(entries[0], Opening) else None

    @property
    def last_round(self) -> Round | None:
        """The last finished round, if there is one."""
        entries = self.entries[1:]
        return entries[-1] if entries and isinstance(entries[-1], Round) else None

    @property
    def records(self) -> list[bytes]:
        """The bytes of every record, in order."""
        return list(self._log)

    @property
    def last_record(self) -> bytes:
        """The bytes of the last record; empty before the first."""
        records = list(self._log)
        return records[-1] if records else b""

    @property
    def head(self) -> bytes:
        """The hash of the last entry: whoever knows it knows the whole history."""
        record = self.last_record
        return digest(read_record(record)[0]) if record else NO_HEAD
