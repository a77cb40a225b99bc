"""What MRSynth needs inside 3D Slicer, PyTorch and safetensors: whether it is there, and how it is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from MRSynthLib.engine.errors import ERRORS

from . import packages
from .words import _

OLDEST_TORCH = (2, 2)
TORCH = "torch>=2.2"
SAFETENSORS = "safetensors>=0.4"
REMOVAL = 'slicer.util.pip_uninstall("torch torchvision safetensors")'

# MB to download and on the disk: wheels of torch 2.13 and 2.15 for Python 3.11 and 3.12, as pip shows their size.
CPU_DOWNLOAD, CPU_DISK = 200, 900  # 127 MB on Windows, 139 on macOS, 192 on Linux
GPU_DOWNLOAD = 3000  # on Linux: 539 MB, and 2600 MB of NVIDIA's libraries and Triton

TorchState = Literal["ready", "missing", "broken", "old"]


@dataclass(frozen=True)
class Setup:
    """What `look` found.

    Attributes
    ----------
    ready : bool
        Whether everything is there that a run needs.
    torch : {'ready', 'missing', 'broken', 'old'}
    torch_version : str
        "" where it has none.
    safetensors : bool
        Whether it is there and whole.
    extension : bool
        Whether the PyTorch extension can be used now.
    explanation : str
        All of it in words, with what to do.
    """

    ready: bool
    torch: TorchState
    torch_version: str
    safetensors: bool
    extension: bool
    explanation: str


def look(paths: Sequence[str] | None = None) -> Setup:
    """Look what is there, in about a tenth of a second and without importing it.

    Parameters
    ----------
    paths : sequence of str, optional
        Where to look for packages; by default where Python does.
    """
    torch, safetensors = packages.find("torch", paths), packages.find("safetensors", paths)
    states: dict[packages.State, TorchState] = {"whole": "ready", "missing": "missing", "broken": "broken"}
    state = states[torch.state]
    if state == "ready" and release(torch.version) < OLDEST_TORCH:
        state = "old"
    extension = importlib.util.find_spec("PyTorchUtils") is not None
    ready = state == "ready" and safetensors.state == "whole"
    explanation = _explanation(state, torch, safetensors, extension)
    return Setup(ready, state, torch.version, safetensors.state == "whole", extension, explanation)


def consent(setup: Setup) -> str:
    """Return the one text that the user agrees to: what, how large, why, where to, and how it goes away again.

    Where nothing is lacking, it is about what does not work although it is there.
    """
    folder = Path(sysconfig.get_path("purelib"))
    lines = [
        _("MRSynth computes with packages that 3D Slicer does not contain. Download and install them now?"),
        "",
    ]
    if setup.torch == "broken":
        lines.append(_("• First, what is left of a broken PyTorch is removed."))
    if setup.ready:
        lines.append(
            _("• PyTorch or safetensors is there and does not work: that one is removed, and downloaded again.")
        )
    if setup.ready or setup.torch != "ready":
        text = _(
            "• PyTorch with torchvision, by the PyTorch extension: {cpu} MB to download and {disk} MB on the disk;"
            " with an NVIDIA GPU up to {gpu} GB to download, so keep 10 GB free."
        )
        lines.append(text.format(cpu=CPU_DOWNLOAD, disk=CPU_DISK, gpu=GPU_DOWNLOAD // 1000))
    if setup.ready or not setup.safetensors:
        lines.append(_("• safetensors, which reads the models: less than 1 MB."))
    lines += [
        "",
        _("They go into the Python of this 3D Slicer and nowhere else: {folder}").format(folder=folder),
        _("They come from PyTorch's own server and PyPI. Nothing about your images is sent."),
        _("To remove them, type into the Python console: {command}").format(command=REMOVAL),
    ]
    with contextlib.suppress(OSError):
        lines.append(_("Free on that disk: {free:.0f} GB").format(free=shutil.disk_usage(folder).free / 1e9))
    return "\n".join(lines)


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version, (0, 0) for a text that is none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _explanation(state: TorchState, torch: packages.Package, safetensors: packages.Package, extension: bool) -> str:
    said = {
        "ready": _("PyTorch {version} is installed."),
        "missing": _("PyTorch is not installed."),
        "broken": _("PyTorch is only half installed: {why}. Installing repairs it."),
        "old": _("PyTorch {version} is too old; 2.2 or newer is needed."),
    }
    lines = [said[state].format(version=torch.version, why=torch.why)]
    if safetensors.state == "missing":
        lines.append(_("safetensors is not installed."))
    elif safetensors.state == "broken":
        lines.append(_("safetensors is only half installed: {why}.").format(why=safetensors.why))
    if state != "ready" and not extension:
        kind = ERRORS["install-extension-missing"]
        lines += [_(kind.cause), _(kind.remedy)]
    return " ".join(lines)
