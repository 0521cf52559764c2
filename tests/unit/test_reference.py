"""Image references: Docker Hub's short names, and what is no reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import SpecError
from fastdock.registry.reference import Reference, familiar, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("me/app", "docker.io/me/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
        ("ghcr.io/o/r@" + DIGEST, "ghcr.io/o/r@" + DIGEST),
        ("r.example/x:t@" + DIGEST, "r.example/x:t@" + DIGEST),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        ("foo__bar/a--b.c", "docker.io/foo__bar/a--b.c:latest"),
    ],
)
def test_full_name(text, full):
    """What people type stands for one full name."""
    assert str(parse(text)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "text",
    ["", "Busybox", "a//b", "a:", "a:" + "x" * 129, "a@sha256:12", "a@md5:" + "0" * 32, "-a", "a-", "a..b", "a___b",
     "ab" * 32, "a b", "a\n", "../x", "/x", "x/", "r.example:99999999/x", "a:b:c", "a" * 300, "é"],
)  # fmt: skip
def test_no_reference(text):
    """What is malformed is refused with a reason."""
    with pytest.raises(SpecError):
        parse(text)


@pytest.mark.parametrize("name", ["busybox:latest", "me/app:1", "localhost:5000/x:y", "ghcr.io/o/r:z"])
def test_familiar_is_short_and_comes_back(name):
    """The short form of a full name parses to the full name again."""
    reference = parse(name)
    assert reference.familiar == name
    assert parse(familiar(reference.name)) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text):
    """No text makes the parser fail in another way, and what it takes is stable."""
    try:
        reference = parse(text)
    except SpecError:
        return
    assert isinstance(reference, Reference)
    assert parse(str(reference)) == reference
