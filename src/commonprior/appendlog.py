"""An append-only file of records, each fsynced before anyone acts on it.

A record is a 4-byte big-endian length and that many bytes of deterministic CBOR. A crash can only tear the last
record; a torn tail is cut off when the file is opened for writing and reported when it is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from commonprior.canonical import Value, begins_whole, decode, encode
from commonprior.errors import JournalError, MalformedMessage, RunError

_LENGTH = 4


class AppendLog:
    """Records in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records, whole = read_records(path) if path.exists() else ([], 0)
        if path.exists() and path.stat().st_size > whole:
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        self._size = whole

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def set_aside(self, path: Path) -> None:
        """Move the last record to another such file: it is on the disk there before it is gone here."""
        last = self._records[-1]
        AppendLog(path).append(decode(last))
        self._size -= _LENGTH + len(last)
        with self._path.open("r+b") as file:
            file.truncate(self._size)
            os.fsync(file.fileno())
        self._records.pop()

    def append(self, record: Value) -> bytes:
        """Write one record and wait until the disk has it; return its bytes.

        A disk that fills up leaves the file as it was.
        """
        data = encode(record)
        try:
            with self._path.open("ab") as file:
                if file.tell() != self._size:
                    raise RunError(f"{self._path}: another process has written to it since; run the same command again")
                file.write(len(data).to_bytes(_LENGTH, "big") + data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if self._path.exists():
                os.truncate(self._path, self._size)
            raise RunError(
                f"{self._path}: cannot write ({error.strerror}); free some space and run the same command again: "
                f"nothing written before is lost"
            ) from None
        if not self._records:
            _sync_folder(self._path.parent)
        self._size += _LENGTH + len(data)
        self._records.append(data)
        return data

    def values(self) -> list[Value]:
        """Return every record, decoded."""
        return [decode(record) for record in self._records]


def read_records(path: Path) -> tuple[list[bytes], int]:
    """Return the whole records of a file and how many bytes they take; raise `JournalError` on a broken one."""
    data = path.read_bytes()
    records, at = [], 0
    while at + _LENGTH <= len(data):
        size = int.from_bytes(data[at : at + _LENGTH], "big")
        record = data[at + _LENGTH : at + _LENGTH + size]
        if len(record) < size:
            if begins_whole(record):  # no crash leaves this: a length was changed
                raise JournalError(f"{path}: record {len(records)} at byte {at} does not hold: it says {size} bytes")
            break
        try:
            decode(record)
        except MalformedMessage as error:
            raise JournalError(f"{path}: record {len(records)} at byte {at} does not hold: {error}") from None
        records.append(record)
        at += _LENGTH + size
    return records, at


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a crash or a full disk leaves either the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"{path}: cannot write ({error.strerror}); free some space and run the same command again"
        ) from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
