"""Images over the network: a real storage node on the loopback address takes them, refuses them, or fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_archive import TIMEOUT, Archive, an_archive
from dicom_series import T1, write_series
from engine_helpers import axes_of, grid
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from MRSynthLib.engine import dicom
from MRSynthLib.engine.dicom_send import Node, send
from MRSynthLib.engine.errors import InputError, InstallError, MRSynthError, OutputError

pytest.importorskip("pynetdicom")
SHAPE = (7, 9, 8)
AFFINE = grid(SHAPE, (1.0, 1.0, 2.0), axes_of("LPS"))


@pytest.fixture
def archive() -> Iterator[Archive]:
    with an_archive() as node:
        yield node


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A folder with a derived series of seven images, and what else may lie there."""
    voxels = np.random.default_rng(2).integers(0, 1000, SHAPE).astype(np.int16)
    write_series(tmp_path / "source", voxels, AFFINE, **T1)
    series = dicom.find_series(tmp_path / "source")[0]
    dicom.write_series(dicom.load(series), series, tmp_path / "out", dicom.Derivation("t1", "t2", "model", "0" * 64))
    (tmp_path / "out" / "notes.txt").write_text("no DICOM")
    return tmp_path / "out"


def refused(folder: Path, node: Node, code: str = "dicom-send", timeout: float = TIMEOUT) -> str:
    with pytest.raises(MRSynthError) as caught:
        send(folder, node, timeout=timeout)
    assert caught.value.code == code
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_node_receives_every_image_as_it_was_written(syntax: str, archive: Archive, result: Path) -> None:
    node, done = archive.start((syntax,)), []
    assert send(result, node, timeout=TIMEOUT, on_sent=lambda *numbers: done.append(numbers)) == SHAPE[0]
    assert done == [(n, SHAPE[0]) for n in range(1, SHAPE[0] + 1)]
    assert set(archive.callers) == {"MRSYNTH"}
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, sorted(result.rglob("*.dcm")))}
    assert set(images) == {image.SOPInstanceUID for image in archive.received}
    for image in archive.received:
        assert image.file_meta.TransferSyntaxUID == syntax
        assert image.SeriesDescription == images[image.SOPInstanceUID].SeriesDescription
        assert image.PixelData == images[image.SOPInstanceUID].PixelData


def test_a_warning_is_no_refusal(archive: Archive, result: Path) -> None:
    archive.answer = lambda number: 0xB000
    assert send(result, archive.start(), timeout=TIMEOUT) == SHAPE[0]


def test_nobody_listens(result: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in refused(result, Node("127.0.0.1", port))


def test_somebody_who_does_not_speak_dicom(result: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "127.0.0.1" in refused(result, Node("127.0.0.1", server.getsockname()[1]), timeout=0.5)


@pytest.mark.parametrize(
    "option", [{"require_calling_aet": ["SOMEBODY"]}, {"require_called_aet": True, "ae_title": "OTHER"}]
)
def test_titles_that_the_node_does_not_know_are_refused(option: dict[str, Any], archive: Archive, result: Path) -> None:
    message = refused(result, archive.start(**option))
    assert "refused" in message
    assert "--aet" in message
    assert archive.received == []


def test_a_node_that_takes_only_a_part_is_told(archive: Archive, result: Path) -> None:
    archive.answer = lambda number: 0xA700 if number in (3, 5) else 0x0000
    message = refused(result, archive.start())
    assert "took 5 of 7 images" in message
    assert "0xa700" in message
    assert "0003.dcm" in message
    assert len(archive.received) == SHAPE[0], "the others are sent nevertheless"


def test_a_connection_that_breaks_off_is_told(archive: Archive, result: Path) -> None:
    archive.answer = lambda number: -1 if number == 3 else 0x0000
    message = refused(result, archive.start(), timeout=1.0)
    assert "took 2 of 7" in message or "took 3 of 7" in message


def test_a_node_that_does_not_take_the_encoding_is_told(archive: Archive, tmp_path: Path) -> None:
    voxels = np.zeros(SHAPE, np.int16)
    write_series(tmp_path / "source", voxels, AFFINE, syntax=JPEGLSLossless)
    message = refused(tmp_path / "source", archive.start())
    assert "encoding" in message
    assert archive.received == []


def test_nothing_to_send(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    node = Node("127.0.0.1", 1)
    refused(tmp_path, node, "input-not-an-image")
    refused(tmp_path / "missing", node, "input-not-found")
    assert InputError.exit_code != OutputError.exit_code


def test_without_the_package_it_says_what_to_install(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynetdicom", None)
    message = refused(result, Node("127.0.0.1", 1), "dicom-package")
    assert "mrsynth[dicom]" in message
    assert InstallError.exit_code == 8
