"""Metadata, pictures, versions, and what may be imported where; that all is packaged is tested in test_cmake."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
EXTENSION = REPOSITORY / "MRSynthExtension"
MODULE = EXTENSION / "MRSynth"
LIBRARY = MODULE / "MRSynthLib"


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


def index_entry() -> dict[str, object]:
    entry = json.loads((REPOSITORY / "MRSynth.json").read_text(encoding="utf-8"))
    assert isinstance(entry, dict)
    return entry


def test_index_entry_follows_its_schema() -> None:
    # slicer-extension-catalog-entry-schema-v1.0.1: these keys and no others, of these types
    types = {
        "$schema": str,
        "category": str,
        "scm_url": str,
        "scm_revision": str,
        "scm_type": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "enabled": bool,
        "tier": int,
    }
    entry = index_entry()
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(types)
    assert all(isinstance(value, types[key]) for key, value in entry.items())
    assert str(entry["$schema"]).endswith("/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["tier"] in range(1, 6)
    assert entry["category"] == "Image Synthesis"  # one that the index has
    assert b"\r" not in (REPOSITORY / "MRSynth.json").read_bytes()


def test_index_entry_and_the_top_level_cmake_file_agree() -> None:
    # The index reads the file as text, so that nothing in it may stand behind a variable.
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    said = dict(re.findall(r'set\s*\(EXTENSION_(\w+)\s*"([^"]+)"[ ]*\)', text))
    entry = index_entry()
    assert re.findall(r"project\s*\(\s*([^\s\)]+)", text) == ["MRSynth"]
    assert said["DEPENDS"].split() == entry["build_dependencies"]
    assert entry["scm_url"] == said["HOMEPAGE"] + ".git"
    assert str(entry["scm_url"]).startswith("https://") and "/Slicer" in str(entry["scm_url"])
    for address in [said["ICONURL"], *said["SCREENSHOTURLS"].split()]:
        start = f"{said['HOMEPAGE']}/raw/{entry['scm_revision']}/"
        assert address.startswith(start) and address.endswith(".png")
        assert (REPOSITORY / address.removeprefix(start)).is_file(), address
    assert 50 < len(said["DESCRIPTION"]) < 300


def test_the_repository_is_small_enough_for_the_index() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a clone")
    sizes = [path.stat().st_size for name in tracked.stdout.splitlines() if (path := REPOSITORY / name).is_file()]
    assert sum(sizes) < 50e6  # the index takes 100 MB, history included


# --- pictures -----------------------------------------------------------------------------

ICONS = MODULE / "Resources" / "Icons"


def picture(path: Path) -> np.ndarray:
    """Decoded PNG, (rows, columns, 4), 0 to 1."""
    image = pytest.importorskip("matplotlib.image").imread(path)
    alpha = np.ones((*image.shape[:2], 1), dtype=image.dtype)
    return np.asarray(image if image.shape[2] == 4 else np.concatenate([image, alpha], axis=2))


def test_icon_has_the_size_that_the_extensions_manager_wants() -> None:
    assert picture(ICONS / "MRSynth.png").shape == (128, 128, 4)
    root = ElementTree.parse(ICONS / "MRSynth.svg").getroot()
    assert root.tag.endswith("}svg") and "viewBox" in root.attrib


@pytest.mark.parametrize("background", [0.94, 0.17])  # 3D Slicer's light and dark themes
def test_icon_is_seen_on_both_themes(background: float) -> None:
    image = picture(ICONS / "MRSynth.png")
    seen = image[..., :3] * image[..., 3:] + background * (1 - image[..., 3:])
    contrast = np.abs(seen.mean(axis=2) - background)
    assert np.mean(contrast > 0.25) > 0.2


@pytest.mark.parametrize("name", ["MRSynthPhantom_T1", "MRSynthPhantom_T2"])
def test_thumbnails_of_the_sample_data_are_of_the_size_that_slicer_shows(name: str) -> None:
    image = picture(ICONS / f"{name}.png")
    assert 200 <= image.shape[0] <= 300 and 200 <= image.shape[1] <= 300
    assert image[..., :3].std() > 0.1
    assert (ICONS / f"{name}.png").stat().st_size < 100_000


def test_every_picture_in_the_documentation_is_there() -> None:
    documents = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    links = [
        (d, link) for d in documents for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", d.read_text(encoding="utf-8"))
    ]
    assert links
    for document, link in links:
        image = picture(document.parent / link)
        assert image.shape[1] >= 300 and image[..., :3].std() > 0.02, link


# --- imports ------------------------------------------------------------------------------


def test_what_slicer_loads_imports_only_what_slicer_ships() -> None:
    # packaging and pip are part of 3D Slicer's Python from 5.10 on.
    allowed = {*sys.stdlib_module_names, "numpy", "vtk", "slicer", "SimpleITK", "packaging", "pip", "MRSynthLib"}
    for path in [MODULE / "MRSynth.py", *(LIBRARY / "desktop").glob("*.py")]:
        assert file_scope_imports(path) <= allowed, path.name


def test_engine_knows_no_desktop() -> None:
    for path in (LIBRARY / "engine").glob("*.py"):
        assert not file_scope_imports(path) & {"slicer", "vtk", "qt", "ctk"}, path.name


def test_module_file_is_light_to_load() -> None:
    # Every start of 3D Slicer pays for it, whether the module is used or not: 0.1 s on top of slicer, vtk and numpy.
    pytest.importorskip("slicer")
    program = """if True:
        import sys, numpy, vtk, slicer, slicer.util
        before = set(sys.modules)
        import MRSynth
        print(*{name.partition(".")[0] for name in set(sys.modules) - before})
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    compiled = {"_blake2", "swig_runtime_data5"}
    loaded = set(run.stdout.split()) - set(sys.stdlib_module_names) - compiled
    assert loaded == {"MRSynth", "MRSynthLib"} | (loaded & {"numpy", "vtk", "slicer"})


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
