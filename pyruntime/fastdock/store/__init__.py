"""Images on this machine: metadata in SQLite, blobs by digest, unpacked layers.

Cheap to open: this module imports neither aiohttp nor msgspec.
"""

from __future__ import annotations

from fastdock.store.paths import default_root, run_directory
from fastdock.store.record import ImageRecord
from fastdock.store.store import Store

__all__ = ["ImageRecord", "Store", "default_root", "run_directory"]
