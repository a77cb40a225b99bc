"""The user's checkpoints: what is added is whole, named once and found; what is shipped stays."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import save_untrained

from MRSynthLib.engine import checkpoint, library, model_folders
from MRSynthLib.engine.errors import ModelError, OutputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is not there yet."""
    folder = tmp_path / "data" / "Models"
    monkeypatch.setenv(model_folders.USER_MODELS, str(folder))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def card(tiny_checkpoint: Path, **fields: Any) -> dict[str, Any]:
    return {**checkpoint.read_card(tiny_checkpoint), **fields}


def other(tiny_checkpoint: Path, path: Path, **fields: Any) -> Path:
    """Another checkpoint, of other weights."""
    return save_untrained(path, card(tiny_checkpoint, **fields), growth=3)


def test_what_is_added_is_installed_under_the_name_of_its_card(folder: Path, tiny_checkpoint: Path) -> None:
    added = library.add(tiny_checkpoint)
    assert added == folder / "tiny-untrained.safetensors"
    assert added.read_bytes() == tiny_checkpoint.read_bytes()
    assert names(folder) == [added.name]
    assert added in model_folders.installed()
    assert checkpoint.load("tiny-untrained").path == added


def test_a_name_that_no_file_can_have_is_made_one(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    source = other(tiny_checkpoint, tmp_path / "a.safetensors", name="../T2: my/best <model>")
    assert library.add(source) == folder / "T2-my-best-model.safetensors"
    with pytest.raises(ModelError) as caught:
        library.add(other(tiny_checkpoint, tmp_path / "b.safetensors", name="T2 my best model", seed=8))
    assert caught.value.code == "model-name-taken"


def test_the_same_file_again_changes_nothing(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    added = library.add(tiny_checkpoint)
    before = added.stat()
    assert library.add(shutil.copy(tiny_checkpoint, tmp_path / "copy.safetensors")) == added
    assert library.add(added) == added
    assert (added.stat().st_mtime_ns, added.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_shipped_one_is_not_added_again(folder: Path) -> None:
    shipped = model_folders.find()
    assert model_folders.is_shipped(shipped)
    assert library.add(shipped) == shipped
    assert not folder.exists()


@pytest.mark.parametrize("name", ["tiny-untrained", "TINY-untrained", model_folders.DEFAULT])
def test_a_name_that_is_taken_is_refused(folder: Path, tmp_path: Path, tiny_checkpoint: Path, name: str) -> None:
    added = library.add(tiny_checkpoint)
    with pytest.raises(ModelError, match="is another one") as caught:
        library.add(other(tiny_checkpoint, tmp_path / "other.safetensors", name=name))
    assert caught.value.code == "model-name-taken"
    assert names(folder) == [added.name]
    assert added.read_bytes() == tiny_checkpoint.read_bytes()


def test_a_broken_file_is_not_added(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-1] ^= 1
    spoilt = tmp_path / "spoilt.safetensors"
    for content, code in ((bytes(data), "model-hash"), (b"text", "model-not-safetensors")):
        spoilt.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            library.add(spoilt)
        assert caught.value.code == code
    assert not folder.exists()


def test_without_safetensors_the_card_is_still_checked(
    folder: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first installation 3D Slicer has no safetensors, and a model may be added all the same."""
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    assert library.add(tiny_checkpoint).is_file()
    nothing = tmp_path / "nothing.safetensors"
    nothing.write_bytes(b"text")
    with pytest.raises(ModelError):
        library.add(nothing)


def test_a_full_disk_leaves_nothing_behind(
    full_disk: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(model_folders.USER_MODELS, str(full_disk))
    with pytest.raises(OutputError) as caught:
        library.add(tiny_checkpoint)
    assert caught.value.code == "output-full"
    assert names(full_disk) == ["filling"]


def test_a_folder_that_cannot_be_made_is_refused(
    read_only_folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(model_folders.USER_MODELS, str(read_only_folder / "Models"))
    with pytest.raises(OutputError) as caught:
        library.add(tiny_checkpoint)
    assert caught.value.code == "output-not-writable"


@pytest.mark.parametrize("by", ["name", "file", "path", "card"])
def test_what_was_added_can_be_removed(folder: Path, tiny_checkpoint: Path, by: str) -> None:
    added = library.add(tiny_checkpoint)
    if by == "card":
        added = added.rename(folder / "renamed.safetensors")
    known_as = {"name": added.stem, "file": added.name, "path": str(added), "card": "tiny-untrained"}
    assert library.remove(known_as[by]) == added
    assert names(folder) == []
    with pytest.raises(ModelError) as caught:
        library.remove(known_as[by])
    assert caught.value.code == "model-not-found"


def test_only_the_one_that_was_named_is_removed(folder: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    library.add(tiny_checkpoint)
    library.add(other(tiny_checkpoint, tmp_path / "b.safetensors", name="second"))
    library.remove("tiny-untrained")
    assert names(folder) == ["second.safetensors"]


@pytest.mark.parametrize("by", [lambda path: path.stem, lambda path: path.name, str, lambda path: path])
def test_a_shipped_one_is_never_removed(by: Any) -> None:
    for shipped in model_folders.SHIPPED.glob("*.safetensors"):
        with pytest.raises(ModelError) as caught:
            library.remove(by(shipped))
        assert caught.value.code == "model-shipped"
        assert shipped.is_file()


def test_a_file_elsewhere_is_never_removed(tmp_path: Path, tiny_checkpoint: Path) -> None:
    mine = Path(shutil.copy(tiny_checkpoint, tmp_path / "mine.safetensors"))
    with pytest.raises(ModelError):
        library.remove(mine)
    assert mine.is_file()


def test_a_broken_one_can_be_removed(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "broken.safetensors").write_bytes(b"text")
    library.remove("broken")
    assert names(folder) == []


def test_odd_things_in_the_folder_do_not_break_the_list(folder: Path, tiny_checkpoint: Path) -> None:
    added = library.add(tiny_checkpoint)
    (folder / "folder.safetensors").mkdir()
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    (folder / ".mrsynth-half.safetensors").write_bytes(b"half")
    (folder / "broken.safetensors").write_bytes(b"text")
    assert [path for path in model_folders.installed() if not model_folders.is_shipped(path)] == [
        folder / "broken.safetensors",
        added,
    ]


def test_the_folder_is_the_platforms_place_for_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(model_folders.USER_MODELS)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    places = {
        "win32": tmp_path / "Local" / "MRSynth" / "Models",
        "darwin": tmp_path / "Library" / "Application Support" / "MRSynth" / "Models",
        "linux": tmp_path / "xdg" / "MRSynth" / "Models",
    }
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    for platform, place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert model_folders.user_folder() == place
    monkeypatch.delenv("XDG_DATA_HOME")
    assert model_folders.user_folder() == tmp_path / ".local" / "share" / "MRSynth" / "Models"
    assert model_folders.models_folders() == [model_folders.SHIPPED, model_folders.user_folder()]
