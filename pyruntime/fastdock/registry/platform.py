"""Platforms: ``os/architecture[/variant]``, and which entry of an index is ours."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fastdock._errors import ImageNotFound, SpecError
from fastdock.store.manifest import Descriptor, Platform

# uname -m (and other people's names) -> Go's names, which manifests use
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}
_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def host_platform() -> Platform:
    """What this machine runs."""
    architecture, variant = _architecture(os.uname().machine, "")
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """``linux/arm64``, ``arm64``, ``linux/arm/v7``; SpecError where it is none of that."""
    parts = text.lower().split("/")
    if not all(_PART.fullmatch(part) for part in parts) or len(parts) > 3:
        raise SpecError(f"{text[:100]!r} is not a platform", hint="a platform is os/architecture[/variant]")
    if len(parts) == 1:
        if parts[0] == "linux":
            return host_platform()
        parts.insert(0, "linux")
    architecture, variant = _architecture(parts[1], parts[2] if len(parts) > 2 else "")
    return Platform(parts[0], architecture, variant)


def show(platform: Platform) -> str:
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def select(descriptors: Sequence[Descriptor], wanted: Platform, what: str) -> Descriptor:
    """The entry of an index that suits ``wanted`` best; ImageNotFound, listing what there is, if none does."""
    ranked = [(_rank(entry.platform, wanted), number, entry) for number, entry in enumerate(descriptors)]
    fitting = [entry for entry in ranked if entry[0] >= 0]
    if fitting:
        return min(fitting, key=lambda entry: entry[:2])[2]
    known = {
        show(entry.platform) for entry in descriptors if entry.platform and entry.platform.os != "unknown"
    }
    raise ImageNotFound(
        f"{what} does not exist for {show(wanted)}",
        hint=f"there is: {', '.join(sorted(known)) or 'nothing with a platform'}; choose with --platform",
    )


def check_platform(has: Platform, wanted: Platform, what: str) -> None:
    """ImageNotFound unless an image for ``has`` suits ``wanted``."""
    if _rank(has, wanted) < 0:
        raise ImageNotFound(f"{what} does not exist for {show(wanted)}", hint=f"it is for {show(has)}")


def _rank(has: Platform | None, wanted: Platform) -> int:
    """0 for exactly what is wanted, more for an older variant that runs too, -1 for what does not."""
    if has is None:
        return -1
    architecture, variant = _architecture(has.architecture, has.variant)
    if has.os != wanted.os or architecture != wanted.architecture:
        return -1
    default = _DEFAULT_VARIANTS.get(architecture, "")
    level, most = _level(variant or default), _level(wanted.variant or default)
    return most - level if level <= most else -1


def _level(variant: str) -> int:
    return int(variant[1:]) if re.fullmatch(r"v\d{1,2}", variant) else 0


def _architecture(name: str, variant: str) -> tuple[str, str]:
    architecture, implied = _ARCHITECTURES.get(name, (name, ""))
    return architecture, variant or implied
