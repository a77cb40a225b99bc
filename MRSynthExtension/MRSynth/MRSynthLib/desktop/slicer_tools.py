"""What carries an installation out inside 3D Slicer: its pip, the PyTorch extension, the Extensions Manager."""

from __future__ import annotations

import importlib
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MRSynthLib.engine.errors import InstallError

from .child import interpreter
from .needs import TORCH
from .words import _

EXTENSION = "PyTorch"


@dataclass(frozen=True)
class Tools:
    """What carries an installation out; every function prints what it does, and raises when it fails.

    Attributes
    ----------
    install_torch : callable
        Installs torch in the build for this computer; returns None where the user declined.
    ensure : callable
        Installs one requirement from the usual index.
    pip_install, pip_uninstall : callable
        Take pip's arguments.
    site_packages : Path
        Where pip installs to: all that is ever removed lies in here.
    python : str
        The Python that runs what was installed.
    paths : sequence of str or None
        Where packages are looked for; None is where Python does.
    """

    install_torch: Callable[[], object]
    ensure: Callable[[str], object]
    pip_install: Callable[[list[str]], object]
    pip_uninstall: Callable[[list[str]], object]
    site_packages: Path
    python: str
    paths: Sequence[str] | None = None


def slicer_tools() -> Tools:
    """Return the tools of 3D Slicer, 5.10 or newer."""
    import slicer

    try:
        packaging: Any = importlib.import_module("slicer.packaging")
    except ModuleNotFoundError:  # before 5.12
        packaging = None

    def install_torch() -> object:
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        return logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH.removeprefix("torch"))

    def ensure(requirement: str) -> object:
        if packaging is None:
            return slicer.util.pip_install([requirement])
        # Its dialogs would only repeat what is asked and shown here.
        silent = {"prompt_install": False, "prompt_restart": False, "show_progress": False}
        return packaging.pip_ensure([requirement], requester="MRSynth", **silent)

    def pip_install(arguments: list[str]) -> object:
        if packaging is None:
            return slicer.util.pip_install(arguments)
        return packaging.pip_install(arguments, show_progress=False)

    site_packages = Path(sysconfig.get_path("purelib"))
    return Tools(install_torch, ensure, pip_install, slicer.util.pip_uninstall, site_packages, interpreter())


def extension_missing() -> InstallError:
    """Return the error that says how the PyTorch extension is installed."""
    return InstallError("install-extension-missing", _("The PyTorch extension is not installed."), "that extension.")


def add_extension() -> None:
    """Have 3D Slicer's Extensions Manager download and install the PyTorch extension, which needs a restart then.

    The manager itself asks the user, and shows its progress. 3D Slicer is not restarted: the scene may not be saved.

    Raises
    ------
    InstallError
        install-extension-missing: it could not be installed.
    """
    import slicer

    restart = False
    if not slicer.app.extensionsManagerModel().installExtensionFromServer(EXTENSION, restart):
        raise extension_missing()
