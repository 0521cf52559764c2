"""Challenges, token servers and who may see a password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdock._errors import RegistryError
from fastdock.registry import auth


def test_challenge_with_quotes_and_commas():
    """The header of a real registry."""
    header = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
    (challenge,) = auth.parse_challenges(header)
    assert challenge.scheme == "bearer"
    assert challenge.parameters == {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:a/b:pull,push",
    }


def test_bearer_wins_over_basic():
    """Of several challenges, the token is taken."""
    assert auth.pick_challenge('Basic realm="x", Bearer realm="https://r/t"').scheme == "bearer"
    assert auth.pick_challenge("Negotiate, Basic realm=x").scheme == "basic"


def test_unknown_schemes_are_an_error():
    """Nothing is sent to a registry that wants Kerberos."""
    with pytest.raises(RegistryError, match="Negotiate"):
        auth.pick_challenge("Negotiate")


@pytest.mark.parametrize(
    ("registry", "host", "same"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("ghcr.io", "ghcr.io", True),
        ("registry.example.com", "evil.com", False),
        ("registry.example.com", "notexample.com", False),
        ("registry.example.com", "example.com.evil.net", False),
        ("ghcr.io", "evil.io", False),
        ("registry.co.uk", "evil.co.uk", False),
        ("a.shop.co.uk", "auth.shop.co.uk", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "0.0.1", False),
        ("127.0.0.1", "localhost", True),
    ],
)
def test_same_site(registry, host, same):
    """A token server of the registry's own site may see the password; another site's may not."""
    assert auth.same_site(registry, host) is same


@pytest.mark.parametrize(
    ("realm", "registry", "scheme"),
    [
        ("https://evil.example/token", "registry.example.com", "https"),  # another site
        ("http://registry.example.com/token", "registry.example.com", "https"),  # in the clear
        ("http://auth.example.com/token", "registry.example.com", "http"),  # another host in the clear
        ("http://127.0.0.1:8080/token", "registry.example.com", "https"),  # this machine's own services
        ("https://localhost/token", "registry.example.com", "https"),
        ("https://user:pass@registry.example.com/token", "registry.example.com", "https"),
        ("file:///etc/passwd", "registry.example.com", "https"),
        ("", "registry.example.com", "https"),
        ("https://[bad/token", "registry.example.com", "https"),
        ("https://h:99999/token", "registry.example.com", "https"),
    ],
)
def test_realms_that_would_abuse_a_password(realm, registry, scheme):
    """A registry cannot have its password sent elsewhere, or anywhere without TLS."""
    with pytest.raises(RegistryError):
        auth.check_realm(realm, registry, scheme, (), secret=True)


def test_a_realm_that_the_owner_allows():
    """token_hosts in registries.toml is the way to say otherwise."""
    auth.check_realm(
        "https://login.other.net/token", "registry.example.com", "https", ("login.other.net",), secret=True
    )


def test_anonymous_tokens_may_come_from_anywhere():
    """Without a password there is nothing to leak."""
    auth.check_realm("https://login.other.net/token", "registry.example.com", "https", (), secret=False)


@pytest.mark.parametrize("answer", [None, [], {}, {"token": 7}, {"token": ""}, {"token": "a\r\nX-Evil: 1"}])
def test_malformed_tokens(answer):
    """A token goes into a header: nothing but visible ASCII is taken."""
    with pytest.raises(RegistryError):
        auth.parse_token(answer)


def test_tokens_expire():
    """A token is used a little shorter than the server says."""
    assert auth.parse_token({"token": "t", "expires_in": 300}).is_fresh
    assert not auth.Token("t", 0.0).is_fresh


@given(st.text(alphabet='Bbearic =,"\\realm/:x\t', max_size=60) | st.text(max_size=40))
def test_any_header_parses(header):
    """No header makes the parser fail or hang."""
    for challenge in auth.parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()
