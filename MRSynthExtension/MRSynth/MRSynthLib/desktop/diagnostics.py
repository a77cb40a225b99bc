"""One block of text for a bug report: versions, devices, models, settings, the last error. No patient data.

Nothing of the scene is in it: no names of nodes, no paths of images. The user's home folder becomes "~", and of an
error that may name an image only the code is told. Whatever cannot be found out is a "?".
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from MRSynthLib import __version__
from MRSynthLib.engine import checkpoint, model_folders
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.probe import Probe
from MRSynthLib.engine.writing import sha256_of

from . import packages

_PACKAGES = ("numpy", "SimpleITK", "torch", "safetensors", "pip")
_SETTINGS = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_ENABLE_MPS_FALLBACK")  # shown as they are
_PATHS = ("MRSYNTH_MODELS", "PYTHONPATH", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")  # set or not set
_NAMELESS = ("model", "device", "install", "cancelled")  # families of errors that do not name images


def report(probe: Probe | None = None, last_error: BaseException | None = None) -> str:
    """Return the text.

    Parameters
    ----------
    probe : Probe, optional
        What this computer can do, where that was found out.
    last_error : exception, optional
        What went wrong last.
    """
    sections: dict[str, Callable[[], Iterator[str]]] = {
        "Versions": _versions,
        "Devices": lambda: _devices(probe),
        "Models": _models,
        "Disks": _disks,
        "Settings": _settings,
        "Last error": lambda: _last_error(last_error),
    }
    lines = [f"MRSynth {__version__} diagnostics"]
    for title, section in sections.items():
        lines += ["", f"{title}:", *(f"  {line}" for line in _as_far_as_possible(section))]
    home = str(Path.home())
    return "\n".join(lines).replace(home, "~").replace(home.replace("\\", "\\\\"), "~") + "\n"


def _as_far_as_possible(section: Callable[[], Iterator[str]]) -> list[str]:
    lines: list[str] = []
    try:
        for line in section():
            lines.append(line)  # noqa: PERF402 - those before a fault are kept
    except Exception as error:  # a report is wanted most where things are broken
        lines.append(f"? ({type(error).__name__})")
    return lines


def _versions() -> Iterator[str]:
    application = getattr(sys.modules.get("slicer"), "app", None)
    if application is None:
        yield "3D Slicer: not running"
    else:
        told = (
            f"{name} {getattr(application, name, '?')}"
            for name in ("applicationVersion", "revision", "releaseType", "os", "arch")
        )
        yield f"3D Slicer: {', '.join(told)}"
    yield f"System: {platform.platform()}, {platform.machine()}, {os.cpu_count()} logical processors"
    yield f"Python: {platform.python_version()}"
    for name in _PACKAGES:
        found = packages.find(name)
        yield f"{name}: {found.version or found.state}" + (f" (broken: {found.why})" if found.why else "")
    extension = "there" if _importable("PyTorchUtils") else "not there"
    yield f"PyTorch extension: {extension}"


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _devices(probe: Probe | None) -> Iterator[str]:
    if probe is None:
        yield "not looked at"
        return
    yield f"torch {probe.torch_version}, CUDA {probe.cuda_version or 'none'}, driver {probe.driver or 'none'}"
    for one in probe.devices:
        speed = (
            "cannot be used" if one.seconds_per_megapixel is None else f"{one.seconds_per_megapixel:.3g} s/megapixel"
        )
        automatic = ", automatic" if one.device == probe.automatic else ""
        yield f"{one.device}: {one.name}, {speed}{automatic} ({one.reason})"
    yield f"start-up {probe.start_seconds:.1f} s, measured with {probe.model}"


def _models() -> Iterator[str]:
    yield f"added ones: {model_folders.user_folder()}"
    for path in model_folders.installed():
        whose = "shipped" if model_folders.is_shipped(path) else "added"
        yield f"{path.name} ({whose}): SHA-256 {sha256_of(path)}, {_state(path)}"


def _state(path: Path) -> str:
    try:
        if not _importable("safetensors"):
            checkpoint.read_card(path)
            return "card readable, weights not verified without safetensors"
        checkpoint.load(path)
    except MRSynthError as error:
        return f"broken [{error.code}]"
    return "verified"


def _disks() -> Iterator[str]:
    places = {
        "models": model_folders.user_folder(),
        "packages": Path(sysconfig.get_path("purelib")),
        "temporary": Path(tempfile.gettempdir()),
    }
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        yield f"{name}: {shutil.disk_usage(there).free / 1e9:.1f} GB free at {place}"


def _settings() -> Iterator[str]:
    proxies = {scheme for scheme in urllib.request.getproxies() if scheme != "no"}
    yield f"proxy: {'yes, for ' + ', '.join(sorted(proxies)) if proxies else 'no'}"
    for name in _SETTINGS:
        yield f"{name}: {os.environ.get(name, 'not set')}"
    for name in _PATHS:
        yield f"{name}: {'set' if os.environ.get(name) else 'not set'}"


def _last_error(error: BaseException | None) -> Iterator[str]:
    if error is None:
        yield "none"
    elif not isinstance(error, MRSynthError):
        yield type(error).__name__  # its text may be anything
    elif error.kind.family not in _NAMELESS:
        yield f"[{error.code}] {error.kind.cause} (The details may name an image, and are left out.)"
    else:
        # The last words of a dead process may hold anything between quotation marks.
        seen = re.sub(r"'[^']*'", "'…'", error.seen) if error.kind.family == "device" else error.seen
        yield f"[{error.code}] {seen}"
        yield f"expected: {error.expected}"
        yield f"remedy: {error.remedy}"
