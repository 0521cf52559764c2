"""registries.toml and certs.d."""

import pytest

from fastdock._errors import SpecError
from fastdock.registry.settings import RegistrySettings, Settings, is_loopback, load_settings, read_settings


def test_file(tmp_path):
    """All settings of one registry."""
    path = tmp_path / "registries.toml"
    path.write_text(
        '[registry."r.example:5000"]\ninsecure = true\nmirrors = ["https://m.example"]\ntoken_hosts = ["a.example"]\n'
    )
    assert read_settings(path) == {
        "r.example:5000": RegistrySettings(
            insecure=True, mirrors=("https://m.example",), token_hosts=("a.example",)
        )
    }


@pytest.mark.parametrize(
    "text",
    ["x", "[other]\n", "[registry.x]\nunknown = 1\n",
     '[registry.x]\ninsecure = "yes"\n', "[registry.x]\nmirrors = [1]\n",
     "registry = 1\n", "[registry]\nx = 1\n"],
)  # fmt: skip
def test_mistakes_are_errors(tmp_path, text):
    """A misspelt setting must not silently mean the default."""
    path = tmp_path / "registries.toml"
    path.write_text(text)
    with pytest.raises(SpecError):
        read_settings(path)


def test_environment_wins(tmp_path, monkeypatch):
    """FASTDOCK_REGISTRIES names one more file, read last."""
    (tmp_path / "fastdock").mkdir()
    (tmp_path / "fastdock/registries.toml").write_text(
        "[registry.a]\ninsecure = true\n[registry.b]\ninsecure = true\n"
    )
    (tmp_path / "extra.toml").write_text("[registry.a]\ninsecure = false\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("FASTDOCK_REGISTRIES", str(tmp_path / "extra.toml"))
    settings = load_settings()
    assert not settings.of("a").insecure
    assert settings.of("b").insecure


def test_certs_d(tmp_path):
    """Docker's layout: CA certificates and a client's pair, by registry."""
    directory = tmp_path / "r.example:5000"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key"):
        (directory / name).touch()
    found = Settings(certificates=(tmp_path,)).of("r.example:5000")
    assert found.ca == str(directory)
    assert (found.certificate, found.key) == (str(directory / "client.cert"), str(directory / "client.key"))
    assert Settings(certificates=(tmp_path,)).of("other") == RegistrySettings()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "LOCALHOST"]
)
def test_loopback(host):
    """These are this machine by name, whatever a resolver says."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.evil.com", "127.0.0.1.evil.com", "10.0.0.1", "r.example", "[2001:db8::1]:5000"]
)
def test_not_loopback(host):
    """And these are not."""
    assert not is_loopback(host)
