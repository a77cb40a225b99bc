"""What pip says when it fails, real and recorded, is understood."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from wheel_helpers import Environment, wheel

from MRSynthLib.desktop.pip_faults import understood
from MRSynthLib.engine.errors import InstallError

QUICKLY = ("--retries", "1", "--timeout", "2")
ANYWHERE = "https://packages.invalid/simple"


class Refusing(BaseHTTPRequestHandler):
    """A server, or a proxy, that says no."""

    def do_GET(self) -> None:
        self.send_error(403, "Forbidden by policy")

    def do_CONNECT(self) -> None:
        self.send_error(407, "Proxy Authentication Required")

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("faults") / "environment")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def fault(environment: Environment, *arguments: str) -> InstallError:
    """What a pip that fails is understood as."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(subprocess.CalledProcessError) as caught:
        environment.pip("install", *arguments)
    return understood([*said.getvalue().splitlines(), str(caught.value)])


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- real pip -------------------------------------------------------------------------------------------


def test_a_proxy_that_is_not_there(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{closed_port()}")
    error = fault(environment, "torch", "--index-url", ANYWHERE, *QUICKLY)
    assert error.code == "install-proxy"
    assert "HTTPS_PROXY" in error.remedy
    assert "secret" not in str(error)


def test_a_proxy_that_wants_a_password(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        error = fault(environment, "torch", "--index-url", ANYWHERE, *QUICKLY)
    assert error.code == "install-proxy"
    assert "407" in error.seen


def test_no_network(environment: Environment) -> None:
    assert fault(environment, "torch", "--index-url", ANYWHERE, *QUICKLY).code == "install-network"
    nobody = f"http://127.0.0.1:{closed_port()}/simple"
    assert fault(environment, "torch", "--index-url", nobody, *QUICKLY).code == "install-network"


def test_a_server_that_forbids(environment: Environment) -> None:
    with serving() as port:
        error = fault(environment, f"http://127.0.0.1:{port}/torch-2.9.0-py3-none-any.whl", *QUICKLY)
    assert error.code == "install-network"
    assert "403" in error.seen


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted(environment: Environment, tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as port:
        error = fault(environment, "torch", "--index-url", f"https://localhost:{port}/simple", *QUICKLY)
    assert error.code == "install-certificate"
    assert "PIP_CERT" in error.remedy


def test_no_build_for_this_python(environment: Environment, tmp_path: Path) -> None:
    wheel(tmp_path, "torch", "2.9.0", tag="cp35-cp35m-win32")
    error = fault(environment, "torch", "--no-index", "--find-links", str(tmp_path))
    assert error.code == "install-no-build"


def test_a_name_too_long_for_the_file_system(environment: Environment, tmp_path: Path) -> None:
    wheel(tmp_path, "torch", "2.9.0")
    target = str(tmp_path / ("x" * 300))
    error = fault(environment, "torch", "--no-index", "--find-links", str(tmp_path), "--target", target)
    assert error.code == "install-path-too-long"
    assert len(error.seen) < 500


# --- recorded -------------------------------------------------------------------------------------------

LOST = r"C:\\Users\\radiologist\\AppData\\Local\\slicer.org\\3D Slicer 5.10.0\\lib\\Python\\Lib\\site-packages\\torch"
RETRYING = "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection"
NOT_FOUND = [
    "ERROR: Could not find a version that satisfies the requirement torch>=2.2 (from versions: none)",
    "ERROR: No matching distribution found for torch>=2.2",
]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "install-disk-full",
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
        ),
        ("install-disk-full", ["OSError: [WinError 112] There is not enough space on the disk: 'C:\\\\Temp\\\\x'"]),
        (
            "install-path-too-long",
            [
                f"ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: '{LOST}'",
                "HINT: This error might have occurred since this system does not have Windows Long Path support",
            ],
        ),
        (
            "install-path-too-long",
            [f"OSError: [Errno 2] No such file or directory: '{LOST}\\\\include\\\\{'deep' * 40}.h'"],
        ),
        ("install-path-too-long", ["OSError: [WinError 206] The filename or extension is too long: 'C:\\\\a'"]),
        ("install-in-use", [f"PermissionError: [WinError 5] Access is denied: '{LOST}\\\\lib\\\\asmjit.dll'"]),
        (
            "install-in-use",
            [
                "ERROR: Could not install packages due to an OSError: [WinError 32] The process cannot access the file"
                " because it is being used by another process: 'x'"
            ],
        ),
        (
            "install-not-writable",
            ["ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'x'"],
        ),
        ("install-not-writable", ["OSError: [Errno 13] Permission denied: '/opt/Slicer/lib/Python/x.py'"]),
        (
            "install-proxy",
            [f"{RETRYING} broken by 'OSError('Tunnel connection failed: 502 Bad Gateway')': /", *NOT_FOUND],
        ),
        (
            "install-certificate",
            [
                "Could not fetch URL https://index.example/torch/: There was a problem confirming the ssl certificate",
                *NOT_FOUND,
            ],
        ),
        (
            "install-certificate",
            ["ERROR: Could not find a suitable TLS CA certificate bundle, invalid path: C:\\x.pem"],
        ),
        (
            "install-network",
            [
                f"{RETRYING} broken by 'NameResolutionError(\"HTTPSConnection(host='index.example', port=443): Failed"
                " to resolve 'index.example' (getaddrinfo failed)\")': /simple/torch/",
                *NOT_FOUND,
            ],
        ),
        (
            "install-network",
            ["error: incomplete-download", "× Download failed because not enough bytes were received (84 MB/204 MB)"],
        ),
        # A connection that came back, and then another fault:
        ("install-disk-full", [f"{RETRYING} broken by 'ReadTimeoutError()': /", "OSError: [Errno 28] No space left"]),
        ("install-no-build", NOT_FOUND),
        ("install-failed", ["Segmentation fault (core dumped)"]),
        ("install-failed", []),
    ],
)
def test_what_was_said_is_understood(code: str, said: list[str]) -> None:
    error = understood([*said, "CalledProcessError: Command returned non-zero exit status 1."], proxies=[])
    assert error.code == code
    assert error.exit_code == 8


def test_a_proxy_that_cannot_be_reached_is_told_from_a_server(no_proxy: None) -> None:
    """pip 26 says the same for both; only the host is another."""
    said = [
        f"{RETRYING} broken by 'NewConnectionError(\"HTTPSConnection(host='proxy.hospital.example', port=8080):"
        " Failed to establish a new connection: [WinError 10061] refused\")': /simple/torch/",
        *NOT_FOUND,
    ]
    assert understood(said, proxies=["proxy.hospital.example"]).code == "install-proxy"
    assert understood(said, proxies=["other.example"]).code == "install-network"


@pytest.mark.parametrize("value", ["http://me:secret@proxy.example:8080", "proxy.example:8080"])
def test_the_proxies_of_the_environment_are_known(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert understood(["NewConnectionError(HTTPSConnection(host='proxy.example', port=8080)"]).code == "install-proxy"


def test_the_last_words_of_an_unknown_fault_are_kept() -> None:
    error = understood([*(f"line {n}" for n in range(100)), "the end"])
    assert "the end" in error.seen
    assert "line 90" not in error.seen


def test_no_password_is_shown() -> None:
    said = "ERROR: HTTP error 401 while getting https://me:geheim@index.example/simple/torch/"
    assert "geheim" not in str(understood([said], proxies=[]))
    assert "index.example" in str(understood([said], proxies=[]))
