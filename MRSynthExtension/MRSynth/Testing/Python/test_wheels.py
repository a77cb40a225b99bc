"""What a folder of wheels lacks, as real pip would find one by one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from wheel_helpers import Environment, wheel

from MRSynthLib.desktop import wheels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """needy requires a (which requires b>=2), c on old Pythons only, and d as an extra."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    extra = "d; extra == 'more'"
    wheel(folder, "needy", "1.0", requires=["a", "c; python_version < '3'", extra, "Under_Score.Name"])
    wheel(folder, "a", "1.0", requires=["b>=2"])
    wheel(folder, "b", "2.1")
    wheel(folder, "under_score_name", "1")
    return folder


def lacking(folder: Path, *wanted: str, installed: Path | None = None) -> list[str]:
    return wheels.lacking(folder, wanted or ["needy"], [str(installed)] if installed else [])


def test_a_whole_folder_lacks_nothing_and_pip_agrees(folder: Path, tmp_path: Path) -> None:
    assert lacking(folder) == []
    Environment(tmp_path / "environment").pip("install", "--no-index", "--find-links", str(folder), "needy")


def test_everything_that_is_missing_is_listed_with_who_wants_it(folder: Path, tmp_path: Path) -> None:
    (folder / "b-2.1-py3-none-any.whl").unlink()
    (folder / "under_score_name-1-py3-none-any.whl").unlink()
    assert lacking(folder, "needy", "torch>=2.2") == ["torch>=2.2", "Under_Score.Name for needy", "b>=2 for a"]
    with pytest.raises(subprocess.CalledProcessError):
        Environment(tmp_path / "environment").pip("install", "--no-index", "--find-links", str(folder), "needy")


def test_a_version_that_is_too_old_is_missing(folder: Path) -> None:
    (folder / "b-2.1-py3-none-any.whl").unlink()
    wheel(folder, "b", "1.9")
    assert lacking(folder) == ["b>=2 for a"]
    assert lacking(folder, "a>=2") == ["a>=2"]


def test_what_is_installed_need_not_lie_in_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "b-2.1-py3-none-any.whl").unlink()
    environment = Environment(tmp_path / "environment")
    environment.unpack(wheel(tmp_path, "b", "3.0"))
    assert lacking(folder, installed=environment.site_packages) == []
    # But what is asked for itself has to: it may be installed and broken.
    assert lacking(folder, "b>=2", installed=environment.site_packages) == ["b>=2"]


def test_a_wheel_for_another_system_is_named(folder: Path) -> None:
    (folder / "b-2.1-py3-none-any.whl").unlink()
    wheel(folder, "b", "2.1", tag="cp35-cp35m-win32")
    assert lacking(folder) == [
        "b>=2 for a (there is b-2.1-cp35-cp35m-win32.whl, which is for another system or Python)"
    ]


@pytest.mark.parametrize("name", ["b-2.1-py3-none-any.whl", "b.whl"])
def test_a_damaged_wheel_is_none(name: str, folder: Path) -> None:
    (folder / "b-2.1-py3-none-any.whl").unlink()
    (folder / name).write_bytes(b"half of it")
    assert len(lacking(folder)) == 1
    assert lacking(folder)[0].startswith("b>=2 for a")


def test_the_newest_wheel_counts_as_for_pip(folder: Path) -> None:
    wheel(folder, "a", "2.0", requires=["b>=3"])
    assert lacking(folder) == ["b>=3 for a"]


def test_extras_are_followed_where_they_are_asked_for(folder: Path) -> None:
    """As torch asks for the parts of CUDA that it needs."""
    wheel(folder, "toolkit", "13", requires=["part; extra == 'blas'", "rest; extra == 'all'"])
    wheel(folder, "user", "1", requires=["toolkit", "toolkit[blas]==13"])
    assert lacking(folder, "user") == ["part for toolkit"]


def test_every_requirement_of_a_package_counts(folder: Path) -> None:
    wheel(folder, "picky", "1", requires=["b", "b<2"])
    assert lacking(folder, "picky") == ["b<2 for picky"]


def test_packages_that_require_each_other_come_to_an_end(folder: Path) -> None:
    wheel(folder, "hen", "1", requires=["egg"])
    wheel(folder, "egg", "1", requires=["hen"])
    assert lacking(folder, "hen") == []
