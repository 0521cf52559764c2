"""What a transfer tells about itself, as it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """One step of one layer (or blob), or, with an empty ``id``, of the whole."""

    id: str  # the first 12 digits of the digest
    status: str  # Docker's words: "Downloading", "Pull complete", "Pushed", …
    current: int = 0  # bytes
    total: int = 0  # bytes; 0 if unknown


ProgressCallback = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """For who does not want to know."""


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
