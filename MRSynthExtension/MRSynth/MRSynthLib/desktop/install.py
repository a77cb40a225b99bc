"""Get what MRSynth needs inside 3D Slicer, after one consent: install, repair, or install from a folder.

torch is never imported into 3D Slicer's own process here: whether it is there is told from its files (`look`),
whether it works by a child process (`verify`). pip and the PyTorch extension are collaborators (`Tools`), so that
everything around them is tested without 3D Slicer.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import ParamSpec

from MRSynthLib.engine import library
from MRSynthLib.engine.errors import InstallError, MRSynthError
from MRSynthLib.engine.model_folders import SUFFIX

from . import packages, wheels
from .child import Child, environment, interpreter
from .listening import Heard, listening
from .needs import SAFETENSORS, TORCH, Setup, consent, look, release
from .pip_faults import error, understood
from .slicer_tools import Tools, add_extension, extension_missing, slicer_tools
from .words import _

__all__ = ["Setup", "Tools", "add_extension", "consent", "install", "install_from_folder", "look", "verify"]

# The folders of a package in site-packages.
_PARTS = {"torch": ("torch", "torchgen", "functorch"), "safetensors": ("safetensors",)}

# What the engine does with them. What lies in the current folder is not meant.
_CHECK = """
import sys
sys.path[:] = [path for path in sys.path if path]
import numpy, torch
assert float(torch.from_numpy(numpy.ones(3, dtype=numpy.float32)).sum().numpy()) == 3
print(torch.__version__, flush=True)
import safetensors.numpy
print("safetensors")
"""


P = ParamSpec("P")

_under_way = threading.Lock()


def _one_at_a_time(function: Callable[P, Setup]) -> Callable[P, Setup]:
    """Refuse a second call while one is under way: 3D Slicer handles clicks while it waits for pip."""

    @functools.wraps(function)
    def guarded(*arguments: P.args, **more: P.kwargs) -> Setup:
        if not _under_way.acquire(blocking=False):
            raise InstallError("install-in-progress", _("An installation is under way."), "one at a time.")
        try:
            return function(*arguments, **more)
        finally:
            _under_way.release()

    return guarded


@_one_at_a_time
def install(setup: Setup, on_step: Heard, tools: Tools | None = None) -> Setup:
    """Repair and install what `setup` lacks, then make sure that it works. Ask for consent first.

    Where nothing is lacking by its files, what does not work is found, and installed anew.
    Blocks, while 3D Slicer goes on to handle events.

    Parameters
    ----------
    setup : Setup
    on_step : callable
        ``on_step(text, fraction)``: what happens now; the fraction of the file that is being downloaded, or None.
    tools : Tools, optional
        By default those of 3D Slicer.

    Returns
    -------
    Setup
        What is there now.

    Raises
    ------
    InstallError
        With a code that says what to do; install-in-progress for a second call while the first is under way. What was
        installed before a fault stays, and need not come again.
    """
    tools = tools or slicer_tools()
    broken = _broken(setup, on_step, tools)
    if (setup.torch != "ready" or "torch" in broken) and not setup.extension:
        raise extension_missing()
    with _hearing(on_step):
        _remove(broken, on_step, tools)
        if setup.torch != "ready" or "torch" in broken:
            on_step(_("Installing PyTorch: this takes some minutes"), None)
            _install_torch(tools)
        if not setup.safetensors or "safetensors" in broken:
            on_step(_("Installing safetensors"), None)
            tools.ensure(SAFETENSORS)
    verify(on_step, tools.python)
    return look(tools.paths)


@_one_at_a_time
def install_from_folder(folder: str | os.PathLike[str], on_step: Heard, tools: Tools | None = None) -> Setup:
    """Install wheels and add checkpoints from a folder, without a network.

    Parameters
    ----------
    folder : path
        With wheels (.whl) of torch, safetensors and what they require, checkpoints (.safetensors), or both.
    on_step, tools
        As in `install`.

    Raises
    ------
    InstallError
        install-wheels-missing, before anything is installed, with all that is missing; else as `install`.
    ModelError, OutputError
        From `library.add`, for the first checkpoint that cannot be added; the others are.
    """
    folder = Path(folder)
    tools = tools or slicer_tools()
    setup = look(tools.paths)
    models = sorted(folder.glob(f"*{SUFFIX}"))
    if not setup.ready and (any(folder.glob("*.whl")) or not models):
        _install_wheels(folder, setup, on_step, tools)
    elif not models:
        seen = _("There is no checkpoint in '{folder}', and all packages are installed.").format(folder=folder)
        raise InstallError("install-wheels-missing", seen, "a checkpoint (.safetensors).")
    refused: list[MRSynthError] = []
    for path in models:
        on_step(_("Adding the checkpoint {name}").format(name=path.name), None)
        refused += _added(path)
    if refused:
        raise refused[0]
    return look(tools.paths)


def verify(on_step: Heard, python: str | None = None) -> str:
    """Import torch and safetensors in a child process and use them; return the version of torch.

    Raises
    ------
    InstallError
        install-broken, with the child's last words.
    """
    printed, words = _checked(on_step, python or interpreter())
    if words:
        raise error("install-broken", words)
    return printed[0]


def _checked(on_step: Heard, python: str) -> tuple[list[str], str]:
    """Return what the check printed, the version of torch and "safetensors", and why it failed, or ""."""
    try:
        child = Child([python, "-c", _CHECK], environment())
    except OSError as fault:
        return [], f"'{python}' cannot be started: {fault}"
    try:
        while child.exit_code is None:
            on_step(_("Checking that PyTorch works"), None)  # 3D Slicer handles events meanwhile
            time.sleep(0.05)
        code = child.exit_code
    finally:
        child.end()
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    while not child.lines.empty():
        stream, line = child.lines.get()
        said[stream] += [line.strip()] if line.strip() else []
    return said["stdout"], "" if code == 0 else (said["stderr"] or [f"exit code {code}"])[-1]


@contextlib.contextmanager
def _hearing(on_step: Heard) -> Iterator[None]:
    """Tell what pip prints, and turn whatever goes wrong into an `InstallError`."""
    with listening(on_step, release(packages.find("pip").version)) as lines:
        try:
            yield
        except InstallError:
            raise
        except Exception as fault:
            raise understood([*lines, f"{type(fault).__name__}: {fault}"]) from fault
        finally:
            importlib.invalidate_caches()


def _broken(setup: Setup, on_step: Heard, tools: Tools) -> set[str]:
    """Return which packages have to be removed before they can be installed."""
    broken = {name for name in _PARTS if packages.find(name, tools.paths).state == "broken"}
    if setup.ready and not broken:
        printed, words = _checked(on_step, tools.python)
        if words:
            broken = {"safetensors" if printed else "torch"}
    return broken | ({"torch"} if setup.torch == "broken" else set())


def _remove(broken: Collection[str], on_step: Heard, tools: Tools) -> None:
    """Remove what is broken: by pip as far as it can, the rest by its names in site-packages."""
    for name in broken:
        on_step(_("Removing what is left of a broken {name}").format(name=name), None)
        with contextlib.suppress(Exception):  # pip cannot remove what it does not know, and then says so
            tools.pip_uninstall([name])
        for entry in [one for part in _PARTS[name] for one in packages.remains(part, tools.site_packages)]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        left = packages.find(name, tools.paths)
        if left.state == "broken":
            raise error("install-broken", f"{left.why}, outside of {tools.site_packages}")


def _install_torch(tools: Tools) -> None:
    try:
        answer = tools.install_torch()
    except subprocess.CalledProcessError:
        raise
    except Exception:
        # The extension imports torch in the end. If only that failed, the check that follows knows better why.
        if packages.find("torch", tools.paths).state != "whole":
            raise
    else:
        if answer is None:
            raise InstallError("install-declined", _("PyTorch was not agreed to."), "a consent.")


def _install_wheels(folder: Path, setup: Setup, on_step: Heard, tools: Tools) -> None:
    wanted = [TORCH] * (setup.torch != "ready") + [SAFETENSORS] * (not setup.safetensors)
    missing = wheels.lacking(folder, wanted, tools.paths)
    if missing:
        seen = _("'{folder}' lacks: {missing}.").format(folder=folder, missing="; ".join(missing))
        raise InstallError("install-wheels-missing", seen, f"wheels for {wheels.this_python()}.")
    broken = _broken(setup, on_step, tools)
    try:
        with _hearing(on_step):
            _remove(broken, on_step, tools)
            on_step(_("Installing from the folder"), None)
            tools.pip_install(["--no-index", "--find-links", str(folder), *wanted])
    except InstallError as fault:
        if fault.code != "install-no-build":
            raise
        raise InstallError("install-wheels-missing", fault.seen, f"wheels for {wheels.this_python()}.") from fault
    verify(on_step, tools.python)


def _added(path: Path) -> list[MRSynthError]:
    """Add a checkpoint; return what was wrong with it, if anything."""
    try:
        library.add(path)
    except MRSynthError as fault:
        return [fault]
    return []
