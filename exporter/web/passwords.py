"""Basic authentication (RFC 7617) against bcrypt hashes, at a cost that no flood can raise.

bcrypt takes a tenth of a second on purpose. It therefore runs in a thread, one check at a time; a bounded number of
checks wait, shared fairly among client addresses, and right and wrong answers are remembered separately. A flood of
wrong passwords neither evicts nor delays a right one that is known, and a flood from one address does not keep out a
right one that is not known yet.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import enum
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

_REMEMBERED = 100  # answers of each kind
_WAITING = 16  # requests that wait for their check; more are answered 503
_MAX_PASSWORD = 72  # bytes that bcrypt looks at; C implementations ignore the rest, bcrypt 5 raises

Check = Callable[[bytes, bytes], bool]
"""Whether a password and a hash belong together, as bcrypt.checkpw."""


def check(password: bytes, stored: bytes) -> bool:
    """Whether the bcrypt hash *stored* is of *password*."""
    import bcrypt  # noqa: PLC0415 - only with users configured

    return bcrypt.checkpw(password, stored)


class Admission(enum.Enum):
    """The outcome of checking a request's credentials."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    BUSY = "busy"  # unknown: too many passwords are being checked


def credentials(header: str | None) -> tuple[bytes, bytes] | None:
    """User and password of an Authorization header; None where it has none in the basic scheme.

    >>> credentials("Basic bWU6YTpi"), credentials("Bearer bWU6YTpi"), credentials("Basic !")
    ((b'me', b'a:b'), None, None)
    """
    scheme, _, encoded = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return None
    return (user, password) if colon else None


class Passwords:
    """Checks credentials against hashes that each call brings, so a reload needs no new instance."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._secret = secrets.token_bytes(32)  # a dump of the memory does not reveal the remembered passwords
        self._right = _Remembered()
        self._wrong = _Remembered()
        self._executor = ThreadPoolExecutor(1, "passwords")
        self._waiting: dict[Future[bool], str] = {}  # checks in their order, with the place of the client
        self._sent_away: set[Future[bool]] = set()

    def close(self) -> None:
        """Cancel the checks that wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def judge(self, header: str | None, users: Mapping[str, str], address: str = "") -> Admission:
        """Check the Authorization *header* that came from *address* against *users*, a bcrypt hash by name.

        An unknown user costs as much as a known one, for a name always the same, so timing does not reveal which users
        exist.
        """
        given = credentials(header)
        if given is None:
            return Admission.REFUSED
        user, password = given
        known = {name.encode(): text.encode() for name, text in users.items()}
        stored = known.get(user) or self._decoy(user, list(known.values()))
        # A decoy may be the hash of a user who has been removed since: the remembered answer must not count then.
        key = self._digest(b"known" if user in known else b"unknown", user, stored, password[:_MAX_PASSWORD])
        if key in self._right:
            return Admission.ADMITTED
        if key in self._wrong:
            return Admission.REFUSED
        if not self._has_room(address):
            return Admission.BUSY
        checked = self._executor.submit(self._check, password[:_MAX_PASSWORD], stored)
        self._waiting[checked] = address
        try:
            matches = await asyncio.wrap_future(checked)
        except asyncio.CancelledError:
            if checked in self._sent_away:
                return Admission.BUSY
            raise
        finally:
            self._sent_away.discard(checked)
            self._waiting.pop(checked, None)
        right = matches and user in known
        (self._right if right else self._wrong).add(key)
        return Admission.ADMITTED if right else Admission.REFUSED

    def _has_room(self, address: str) -> bool:
        """Whether one more check for *address* may wait, if need be by cancelling the last of an address with more."""
        if len(self._waiting) < _WAITING:
            return True
        places = Counter(self._waiting.values())
        (most, number), *_ = places.most_common(1)
        if number <= places[address] + 1:
            return False
        last = next((it for it in reversed(self._waiting) if self._waiting[it] == most and it.cancel()), None)
        if last is None:
            return False
        self._sent_away.add(last)
        del self._waiting[last]
        return True

    def _decoy(self, user: bytes, hashes: list[bytes]) -> bytes:
        return hashes[int.from_bytes(self._digest(b"decoy", user)[:8], "big") % len(hashes)]

    def _digest(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


class _Remembered:
    """The digests that were used last, at most ``_REMEMBERED``."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}  # in the order of their last use

    def __contains__(self, key: bytes) -> bool:
        if key not in self._keys:
            return False
        self._keys[key] = self._keys.pop(key)
        return True

    def add(self, key: bytes) -> None:
        self._keys[key] = None
        if len(self._keys) > _REMEMBERED:
            del self._keys[next(iter(self._keys))]
