"""What went wrong, from what pip said: an `InstallError` with a code and what to do.

pip tells causes as warnings on the way and then ends with "No matching distribution found", whatever the cause was.
So its whole output is searched, for what is certain first: a full disk is a full disk, whatever else was said.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from MRSynthLib.engine.errors import ERRORS, InstallError

MAX_PATH = 260  # characters, on Windows
_LAST_WORDS = 6  # lines
_LONGEST = 300  # characters of what pip said that are shown
_EXPECTED = "an installation that goes through."

# In the words of pip 23 to 26 and of the systems below it; the first that is found counts.
_SIGNS: dict[str, tuple[str, ...]] = {
    "install-disk-full": (
        r"Errno 28\b",
        r"Errno 122\b",
        r"WinError 112\b",
        "No space left on device",
        "not enough space on the disk",
    ),
    "install-path-too-long": (
        r"WinError 206\b",
        "Long Path support",
        "File name too long",
        "filename or extension is too long",
    ),
    "install-in-use": (
        r"WinError 32\b",
        "being used by another process",
        r"(WinError 5|Errno 13)\b.*\.(dll|pyd)\b",  # a library that is loaded
    ),
    "install-not-writable": (
        r"Errno 13\b",
        r"Errno 30\b",
        r"Errno 1\] Operation",
        r"WinError 5\b",
        "Permission denied",
        "Access is denied",
    ),
    "install-proxy": (
        "ProxyError",
        "Tunnel connection failed",
        "407 Proxy Authentication",
        "Missing dependencies for SOCKS",
    ),
    "install-certificate": (
        "SSLError",
        "CERTIFICATE_VERIFY_FAILED",
        "confirming the ssl certificate",
        "TLS CA certificate bundle",
        "SSL module is not available",
    ),
    "install-network": (
        "connection broken by",
        "NewConnectionError",
        "NameResolutionError",
        "name resolution",
        "Max retries exceeded",
        "timed out",
        "TimeoutError",
        "ConnectionResetError",
        "Connection aborted",
        "IncompleteRead",
        "incomplete-download",
        r"HTTP error [45]\d\d",
    ),
    "install-no-build": ("No matching distribution found", "is not a supported wheel", "ResolutionImpossible"),
}
_LOST_PATH = re.compile(r"Errno 2\] No such file or directory: '([^']+)'")
_UNREACHED_HOST = re.compile(r"HTTPS?Connection(?:Pool)?\(host='([^']+)'|Failed to resolve '([^']+)'")


def understood(output: Sequence[str], proxies: Sequence[str] | None = None) -> InstallError:
    """Return the error that pip's output tells of.

    Parameters
    ----------
    output : sequence of str
        Lines that were printed, and the text of the exception.
    proxies : sequence of str, optional
        Host names of the proxies in use; by default those of this system.
    """
    text = "\n".join(output)
    for code, signs in _SIGNS.items():
        line = next((line for line in text.splitlines() if any(re.search(sign, line) for sign in signs)), "")
        if not line and code == "install-path-too-long":
            line = _too_long(text)
        if line and code == "install-network" and _unreached(text) & set(_proxies() if proxies is None else proxies):
            code = "install-proxy"  # what pip itself does not tell any more since version 26
        if line:
            return error(code, line)
    words = " | ".join([line.strip() for line in text.splitlines() if line.strip()][-_LAST_WORDS:])
    return error("install-failed", words[-_LONGEST:])


def error(code: str, said: str) -> InstallError:
    """Return the `InstallError` of a code; what was `said` is shortened to one line, without passwords."""
    said = re.sub(r"//[^/@\s']+@", "//***@", " ".join(said.split()))
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."
    return InstallError(code, f"{ERRORS[code].cause} ({said})", _EXPECTED)


def _too_long(text: str) -> str:
    """Return the path that could not be written, if it was longer than Windows allows."""
    paths = (path.replace("\\\\", "\\") for path in _LOST_PATH.findall(text))
    return next((path for path in paths if len(path) >= MAX_PATH - 1), "")


def _unreached(text: str) -> set[str]:
    return {one or other for one, other in _UNREACHED_HOST.findall(text)}


def _proxies() -> list[str]:
    """Host names of the proxies that pip takes from the environment and the system's settings."""
    urls = (url for scheme, url in urllib.request.getproxies().items() if scheme != "no")
    hosts = (urlsplit(url if "//" in url else f"//{url}").hostname for url in urls)
    return [host for host in hosts if host]
