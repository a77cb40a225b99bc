"""Installing, repairing and installing from a folder, by real pip into real environments."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import fill
from test_packages import DAMAGES
from wheel_helpers import Environment, safetensors_wheel, torch_wheel, wheel

from MRSynthLib.desktop import install, slicer_tools
from MRSynthLib.desktop.needs import Setup
from MRSynthLib.desktop.probing import DeviceProbe
from MRSynthLib.desktop.runner import run
from MRSynthLib.engine import model_folders
from MRSynthLib.engine.errors import InstallError, ModelError
from MRSynthLib.engine.volume import Volume

BROKEN_PROGRAM = "raise OSError('[WinError 126] fbgemm.dll or one of its dependencies')"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of wheels, with a space in its name."""
    folder = tmp_path / "wheels of mine"
    folder.mkdir()
    wheel(folder, "filelock", "3.0")
    torch_wheel(folder, requires=["filelock", "typing-extensions>=4; python_version < '3'"])
    safetensors_wheel(folder)
    return folder


@pytest.fixture(autouse=True)
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that is found as the PyTorch extension is."""
    folder = tmp_path / "extension"
    folder.mkdir()
    (folder / "PyTorchUtils.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(folder))
    return folder / "PyTorchUtils.py"


class Steps:
    """What the user was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, fraction: float | None) -> None:
        self.texts.append(text)


def tools_of(environment: Environment, index: Path) -> install.Tools:
    return environment.tools("--no-index", "--find-links", str(index))


def names(environment: Environment) -> set[str]:
    return {path.name for path in environment.site_packages.iterdir()} - {"__pycache__"}


def snapshot(environment: Environment) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in environment.site_packages.rglob("*")}


# --- install and repair ---------------------------------------------------------------------------------


def test_what_is_missing_is_installed_and_works(
    environment: Environment, index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tools = tools_of(environment, index)
    before = install.look(tools.paths)
    assert (before.ready, before.torch, before.safetensors, before.extension) == (False, "missing", False, True)
    steps = Steps()
    after = install.install(before, steps, tools)
    assert (after.ready, after.torch, after.torch_version, after.safetensors) == (True, "ready", "2.9.0", True)
    assert install.verify(steps, environment.python) == "2.9.0"
    assert "Installing PyTorch: this takes some minutes" in steps.texts
    assert any(text.startswith("Successfully installed") and "torch-2.9.0" in text for text in steps.texts)
    assert "Successfully installed" in capfd.readouterr().out  # and still in the console


def test_an_old_torch_is_replaced(environment: Environment, index: Path, tmp_path: Path) -> None:
    environment.unpack(torch_wheel(tmp_path, "1.13.1"))
    tools = tools_of(environment, index)
    after = install.install(install.look(tools.paths), Steps(), tools)
    assert after.torch_version == "2.9.0"
    assert "torch-1.13.1.dist-info" not in names(environment)


def test_only_what_is_missing_is_installed(environment: Environment, index: Path) -> None:
    environment.unpack(*index.glob("[ft]*.whl"))
    tools = replace(tools_of(environment, index), install_torch=lambda: pytest.fail("not asked for"))
    assert install.install(install.look(tools.paths), Steps(), tools).ready


@pytest.mark.parametrize(
    "damage", ["no package", "no entry", "no RECORD", "a library cut off", "pip was killed", "leftovers only"]
)
def test_a_half_installed_torch_is_repaired_and_nothing_else_touched(
    damage: str, environment: Environment, index: Path
) -> None:
    environment.unpack(*index.glob("*.whl"))
    for name in ("torchmetrics", "torch_geometric-2.0.dist-info", "~orchmetrics"):
        (environment.site_packages / name).mkdir()
    whole = names(environment)
    DAMAGES[damage][0](environment.site_packages)
    tools = tools_of(environment, index)
    setup = install.look(tools.paths)
    assert setup.torch == "broken"
    steps = Steps()
    assert install.install(setup, steps, tools).ready
    assert names(environment) == whole
    assert "Removing what is left of a broken torch" in steps.texts


def test_a_half_installed_safetensors_is_repaired(environment: Environment, index: Path) -> None:
    environment.unpack(*index.glob("*.whl"))
    (environment.site_packages / "safetensors" / "numpy.py").unlink()
    tools = replace(tools_of(environment, index), install_torch=lambda: pytest.fail("not asked for"))
    setup = install.look(tools.paths)
    assert (setup.ready, setup.torch, setup.safetensors) == (False, "ready", False)
    assert "numpy.py is missing" in setup.explanation
    assert install.install(setup, Steps(), tools).ready


def test_what_looks_whole_and_does_not_work_is_installed_anew(
    environment: Environment, index: Path, tmp_path: Path
) -> None:
    """As with libraries that another program has replaced: only the child process can tell."""
    broken = torch_wheel(tmp_path, "2.8.0", program=BROKEN_PROGRAM)
    environment.unpack(broken, *index.glob("[fs]*.whl"))
    tools = tools_of(environment, index)
    setup = install.look(tools.paths)
    assert setup.ready
    assert install.install(setup, Steps(), tools).torch_version == "2.9.0"


def test_links_are_removed_and_what_they_point_to_stays(environment: Environment, index: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (environment.site_packages / "torch").symlink_to(elsewhere)
    tools = tools_of(environment, index)
    assert install.install(install.look(tools.paths), Steps(), tools).ready
    assert (elsewhere / "precious").exists()


def test_a_broken_torch_outside_of_site_packages_is_named_and_not_touched(
    environment: Environment, index: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign" / "site-packages"
    (foreign / "torch").mkdir(parents=True)
    tools = replace(tools_of(environment, index), paths=[str(foreign), str(environment.site_packages)])
    with pytest.raises(InstallError, match="outside of") as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-broken"
    assert (foreign / "torch").is_dir()


def test_without_the_extension_nothing_is_done(environment: Environment, index: Path, extension: Path) -> None:
    extension.unlink()
    sys.path_importer_cache.clear()
    tools = tools_of(environment, index)
    setup = install.look(tools.paths)
    assert not setup.extension
    assert "Extensions Manager" in setup.explanation
    before = snapshot(environment)
    with pytest.raises(InstallError) as caught:
        install.install(setup, Steps(), tools)
    assert caught.value.code == "install-extension-missing"
    assert "View > Extensions Manager" in caught.value.remedy
    assert snapshot(environment) == before


def test_a_torch_that_is_there_needs_no_extension(environment: Environment, index: Path, extension: Path) -> None:
    extension.unlink()
    sys.path_importer_cache.clear()
    environment.unpack(*index.glob("[ft]*.whl"))
    tools = tools_of(environment, index)
    assert install.install(install.look(tools.paths), Steps(), tools).ready


def test_a_user_who_declines_is_left_alone(environment: Environment, index: Path) -> None:
    tools = replace(tools_of(environment, index), install_torch=lambda: None)
    with pytest.raises(InstallError) as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-declined"
    assert "safetensors" not in names(environment)


def test_a_torch_that_was_installed_and_does_not_work_is_said_so(
    environment: Environment, index: Path, tmp_path: Path
) -> None:
    torch_wheel(index, "2.9.1", program=BROKEN_PROGRAM)
    tools = tools_of(environment, index)
    with pytest.raises(InstallError, match=r"fbgemm\.dll") as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-broken"


def test_the_extensions_own_import_may_fail_where_the_check_succeeds(environment: Environment, index: Path) -> None:
    """It imports torch into 3D Slicer's process, where an old one may be loaded already."""
    tools = tools_of(environment, index)

    def install_and_import() -> None:
        tools.install_torch()
        raise ImportError("torch was replaced while it was in use")

    assert install.install(install.look(tools.paths), Steps(), replace(tools, install_torch=install_and_import)).ready

    def import_only() -> None:
        raise ImportError("nothing was installed")

    other = Environment(Path(environment.python).parents[2] / "other")
    tools = replace(tools_of(other, index), install_torch=import_only)
    with pytest.raises(InstallError, match="nothing was installed") as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-failed"


def test_a_full_disk_is_told_and_can_be_gone_on_from(small_disk: Path, index: Path) -> None:
    environment = Environment(small_disk / "environment")
    fill(small_disk, leave=4096)
    tools = tools_of(environment, index)
    with pytest.raises(InstallError) as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-disk-full"
    (small_disk / "filling").unlink()
    assert install.install(install.look(tools.paths), Steps(), tools).ready


def test_a_folder_that_cannot_be_written_to_is_told(
    environment: Environment, index: Path, read_only_folder: Path
) -> None:
    source = ["--no-index", "--find-links", str(index)]
    tools = replace(
        tools_of(environment, index),
        install_torch=lambda: environment.pip("install", *source, "--target", str(read_only_folder / "x"), "torch"),
    )
    with pytest.raises(InstallError, match=r"Read-only|Permission") as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-not-writable"


def test_files_in_use_are_told(environment: Environment, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows refuses to remove a library that is loaded."""
    (environment.site_packages / "torch").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "[WinError 5] Access is denied", str(path / "lib" / "asmjit.dll"))

    monkeypatch.setattr(install.shutil, "rmtree", refuse)
    tools = tools_of(environment, index)
    with pytest.raises(InstallError, match=r"asmjit\.dll") as caught:
        install.install(install.look(tools.paths), Steps(), tools)
    assert caught.value.code == "install-in-use"
    assert "Restart 3D Slicer" in caught.value.remedy


def test_a_second_installation_waits_for_the_first_to_end(environment: Environment, index: Path) -> None:
    """3D Slicer handles clicks while pip runs."""
    tools = tools_of(environment, index)
    setup = install.look(tools.paths)
    refused: list[str] = []

    def click_again(text: str, fraction: float | None) -> None:
        for again in (
            lambda: install.install(setup, Steps(), tools),
            lambda: install.install_from_folder(index, Steps(), tools),
        ):
            with pytest.raises(InstallError) as caught:
                again()
            refused.append(caught.value.code)

    assert install.install(setup, click_again, tools).ready
    assert set(refused) == {"install-in-progress"}
    failing = replace(tools, install_torch=lambda: pytest.fail("not asked for"), python="no python")
    for _ in range(2):  # and a fault ends it too
        with pytest.raises(InstallError, match="no python") as caught:
            install.install(replace(setup, torch="ready", safetensors=True), Steps(), failing)
        assert caught.value.code == "install-broken"


# --- consent --------------------------------------------------------------------------------------------


def test_the_consent_names_what_how_large_why_where_and_how_it_goes_away() -> None:
    text = install.consent(Setup(False, "missing", "", False, True, ""))
    for word in ("PyTorch", "safetensors", "200 MB", "3 GB", "computes", "pip_uninstall", "PyPI", sys.prefix):
        assert word in text
    assert "removed" not in text
    assert "broken PyTorch is removed" in install.consent(Setup(False, "broken", "", True, True, ""))


def test_the_consent_to_a_repair_names_what_is_removed_and_downloaded_again() -> None:
    text = install.consent(Setup(True, "ready", "2.9.0", True, True, ""))
    for word in ("does not work", "removed", "again", "PyTorch", "200 MB", "safetensors", "less than 1 MB"):
        assert word in text


def test_the_consent_names_only_what_will_be_installed() -> None:
    text = install.consent(Setup(False, "ready", "2.9.0", False, True, ""))
    assert "less than 1 MB" in text
    assert "200 MB" not in text


# --- from a folder --------------------------------------------------------------------------------------


def test_a_whole_folder_is_installed_with_its_checkpoints(
    environment: Environment, index: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(model_folders.USER_MODELS, str(tmp_path / "models"))
    shutil.copy(tiny_checkpoint, index / "anything.safetensors")
    tools = replace(environment.tools(), install_torch=lambda: pytest.fail("no network"), ensure=pytest.fail)
    steps = Steps()
    assert install.install_from_folder(index, steps, tools).ready
    assert (tmp_path / "models" / "tiny-untrained.safetensors").is_file()
    assert "Adding the checkpoint anything.safetensors" in steps.texts


def test_a_half_installed_torch_is_repaired_from_a_folder(environment: Environment, index: Path) -> None:
    environment.unpack(*index.glob("*.whl"))
    shutil.rmtree(environment.site_packages / "torch" / "nn")
    assert install.install_from_folder(str(index), Steps(), environment.tools()).ready
    assert (environment.site_packages / "torch" / "nn").is_dir()


def test_what_the_folder_lacks_is_listed_before_anything_is_done(environment: Environment, index: Path) -> None:
    (index / "filelock-3.0-py3-none-any.whl").unlink()
    (index / "safetensors-0.5.0-py3-none-any.whl").unlink()
    wheel(index, "safetensors", "0.5.0", tag="cp35-cp35m-win32")
    before = snapshot(environment)
    with pytest.raises(InstallError) as caught:
        install.install_from_folder(index, Steps(), environment.tools())
    assert caught.value.code == "install-wheels-missing"
    assert "filelock for torch" in caught.value.seen
    assert "there is safetensors-0.5.0-cp35-cp35m-win32.whl" in caught.value.seen
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in caught.value.expected
    assert snapshot(environment) == before


def test_wheels_that_do_not_go_together_are_told(environment: Environment, index: Path) -> None:
    """Each requirement can be met, but not all of them at once: pip finds out."""
    wheel(index, "helper", "1.0")
    wheel(index, "helper", "2.0")
    torch_wheel(index, "2.9.5", requires=["helper<2", "chooser"])
    (index / "torch-2.9.0-py3-none-any.whl").unlink()
    wheel(index, "chooser", "1.0", requires=["helper>=2"])
    with pytest.raises(InstallError) as caught:
        install.install_from_folder(index, Steps(), environment.tools())
    assert caught.value.code == "install-wheels-missing"
    assert "torch" not in names(environment)


def test_checkpoints_alone_are_added(
    environment: Environment, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not packages are still missing: the panel goes on to ask for them."""
    monkeypatch.setenv(model_folders.USER_MODELS, str(tmp_path / "models"))
    folder = tmp_path / "stick"
    folder.mkdir()
    shutil.copy(tiny_checkpoint, folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"text")
    shutil.copy(model_folders.find(), folder / "c.safetensors")
    with pytest.raises(ModelError, match=r"b\.safetensors"):
        install.install_from_folder(folder, Steps(), environment.tools())
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny-untrained.safetensors"]


@pytest.mark.parametrize("ready", [True, False])
def test_a_folder_with_nothing_in_it_is_told(
    ready: bool, environment: Environment, index: Path, tmp_path: Path
) -> None:
    if ready:
        environment.unpack(*index.glob("*.whl"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InstallError, match="empty") as caught:
        install.install_from_folder(empty, Steps(), environment.tools())
    assert caught.value.code == "install-wheels-missing"


# --- what it is for -------------------------------------------------------------------------------------

BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def required(*names: str) -> set[str]:
    """Canonical names of packages and of all that they require."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = re.split(r"[^\w.-]", todo.pop())[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                todo += [one for one in importlib.metadata.requires(name) or [] if "extra ==" not in one]
    return found


def test_a_run_needs_torch_and_safetensors_beside_what_3d_slicer_ships(
    tiny_checkpoint: Path, phantom_t1: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child process of a run and of a probe, from which every other installed package is kept away."""
    allowed = required("torch", "safetensors", "numpy", "SimpleITK")
    blocked = {
        module
        for module, homes in importlib.metadata.packages_distributions().items()
        if not {home.lower().replace("_", "-") for home in homes} & allowed and module.isidentifier()
    } - {"MRSynth", "MRSynthLib", "mrsynth_training"}
    assert {"nibabel", "scipy", "slicer", "vtk", "nilearn", "pytest"} <= blocked
    (tmp_path / "sitecustomize.py").write_text(BLOCK.format(blocked=blocked))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(phantom_t1, model=tiny_checkpoint, device="cpu", cycle=True).voxels.any()
    probe = DeviceProbe(tiny_checkpoint)
    probe.start()
    while not probe.poll(timeout=0.5):
        pass
    assert probe.result().devices
    # And it is this that keeps them away:
    done = subprocess.run([sys.executable, "-c", "import nibabel"], capture_output=True, text=True, check=False)
    assert "No module named 'nibabel'" in done.stderr


# --- the tools of 3D Slicer -----------------------------------------------------------------------------


class Calls(list[Any]):
    """Functions with the parameters that 3D Slicer's have; calls with others are TypeErrors."""

    def pip_install_5_10(self, requirements: str | list[str]) -> None:
        self.append(("util.pip_install", requirements))

    def pip_install_5_12(
        self,
        requirements: str | list[str],
        constraints: str | None = None,
        no_deps_requirements: str | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> None:
        self.append(("packaging.pip_install", requirements, show_progress, blocking))

    def pip_ensure_5_12(
        self,
        requirements: str | list[str],
        constraints: str | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        self.append(("packaging.pip_ensure", requirements, requester, prompt_install, prompt_restart, show_progress))

    def pip_uninstall(self, requirements: str | list[str]) -> None:
        self.append(("pip_uninstall", requirements))

    def installTorch(  # noqa: N802 - the extension's own name
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
        torchvisionVersionRequirement: str | None = None,
    ) -> str:
        self.append(("installTorch", askConfirmation, torchVersionRequirement))
        return "torch"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What was called of 3D Slicer 5.10 and of the PyTorch extension."""
    calls = Calls()
    slicer = types.ModuleType("slicer")
    slicer.__path__ = []
    slicer.util = types.SimpleNamespace(pip_install=calls.pip_install_5_10, pip_uninstall=calls.pip_uninstall)
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: calls
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.delitem(sys.modules, "slicer.packaging", raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    return calls


@pytest.fixture
def packaging(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """3D Slicer 5.12 has more."""
    module = types.ModuleType("slicer.packaging")
    module.pip_install = calls.pip_install_5_12
    module.pip_ensure = calls.pip_ensure_5_12
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)


def carried_out(tools: install.Tools) -> None:
    assert tools.install_torch() == "torch"
    tools.ensure("safetensors>=0.4")
    tools.pip_install(["--no-index", "--find-links", "a folder", "torch"])
    tools.pip_uninstall(["torch"])


def test_torch_comes_by_the_extension_and_the_rest_by_slicers_pip_in_5_10(calls: Calls) -> None:
    carried_out(slicer_tools.slicer_tools())
    assert calls == [
        ("installTorch", False, ">=2.2"),
        ("util.pip_install", ["safetensors>=0.4"]),
        ("util.pip_install", ["--no-index", "--find-links", "a folder", "torch"]),
        ("pip_uninstall", ["torch"]),
    ]


@pytest.mark.usefixtures("packaging")
def test_and_by_its_packaging_module_without_second_dialogs_in_5_12(calls: Calls) -> None:
    carried_out(slicer_tools.slicer_tools())
    assert calls == [
        ("installTorch", False, ">=2.2"),
        ("packaging.pip_ensure", ["safetensors>=0.4"], "MRSynth", False, False, False),
        ("packaging.pip_install", ["--no-index", "--find-links", "a folder", "torch"], False, True),
        ("pip_uninstall", ["torch"]),
    ]


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_extensions_manager_installs_the_extension_without_a_restart(
    succeeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Model:
        def installExtensionFromServer(self, name: str, restart: bool = True, update: bool = False) -> bool:  # noqa: N802
            asked.append((name, restart))
            return succeeds

    slicer = types.ModuleType("slicer")
    slicer.app = types.SimpleNamespace(extensionsManagerModel=Model)
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    if succeeds:
        install.add_extension()
    else:
        with pytest.raises(InstallError) as caught:
            install.add_extension()
        assert caught.value.code == "install-extension-missing"
    assert asked == [("PyTorch", False)]
