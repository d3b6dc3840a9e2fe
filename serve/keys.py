"""API keys: 256 random bits, shown once; the file keeps their SHA-256.

A random key needs no slow hash: there is nothing to guess from a dictionary.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidestep.errors import InvalidRequest
from sidestep.files import one_at_a_time, write_json

logger = logging.getLogger("sidestep.serve")
PREFIX = "sk-sidestep-"
MAX_NAME = 64
OWNER_ONLY = 0o600
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One entry of the file.

    name: who has it, for people and logs; admin: whether it may reload models
    """

    name: str
    sha256: str
    created: str
    admin: bool = False

    @property
    def id(self) -> str:
        """The beginning of its hash, which tells keys apart and opens nothing."""
        return self.sha256[:12]


def add_key(path: Path, name: str, *, admin: bool = False) -> str:
    """Add a key to the file, which may be new; returns the key, which nothing else tells again."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        message = f"name must be a printable text of 1 to {MAX_NAME} characters"
        raise InvalidRequest(message, field="name")
    secret = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with one_at_a_time(path):
        keys = read_keys(path) if path.exists() else []
        if any(key.name == name for key in keys):
            message = f"{path} has a key named {name!r}; revoke it or choose another name"
            raise InvalidRequest(message, field="name")
        _write(path, [*keys, Key(name, _hash(secret), created, admin)])
    return secret


def revoke_key(path: Path, name: str) -> Key:
    """Remove the key of a name or id; a running service refuses it from its next request on."""
    with one_at_a_time(path):
        keys = read_keys(path)
        found = next((key for key in keys if name in (key.name, key.id)), None)
        if found is None:
            raise InvalidRequest(f"{path} has no key with the name or id {name!r}", field="name")
        _write(path, [key for key in keys if key is not found])
    return found


def read_keys(path: Path) -> list[Key]:
    """Read the file; raises InvalidRequest if it is missing or damaged."""
    try:
        keys = [Key(**values) for values in json.loads(path.read_text("utf-8"))["keys"]]
        for key in keys:
            if not _SHA256.fullmatch(key.sha256):
                raise ValueError(f"the sha256 of {key.name!r} is not 64 hexadecimal digits")
        return keys
    except FileNotFoundError:
        message = f"{path} is missing; make a key with: sidestep keys add NAME --keys {path}"
        raise InvalidRequest(message, field="keys") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is no file of keys ({error})", field="keys") from None


class KeyRing:
    """The keys of a file as they are now; the file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises InvalidRequest if it is missing or damaged."""
        self._path = path
        self._keys = read_keys(path)
        self._state = self._look()

    def find(self, secret: str) -> Key | None:
        """Find a key, comparing with all of them in constant time."""
        if (state := self._look()) != self._state:
            self._state = state
            self._keys = self._read()
        presented = _hash(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(presented, key.sha256):
                found = key
        return found

    def _read(self) -> list[Key]:
        """Read the file anew; nobody is let in by a file that cannot be read."""
        try:
            return read_keys(self._path)
        except InvalidRequest as error:
            logger.error("all keys are refused: %s", error)
            return []

    def _look(self) -> tuple[int, int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _write(path: Path, keys: list[Key]) -> None:
    write_json(path, {"keys": [asdict(key) for key in keys]}, mode=OWNER_ONLY)
