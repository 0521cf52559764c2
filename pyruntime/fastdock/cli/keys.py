"""The keys that detach from a container."""

from __future__ import annotations

from fastdock._errors import SpecError


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b``: the bytes that detach.  SpecError."""
    keys = bytearray()
    for word in filter(None, text.split(",")):
        if len(word) == 1:
            keys += word.encode()
        elif word.startswith("ctrl-") and len(word) == 6 and "@" <= word[5].upper() <= "_":
            keys.append(ord(word[5].upper()) & 0x1F)
        else:
            raise SpecError(
                f"invalid detach keys {text!r}: letters, or ctrl- and a letter, separated by commas"
            )
    return bytes(keys)


class Detacher:
    """Finds the detach keys in what is typed, across reads."""

    def __init__(self, keys: bytes) -> None:
        self._keys, self._matched = keys, 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the container, and whether the keys were complete."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                out.append(byte)
        return bytes(out), False
