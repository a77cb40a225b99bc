"""Whether a package is there and whole is told from its files; real pip has installed them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wheel_helpers import Environment, torch_wheel

from MRSynthLib.desktop import needs, packages

RECORD = "torch-2.9.0.dist-info/RECORD"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages folder with the wheel that passes for torch 2.9.0, as pip left it; to be copied."""
    folder = tmp_path_factory.mktemp("installed")
    environment = Environment(folder / "environment")
    # If look imported it, the test would end here.
    torch_wheel(folder, program="raise SystemExit('imported')")
    environment.pip("install", "--no-index", "--find-links", str(folder), "torch")
    return environment.site_packages


@pytest.fixture
def site(installed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(installed, tmp_path / "site-packages"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def only_leftovers(site: Path) -> None:
    shutil.rmtree(site / "torch")
    (site / "torch-2.9.0.dist-info").rename(site / "~orch-2.9.0.dist-info")


def second_version(site: Path) -> None:
    shutil.copytree(site / "torch-2.9.0.dist-info", site / "torch-1.8.1.dist-info")
    path = site / "torch-1.8.1.dist-info" / "METADATA"
    path.write_text(path.read_text().replace("2.9.0", "1.8.1"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no package": (lambda site: shutil.rmtree(site / "torch"), "torch/__init__.py is missing"),
    "no entry": (lambda site: shutil.rmtree(site / "torch-2.9.0.dist-info"), "not its entry"),
    "a folder only": (
        lambda site: (shutil.rmtree(site / "torch-2.9.0.dist-info"), (site / "torch" / "__init__.py").unlink()),
        "not its entry",
    ),
    "no RECORD": (lambda site: (site / RECORD).unlink(), "list of its files"),
    "empty METADATA": (lambda site: (site / RECORD).with_name("METADATA").write_text(""), "entry in the list"),
    "no METADATA": (lambda site: (site / RECORD).with_name("METADATA").unlink(), "entry in the list"),
    "a part missing": (lambda site: shutil.rmtree(site / "torchgen"), "torchgen/__init__.py is missing"),
    "a library cut off": (lambda site: truncate(site / "torch/lib/libtorch_cpu.so"), "libtorch_cpu.so is not whole"),
    "pip was killed": (lambda site: (site / "torch").rename(site / "~orch"), "torch/__init__.py is missing"),
    "leftovers only": (only_leftovers, "interrupted"),
    "two versions": (second_version, "1.8.1 and 2.9.0"),
}


def test_a_whole_package_is_found_with_its_version(site: Path) -> None:
    assert packages.find("torch", [str(site)]) == packages.Package("torch", "2.9.0", "whole")
    assert needs.look([str(site)]).torch == "ready"


def test_nothing_is_found_where_nothing_is(tmp_path: Path, site: Path) -> None:
    shutil.rmtree(site / "torch")
    shutil.rmtree(site / "torch-2.9.0.dist-info")
    assert packages.find("torch", [str(site), str(tmp_path / "nowhere"), ""]).state == "missing"


def test_a_folder_of_that_name_elsewhere_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    assert packages.find("torch", [str(tmp_path)]).state == "missing"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_package_is_told_with_the_reason(damage: str, site: Path) -> None:
    spoil, why = DAMAGES[damage]
    spoil(site)
    found = packages.find("torch", [str(site)])
    assert found.state == "broken"
    assert why in found.why
    setup = needs.look([str(site)])
    assert (setup.torch, setup.ready) == ("broken", False)
    assert why in setup.explanation


def test_leftovers_beside_a_whole_package_do_no_harm(site: Path) -> None:
    shutil.copytree(site / "torch", site / "~orch")
    assert packages.find("torch", [str(site)]).state == "whole"


def test_the_same_folder_twice_on_the_path_is_one_package(site: Path) -> None:
    assert packages.find("torch", [str(site), str(site)]).state == "whole"


def test_everything_of_a_package_and_nothing_else_remains_to_be_removed(site: Path) -> None:
    for name in ("~orch", "~-rch", "~orch-2.8.0.dist-info", "torchmetrics", "~orchmetrics", "torch_geometric", "~umpy"):
        (site / name).mkdir()
    (site / "torch.py.bak").touch()
    (site / "torch_geometric-2.0.dist-info").mkdir()
    assert {path.name for path in packages.remains("torch", site)} == {
        "torch",
        "torch-2.9.0.dist-info",
        "~orch",
        "~-rch",
        "~orch-2.8.0.dist-info",
    }


@pytest.mark.parametrize(
    ("entry", "name", "expected"),
    [
        ("~orch", "torch", True),
        ("~~rch", "torch", True),
        ("~orchgen", "torchgen", True),
        ("~unctorch", "functorch", True),
        ("~orch-2.5.1+cu124.dist-info", "torch", True),
        ("torch", "torch", False),
        ("~torch", "torch", False),
        ("~orch", "functorch", False),
        ("~orchgen", "torch", False),
        ("~orchvision-0.20.dist-info", "torch", False),
        ("~ch", "torch", False),
        ("~", "torch", False),
    ],
)
def test_what_pip_leaves_behind_is_known_by_its_name(entry: str, name: str, expected: bool) -> None:
    assert packages.is_leftover(entry, name) is expected


@pytest.mark.parametrize(
    ("version", "state"),
    [("1.13.1", "old"), ("2.1.2+cu118", "old"), ("2.2.0", "ready"), ("2.10.0+cpu", "ready"), ("3.0", "ready")],
)
def test_an_old_version_is_told(version: str, state: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.unpack(torch_wheel(tmp_path, version))
    setup = needs.look([str(environment.site_packages)])
    assert (setup.torch, setup.torch_version) == (state, version)
    assert ("too old" in setup.explanation) is (state == "old")


def test_the_real_packages_of_this_environment_are_whole_and_not_imported(child_environment: dict[str, str]) -> None:
    pytest.importorskip("torch")
    program = (
        "import sys\n"
        "from MRSynthLib.desktop import install\n"
        "setup = install.look()\n"
        "print(setup.ready, setup.torch, setup.safetensors, {'torch', 'safetensors', 'qt'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "ready", "True", "set()"]
