"""What is packaged is what is there: lists, versions, metadata, and what may be imported where."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
EXTENSION = REPOSITORY / "MRSynthExtension"
MODULE = EXTENSION / "MRSynth"
LIBRARY = MODULE / "MRSynthLib"


def cmake_list(name: str) -> list[str]:
    """Return the entries of a list in the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"set\({name}\s(.*?)\)\n", text, re.DOTALL)
    assert found is not None
    return found.group(1).replace("${MODULE_NAME}", "MRSynth").split()


def relative(paths: list[Path], folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def file_scope_imports(path: Path) -> set[str]:
    """Return the packages that a file imports when it is loaded, whoever loads it."""
    found = set()
    pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)
    return found


# --- the extension ------------------------------------------------------------------------


def test_every_script_is_listed_for_packaging() -> None:
    scripts = [MODULE / "MRSynth.py", *LIBRARY.rglob("*.py")]
    assert sorted(cmake_list("MODULE_PYTHON_SCRIPTS")) == relative(scripts, MODULE)


def test_every_resource_is_listed_for_packaging() -> None:
    files = [path for path in (MODULE / "Resources").rglob("*") if path.is_file()]
    assert sorted(cmake_list("MODULE_PYTHON_RESOURCES")) == relative(files, MODULE)


def test_index_entry_and_cmake_agree() -> None:
    entry = json.loads((REPOSITORY / "MRSynth.json").read_text(encoding="utf-8"))
    assert set(entry) <= {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "enabled",
        "scm_revision",
        "scm_type",
        "scm_url",
        "tier",
    }
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["category"] == "Image Synthesis"
    cmake = (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8")
    # The index requires the extension to be called like the file of its entry.
    assert re.search(r"^project\(MRSynth\b", cmake, re.MULTILINE)
    depends = re.search(r'set\(EXTENSION_DEPENDS "(.*)"\)', cmake)
    homepage = re.search(r'set\(EXTENSION_HOMEPAGE "(.*)"\)', cmake)
    assert depends is not None and depends.group(1).split() == entry["build_dependencies"]
    assert homepage is not None and entry["scm_url"] == f"{homepage.group(1)}.git"
    assert "Resources/Icons/MRSynth.png" in cmake


def test_what_slicer_loads_imports_only_what_slicer_ships() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "vtk", "slicer", "SimpleITK", "MRSynthLib"}
    for path in [MODULE / "MRSynth.py", *(LIBRARY / "desktop").glob("*.py")]:
        assert file_scope_imports(path) <= allowed, path.name


def test_engine_knows_no_desktop() -> None:
    for path in (LIBRARY / "engine").glob("*.py"):
        assert not file_scope_imports(path) & {"slicer", "vtk", "qt", "ctk"}, path.name


def test_module_file_loads_neither_torch_nor_nibabel() -> None:
    pytest.importorskip("slicer")
    heavy = {"torch", "nibabel", "matplotlib", "nilearn"}
    program = f"import sys, MRSynth; print(*{heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# --- the Python package -------------------------------------------------------------------


def test_every_package_of_the_tree_is_in_pyproject() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    listed = set(re.findall(r'"(.*?)"', found.group(1)))
    roots = (MODULE, "MRSynthLib"), (REPOSITORY / "training", "mrsynth_training")
    in_tree = {
        path.parent.relative_to(root).as_posix().replace("/", ".")
        for root, name in roots
        for path in (root / name).rglob("*.py")
    }
    assert listed == in_tree | {"Resources"}


def test_one_version_everywhere() -> None:
    from MRSynthLib import __version__

    assert f"\nversion: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_licence_is_the_whole_apache_2() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_ci_runs_the_test_command() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
