"""Who may ask: keys from a file or the environment, read again when the file changes."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from pathlib import Path

from pioxide.errors import InputError

VARIABLE = "PIOXIDE_SERVE_KEYS"
_SHORTEST = 16


class Keys:
    """The keys that open a server; none opens it to everybody who reaches it.

    >>> keys = Keys(["0123456789abcdef"])
    >>> keys.admit("Api-Key 0123456789abcdef"), keys.admit("Api-Key guess"), keys.admit(None)
    (True, False, False)
    """

    def __init__(self, keys: list[str], file: Path | None = None) -> None:
        """Takes keys, and the file that they are read again from.

        Raises:
            InputError: A key is shorter than 16 characters or holds a space, or the file holds none.
        """
        self._given, self._file, self._changed = keys, file, 0
        self._keys = _checked([*keys, *self._read()], str(file or VARIABLE))
        if file is not None and not self._keys:
            raise InputError(f"{file}: no key in it; write one a line, of {_SHORTEST} characters or more")

    @classmethod
    def load(cls, file: Path | None) -> Keys:
        """Returns the keys of a file and of `$PIOXIDE_SERVE_KEYS`, where they stand between commas."""
        named = os.environ.get(VARIABLE, "")
        return cls([key.strip() for key in named.split(",") if key.strip()], file)

    def __bool__(self) -> bool:
        """Returns whether a key is asked for at all."""
        return bool(self._keys)

    def admit(self, authorization: str | None) -> bool:
        """Returns whether a request's `Authorization` header opens the server.

        It says "Api-Key K" or "Bearer K", or what a browser sends for a name and the password K.
        """
        self._refresh()
        if not self._keys:
            return True
        kind, _, rest = (authorization or "").partition(" ")
        given = rest.strip().encode() if kind.lower() in ("api-key", "bearer") else b""
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(rest, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                given = b""
        # Every key is compared, so that time tells nothing of which one came near.
        return sum(hmac.compare_digest(given, known.encode()) for known in self._keys) > 0

    def _refresh(self) -> None:
        """Reads the file again where it has changed; what can't be read keeps the keys that were."""
        if self._file is None:
            return
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._changed and (found := _checked(self._read(), str(self._file))):
                self._keys = [*self._given, *found]
        except (OSError, InputError):
            return

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        try:
            self._changed = self._file.stat().st_mtime_ns
        except OSError as error:
            raise _unreadable(self._file, error) from error
        return read_keys(self._file)


def read_keys(file: Path) -> list[str]:
    """Reads a file of keys, one a line; empty lines and those that begin with # are none.

    Raises:
        InputError: It can't be read.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: the keys can't be read: {error}")


def _checked(keys: list[str], where: str) -> list[str]:
    for key in keys:
        if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"{where}: a key of {len(key)} characters: expected {_SHORTEST} or more, printable ASCII "
                'without spaces; `python -c "import secrets; print(secrets.token_urlsafe(32))"` makes one'
            )
    return keys
