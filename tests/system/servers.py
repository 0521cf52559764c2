"""Servers that the tests start: the CNCF registry, a token server for it, a proxy that counts and cuts."""

from __future__ import annotations

import base64
import ctypes
import datetime
import ipaddress
import json
import re
import secrets
import socket
import subprocess
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

CONFIG = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
  secret: test
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bcrypt(password: str) -> str:
    """A line's hash for htpasswd, from libcrypt (crypt(5))."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    salt = "$2b$04$" + base64.b64encode(secrets.token_bytes(16), b"./").decode()[:22]
    return crypt(password.encode(), salt.encode()).decode()


class Registry:
    """Debian's docker-registry on a free port of loopback, with its data below a directory."""

    def __init__(
        self,
        directory: Path,
        *,
        certificate: tuple[Path, Path] | None = None,
        password: tuple[str, str] | None = None,
        token: tuple[str, Path] | None = None,
        extra: str = "",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.data = directory / "data"
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        config = CONFIG.format(root=self.data, port=self.port)
        if certificate:
            config += f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}\n"
        if password:
            (directory / "htpasswd").write_text(f"{password[0]}:{bcrypt(password[1])}\n")
            config += f"auth: {{htpasswd: {{realm: test, path: {directory / 'htpasswd'}}}}}\n"
        if token:
            realm, bundle = token
            config += f"auth: {{token: {{realm: '{realm}', service: test, issuer: test, rootcertbundle: {bundle}}}}}\n"
        self._config = directory / "config.yml"
        self._config.write_text(config + extra)

    def __enter__(self) -> Registry:
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self._config)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if "listening on" in line:
                break
        else:
            raise AssertionError("docker-registry did not start: " + "".join(lines))
        self._reader = threading.Thread(
            target=self._process.stderr.read, daemon=True
        )  # so that it never blocks
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        algorithm, _, value = digest.partition(":")
        return self.data / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost and 127.0.0.1 that signs itself, and its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return paths


def make_token(certificate: tuple[Path, Path], scopes: list[str], subject: str) -> str:
    """A JSON web token that docker-registry accepts: everything that was asked for is granted."""
    pem = certificate[0].read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    key = serialization.load_pem_private_key(certificate[1].read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
    claims = {"iss": "test", "sub": subject, "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now,
              "jti": secrets.token_hex(8), "access": access}  # fmt: skip
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    return signed + "." + _base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Proxy:
    """Forwards TCP to a port of loopback; counts requests and bytes, and cuts connections.

    A connection is cut after ``cut_after`` bytes from the server (or from the client, with ``cut_uploads``), for the
    first ``cuts`` connections that get that far.
    """

    def __init__(self, port: int, *, cut_after: int = 0, cuts: int = 0, cut_uploads: bool = False) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.host = f"localhost:{self.port}"
        self.cut_after, self.cuts, self.cut_uploads = cut_after, cuts, cut_uploads
        self.requests: list[str] = []
        self.received = 0  # bytes from the server
        self._lock = threading.Lock()
        self._serving: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for serving in self._serving:
            serving.join()

    def gets(self, what: str) -> list[str]:
        """The GET requests for ``blobs`` or ``manifests``."""
        return [line for line in self.requests if line.startswith("GET ") and f"/{what}/" in line]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            serving = threading.Thread(target=self._serve, args=(client,), daemon=True)
            serving.start()
            self._serving.append(serving)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            up = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
            up.start()
            self._pump(server, client, False)
            up.join()

    def _pump(self, source: socket.socket, target: socket.socket, is_upload: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                if is_upload:
                    found = re.findall(rb"^(?:GET|HEAD|PUT|POST|PATCH|DELETE) \S+ HTTP", data, re.MULTILINE)
                    self.requests += [line.decode().removesuffix(" HTTP") for line in found]
                else:
                    self.received += len(data)
                cut = is_upload == self.cut_uploads and self._cuts(passed + len(data))
                target.sendall(data[: self.cut_after - passed] if cut else data)
                passed += len(data)
                if cut:
                    break
        except OSError:
            pass
        finally:
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _cuts(self, passed: int) -> bool:
        with self._lock:
            if not self.cut_after or passed < self.cut_after or not self.cuts:
                return False
            self.cuts -= 1
            return True


class TokenServer:
    """Gives tokens for docker-registry to user "me" with password "secret"; nothing to others."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        from urllib.parse import parse_qs, urlsplit

        self.requests: list[dict[str, object]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
                encoded = self.headers.get("Authorization", "").removeprefix("Basic ")
                user, _, password = base64.b64decode(encoded).decode().partition(":")
                outer.requests.append({"scope": scopes, "user": user})
                allowed = (user, password) == ("me", "secret")
                body = json.dumps(
                    {"token": make_token(certificate, scopes, user)} if allowed else {}
                ).encode()
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
