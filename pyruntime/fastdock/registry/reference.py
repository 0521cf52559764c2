"""Image references: ``[domain/]path[:tag][@digest]``, with Docker Hub's short names.

The grammar is that of github.com/distribution/reference: ``busybox`` is ``docker.io/library/busybox:latest``.
"""

from __future__ import annotations

from fastdock._errors import SpecError
from fastdock._light import NamedTuple, Pattern

DEFAULT_DOMAIN = "docker.io"

_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = Pattern(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = Pattern(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = Pattern(r"sha256:[0-9a-f]{64}")
_IDENTIFIER = Pattern(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """A parsed reference.  ``tag`` is None only where a digest says all."""

    domain: str  # docker.io
    path: str  # library/busybox
    tag: str | None
    digest: str | None

    @property
    def repository(self) -> str:
        """``docker.io/library/busybox``"""
        return f"{self.domain}/{self.path}"

    @property
    def name(self) -> str:
        """The full name by tag: ``docker.io/library/busybox:latest``."""
        return f"{self.repository}:{self.tag or 'latest'}"

    @property
    def familiar_repository(self) -> str:
        """What people type: ``busybox``."""
        return familiar(self.repository)

    @property
    def familiar(self) -> str:
        text = self.familiar_repository
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text

    @property
    def selector(self) -> str:
        """What names the manifest at a registry: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        text = self.repository + (f":{self.tag}" if self.tag else "")
        return f"{text}@{self.digest}" if self.digest else text


def familiar(name: str) -> str:
    """A full name without what Docker leaves out: ``docker.io/library/x:y`` is ``x:y``."""
    if name.startswith("docker.io/library/") and "/" not in name[18:]:
        return name[18:]
    return name.removeprefix("docker.io/")


def split(text: str) -> Reference:
    """The parts of what a user typed, with Docker's defaults, whether well-formed or not."""
    rest, _, digest = text.partition("@")
    slash, colon = rest.rfind("/"), rest.rfind(":")
    tag: str | None = None
    if colon > slash:
        rest, tag = rest[:colon], rest[colon + 1 :]
    domain, path = _split_domain(rest)
    if tag is None and not digest:
        tag = "latest"
    return Reference(domain, path, tag, digest or None)


def parse(text: str) -> Reference:
    """Parses what a user typed; SpecError, saying what is wrong with it."""
    if not text or len(text) > 600:
        raise SpecError("an image reference is between 1 and 600 characters long")
    reference = split(text)
    domain, path, tag, digest = reference
    if "@" in text and not _DIGEST.fullmatch(digest or ""):
        raise _invalid(text, "what follows the @ must be sha256: and 64 hexadecimal digits")
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is not a tag")
    if not _DOMAIN.fullmatch(domain):
        raise _invalid(text, f"{domain!r} is not the name of a registry")
    if not _PATH.fullmatch(path):
        lower = _PATH.fullmatch(path.lower())
        raise _invalid(text, "the repository must be lowercase" if lower else f"{path!r} is not a repository")
    if len(path) > 255:
        raise _invalid(text, "the repository is longer than 255 characters")
    if _IDENTIFIER.fullmatch(text.partition(":")[0].partition("@")[0]):
        raise _invalid(text, "64 hexadecimal digits are an image's ID, not a name")
    return reference


def _split_domain(rest: str) -> tuple[str, str]:
    first, slash, path = rest.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_domain:
        domain, path = DEFAULT_DOMAIN, rest
    elif first == "index.docker.io":
        domain = DEFAULT_DOMAIN
    else:
        domain = first
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _invalid(text: str, why: str) -> SpecError:
    return SpecError(
        f"invalid reference {text[:200]!r}: {why}", hint="a reference is [registry/]repository[:tag][@digest]"
    )
