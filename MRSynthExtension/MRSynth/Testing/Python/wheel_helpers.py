"""Wheels of next to nothing, real environments to install them into, and pip as 3D Slicer calls it."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from MRSynthLib.desktop.slicer_tools import Tools

# Enough for what the engine asks of them first.
FAKE_TORCH = """
__version__ = {version!r}
class _Tensor:
    def __init__(self, array): self.array = array
    def sum(self): return _Tensor(self.array.sum())
    def numpy(self): return self.array
def from_numpy(array): return _Tensor(array)
"""

FAKE_NUMPY = """
float32 = float
class ones(list):
    def __init__(self, size, dtype): super().__init__([1.0] * size)
    def sum(self): return sum(self)
"""


def wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel that pip takes."""
    record = f"{name}-{version}.dist-info"
    contents = dict(files or {f"{name}/__init__.py": f"__version__ = {version!r}\n"})
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    contents[f"{record}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    contents[f"{record}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    lines = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in contents.items()]
    contents[f"{record}/RECORD"] = "\n".join([*lines, f"{record}/RECORD,,"]) + "\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in contents.items():
            archive.writestr(inner, text)
    return path


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def torch_wheel(folder: Path, version: str = "2.9.0", *, program: str = FAKE_TORCH, **more: Iterable[str]) -> Path:
    """A wheel that passes for torch: Python files, and some that end like libraries."""
    files = {
        "torch/__init__.py": program.format(version=version),
        "torch/nn/__init__.py": "",
        "torch/lib/libtorch_cpu.so": "a library" * 100,
        "torchgen/__init__.py": "",
        "functorch/__init__.py": "",
    }
    return wheel(folder, "torch", version, files=files, requires=more.get("requires", ()))


def safetensors_wheel(folder: Path, version: str = "0.5.0") -> Path:
    """A wheel that passes for safetensors."""
    return wheel(folder, "safetensors", version, files={"safetensors/__init__.py": "", "safetensors/numpy.py": ""})


class Environment:
    """A virtual environment into which the pip of the running Python installs; something for numpy is there."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        self.site_packages = next(folder.rglob("site-packages"))
        (self.site_packages / "numpy.py").write_text(FAKE_NUMPY)

    def unpack(self, *wheels: Path) -> None:
        """Put wheels there as pip does, but at once."""
        for path in wheels:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(self.site_packages)

    def pip(self, *arguments: str) -> None:
        """Run pip, print every line, and raise the bare exception that 3D Slicer raises."""
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        surroundings = {**ours, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        with subprocess.Popen(
            command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line.rstrip())
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)

    def tools(self, *index: str) -> Tools:
        """The tools that install from `index`, e.g. "--no-index", "--find-links", folder."""

        def install(*arguments: str) -> bool:
            self.pip("install", *arguments)
            return True

        return Tools(
            install_torch=lambda: install(*index, "torch>=2.2"),
            ensure=lambda requirement: install(*index, requirement),
            pip_install=lambda arguments: install(*arguments),
            pip_uninstall=lambda names: self.pip("uninstall", *names, "--yes"),
            site_packages=self.site_packages,
            python=self.python,
            paths=[str(self.site_packages)],
        )
