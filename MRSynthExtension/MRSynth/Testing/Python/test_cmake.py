"""The CMake files are configured as 3D Slicer's build does it, with stubs in its place: no typo gets through."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cmake_lists
import pytest
import slicer_cmake

REPOSITORY = Path(__file__).resolve().parents[4]
MODULE = Path("MRSynthExtension", "MRSynth")
CMAKE_FILES = (Path("CMakeLists.txt"), Path("MRSynthExtension", "CMakeLists.txt"), MODULE / "CMakeLists.txt")
PACKAGED = Path("lib", "qt-scripted-modules")


def command(name: str) -> str:
    """Path of cmake or ctest: beside this interpreter (from PyPI), or the system's."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


def configure(source: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Configure `source` into `folder`/build."""
    stubs = slicer_cmake.write(folder / "Slicer")
    build = [command("cmake"), "-S", str(source), "-B", str(folder / "build"), *stubs, *options]
    return subprocess.run(build, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configured")
    run = configure(REPOSITORY, folder)
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stderr, run.stderr
    return folder / "build"


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_lists_hold_every_script_and_resource_of_the_folder() -> None:
    wrong = cmake_lists.difference()
    assert not wrong, f"put right by: python {Path(cmake_lists.__file__).relative_to(REPOSITORY)} --write\n{wrong}"


def test_what_is_packaged_is_what_is_in_the_folder(build: Path) -> None:
    assert files_below(build / PACKAGED) == sorted(itertools.chain(*cmake_lists.expected().values()))


def test_what_is_packaged_works_by_itself(build: Path) -> None:
    pytest.importorskip("slicer")
    program = """if True:
        import slicer
        slicer.mrmlScene = slicer.vtkMRMLScene()
        import MRSynth, MRSynthLib.engine.cli
        from MRSynthLib.desktop import background, compare, diagnostics, install, marks, samples, scoring
        from MRSynthLib.engine import checkpoint, model_folders
        print(MRSynth.__file__)
        print(samples.load("t1").GetName(), samples.load("t2").GetName())
        print(model_folders.installed())
    """
    packaged = build / PACKAGED
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=packaged)
    assert run.returncode == 0, run.stderr
    file, nodes, models = run.stdout.splitlines()
    assert Path(file) == packaged / "MRSynth.py"
    assert nodes == "MRSynthPhantom_T1 MRSynthPhantom_T2"
    assert "mrsynth-native" in models


def test_self_test_is_registered_at_the_root_of_the_build(build: Path) -> None:
    # A dashboard runs ctest there, and there only.
    run = [command("ctest"), "--test-dir", str(build), "--show-only=json-v1"]
    tests = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)["tests"]
    assert {test["name"] for test in tests} == {"py_MRSynth", "py_nomainwindow_qSlicerMRSynthModuleGenericTest"}


def test_no_test_is_registered_where_none_are_wanted(tmp_path: Path) -> None:
    assert configure(REPOSITORY, tmp_path, "-DBUILD_TESTING=OFF").returncode == 0
    run = [command("ctest"), "--test-dir", str(tmp_path / "build"), "-N"]
    assert "Total Tests: 0" in subprocess.run(run, capture_output=True, text=True, check=False).stdout


def test_extension_is_described(build: Path) -> None:
    text = (build / "MRSynth.s4ext").read_text(encoding="utf-8")
    described = dict(line.split(" ", 1) for line in text.splitlines())
    assert described["NAME"] == "MRSynth" and described["DEPENDS"] == "PyTorch"
    assert "not for diagnosis" in described["DESCRIPTION"]
    assert (build / "MRSynthConfig.cmake").is_file()


FAULTS = {
    "a script's name": (2, "Lib/engine/cli.py", "Lib/engine/clj.py"),
    "a resource's name": (2, "UI/${MODULE_NAME}.ui", "UI/${MODULE_NAME}Panel.ui"),
    "a folder in place of a file": (2, "Lib/engine/cli.py", "Lib/engine"),
    "a keyword": (2, "  RESOURCES $", "  RESOURCE $"),
    "a list's name": (2, "SCRIPTS ${MODULE_PYTHON_SCRIPTS}", "SCRIPTS ${MODULE_PYTHON_SCRIPT}"),
    "the module's name": (2, "  NAME ${MODULE_NAME}", "  NAME ${MODUL_NAME}"),
    "the macro's name": (2, "slicerMacroBuildScriptedModule(", "slicerMacroBuildScriptModule("),
    "the self-test's script": (2, "SCRIPT ${MODULE_NAME}.py", "SCRIPT ${MODULE_NAME}Test.py"),
    "the self-test's keyword": (2, "(SCRIPT $", "(SCRIPTS $"),
    "a bracket": (2, "WITH_GENERIC_TESTS\n  )", "WITH_GENERIC_TESTS\n"),
    "a sub-folder": (1, "add_subdirectory(MRSynth)", "add_subdirectory(MRSynht)"),
    "the package": (0, "find_package(Slicer REQUIRED)", "find_package(Slicr REQUIRED)"),
    "the use file": (0, "Slicer_USE_FILE", "Slicer_USEFILE"),
    "the packaging file": (0, "{Slicer_EXTENSION_CPACK}", "{Slicer_EXTENSION_PACK}"),
    "the licence": (0, "/LICENSE", "/LICENCE"),
    "a project without languages": (0, "project(MRSynth)", "project(MRSynth NONE)"),
    "no picture": (0, "set(EXTENSION_SCREENSHOTURLS", "set(EXTENSION_SCREENSHOTURL"),
}


def configured_with(fault: tuple[int, str, str] | None, folder: Path) -> subprocess.CompletedProcess[str]:
    """Configure a copy of the CMake files, with everything else as it is, and one text replaced by another."""
    source = folder / "source"
    (source / MODULE).mkdir(parents=True)
    for name in ("README.md", "LICENSE", MODULE / "MRSynth.py", MODULE / "MRSynthLib", MODULE / "Resources"):
        (source / name).symlink_to(REPOSITORY / name)
    for index, path in enumerate(CMAKE_FILES):
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        if fault is not None and index == fault[0]:
            assert fault[1] in text
            text = text.replace(*fault[1:])
        (source / path).write_text(text, encoding="utf-8")
    return configure(source, folder)


def test_a_copy_without_a_mistake_is_configured(tmp_path: Path) -> None:
    assert configured_with(None, tmp_path).returncode == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_is_found(fault: str, tmp_path: Path) -> None:
    run = configured_with(FAULTS[fault], tmp_path)
    assert run.returncode != 0, run.stdout
    assert "CMake Error" in run.stderr or "Parse error" in run.stderr


def test_missing_and_superfluous_lines_are_named(tmp_path: Path) -> None:
    module = tmp_path / "MRSynth"
    (module / "MRSynthLib").mkdir(parents=True)
    (module / "Resources" / "Icons").mkdir(parents=True)
    for name in ("MRSynth.py", "MRSynthLib/new.py", "Resources/Icons/MRSynth.png"):
        (module / name).touch()
    text = (
        "set(MODULE_PYTHON_SCRIPTS\n  ${MODULE_NAME}.py\n  ${MODULE_NAME}Lib/old.py\n  )\n"
        "set(MODULE_PYTHON_RESOURCES\n  Resources/Icons/${MODULE_NAME}.png\n  )\n"
    )
    (module / "CMakeLists.txt").write_text(text, encoding="utf-8")
    assert cmake_lists.difference(module).splitlines() == [
        "-   ${MODULE_NAME}Lib/old.py",
        "+   ${MODULE_NAME}Lib/new.py",
    ]
    right = cmake_lists.corrected(text, cmake_lists.expected(module))
    (module / "CMakeLists.txt").write_text(right, encoding="utf-8")
    assert cmake_lists.difference(module) == ""
