"""A lease on a folder at a URL: one process at a time works there, without a lock.

The lease is a chain of small files, `.lease/00000001`, `.lease/00000002`, ... Each is created on
the condition that there is no file of its name. Who created the newest one has the lease, until so
many seconds after the storage received it. To renew the lease is to create the next file; so is to
take over one that has expired, and of several that try one succeeds. The last file, which says that
the lease was given back, stays, so that numbers never begin again.

Nothing depends on the clocks of machines: the age of a file is the difference between two times of
the storage, and the holder counts the seconds since it sent a request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from spjax.files import parse_json_object
from spjax.studies.store import CONDITIONAL, Store, StoreError

FOLDER = ".lease"
SECONDS = 60.0
_RENEWALS = 4  # in the time that a lease lasts
_SLACK = 3.0  # seconds: the storage rounds times, and clocks do not run equally fast
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """The newest file of the chain; number 0 if there is none."""

    number: int = 0
    content: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_free(self) -> bool:
        """Returns whether nobody has the lease."""
        return not self.number or bool(self.content.get("released"))

    @property
    def seconds(self) -> float:
        """Returns how long the lease lasts."""
        value = self.content.get("seconds", SECONDS)
        return float(value) if isinstance(value, (int, float)) else SECONDS

    def describe(self) -> str:
        """Returns who has the lease, for messages."""
        known = {"owner": "?", "host": "?", "pid": "?", "renewed": "?", **self.content}
        return "{owner}@{host} (process {pid}), who renewed it at {renewed}".format(**known)


class Lease:
    """A lease on a store's folder, kept by a thread.

    Attributes:
      epoch: number that is greater than that of any earlier holder, since `acquire`.
      lost: who has the lease instead, once another process has taken it over; "" until then.
      problem: why it could not be renewed the last time; "" if it was.
    """

    def __init__(self, store: Store, seconds: float = SECONDS) -> None:
        self.store, self.seconds = store, seconds
        self.epoch, self.lost, self.problem = 0, "", ""
        self._token, self._number = uuid.uuid4().hex, 0
        self._attempt: tuple[int, _Instant] = (0, _Instant())
        self._renewed: _Instant | None = None

    def acquire(self) -> None:
        """Takes the lease; that of another process is watched until it is renewed or expires.

        Raises:
          ValueError: another process has it and is alive, or the storage cannot be written or does
            not know conditions.
        """
        now, begin = self._storage_time()
        watched, limit = _Entry(), 0.0
        while True:
            newest = self._newest()
            passed = time.monotonic() - begin
            if newest.is_free or newest.number == watched.number and passed > limit:
                if self._advance(newest.number):
                    self.epoch = self._number
                    return
            elif not watched.number:
                if (written := self.store.modified(_name(newest.number))) is None:
                    continue  # it was renewed just now
                watched, limit = newest, newest.seconds + _SLACK - (now - written)
                if limit > passed:
                    text = "the lease on %s belongs to %s; unless renewed, it is free in %.0f s"
                    _log.warning(text, self.store.url, newest.describe(), limit - passed)
            elif newest.number != watched.number:
                raise ValueError(
                    f"another sweep is at work in {self.store.url}: the lease belongs to "
                    f"{newest.describe()}. Wait for it, stop it, or choose another --output_dir."
                )
            else:
                time.sleep(self.seconds / 60)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renews the lease, which was acquired, as long as the block runs; then gives it back."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.seconds / _RENEWALS) and not self.lost:
                try:
                    self.renew()
                    self.problem = ""
                except StoreError as error:  # until it answers again
                    self.problem = str(error)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_SLACK)
            if not thread.is_alive():  # else the storage does not answer, and the lease expires
                with contextlib.suppress(StoreError):
                    self._release()

    def is_current(self) -> bool:
        """Returns whether nobody else can have taken the lease over yet."""
        if self.lost or self._renewed is None:
            return False
        return self._renewed.elapsed() < self.seconds - _SLACK

    def renew(self) -> None:
        """Renews the lease; one that has expired too, if nobody has taken it over since.

        Raises:
          StoreError: the storage does not answer; the lease may still be had.
        """
        if not self.lost and not self._advance(self._number):
            self.lost = self._newest().describe()

    def _release(self) -> None:
        if not self.lost:
            is_ours = self._advance(self._number, released=True)
            if is_ours and not self._read(self._number).get("released"):
                # The file was that of a renewal, whose answer was lost.
                self._advance(self._number, released=True)
            self._renewed = None

    def _advance(self, number: int, released: bool = False) -> bool:
        """Creates the file after `number`, if there is none; returns whether the lease is ours."""
        following = number + 1
        begin = _Instant()
        if self._attempt[0] != following:
            self._attempt = following, begin
        content = {
            "owner": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "token": self._token,
            "seconds": self.seconds,
            "renewed": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "released": released,
        }
        is_new = self.store.create(_name(following), json.dumps(content).encode())
        if not is_new:
            if self._read(following).get("token") != self._token:
                return False
            begin = self._attempt[1]  # an earlier attempt has succeeded after all
        numbers = self._numbers()
        if numbers[-1:] != [following]:  # the name was free only as others are far ahead of it
            return False
        self._number, self._renewed = following, begin
        with contextlib.suppress(StoreError):  # the next renewal removes them
            for old in numbers[:-1]:
                self.store.remove(_name(old))
        return True

    def _numbers(self) -> list[int]:
        names = (name.rpartition("/")[2] for name in self.store.files(FOLDER))
        return sorted(int(name) for name in names if name.isdecimal())

    def _newest(self) -> _Entry:
        numbers = self._numbers()
        return _Entry(numbers[-1], self._read(numbers[-1])) if numbers else _Entry()

    def _read(self, number: int) -> dict[str, Any]:
        """Returns the content of a file; {} where it is not there any more, or not yet in full."""
        try:
            return parse_json_object(self.store.read(_name(number)) or b"{}")
        except ValueError as error:
            if isinstance(error, StoreError):
                raise
            return {}

    def _storage_time(self) -> tuple[float, float]:
        """Returns the time of the storage in seconds, and that of `time.monotonic` not before it.

        Raises:
          ValueError: the storage has no conditions, or accepts a second file of the same name.
        """
        problem = ValueError(
            f"two sweeps at once cannot be kept apart in {self.store.url}: its storage does not "
            "know the condition that a file is new. Use gs://, s3:// on a server that knows "
            "If-None-Match, or a shared file system."
        )
        if self.store.scheme not in CONDITIONAL:
            raise problem
        name = f"{FOLDER}/test-{self._token}"
        is_first = self.store.create(name, b"first")
        begin = time.monotonic()
        try:
            if not is_first or self.store.create(name, b"second"):
                raise problem
            return self.store.modified(name) or 0.0, begin
        finally:
            self.store.remove(name)


class _Instant:
    """A moment; the time since then includes a machine's sleep, which not every clock counts.

    It may be too long, where a clock is set, and so ends a lease early.
    """

    def __init__(self) -> None:
        self._monotonic, self._wall = time.monotonic(), time.time()

    def elapsed(self) -> float:
        """Returns the seconds since then."""
        return max(time.monotonic() - self._monotonic, time.time() - self._wall)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
