"""A real DICOM node on the loopback address, for the tests of sending."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from MRSynthLib.engine.dicom_send import Node

TIMEOUT = 10.0


class Archive:
    """A storage node that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[pydicom.Dataset] = []
        self.answer: Callable[[int], int] = lambda number: 0x0000
        self.callers: list[str] = []
        self.server: Any = None

    def take(self, event: Any) -> int:
        status = self.answer(len(self.received) + 1)
        data = event.dataset
        data.file_meta = event.file_meta
        self.received.append(data)
        self.callers.append(event.assoc.requestor.ae_title)
        if status < 0:
            event.assoc.abort()
            return 0x0000
        return status

    def start(
        self, syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian), **options: Any
    ) -> Node:
        pynetdicom = pytest.importorskip("pynetdicom")
        entity = pynetdicom.AE(ae_title="ARCHIVE")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
        for name, value in options.items():
            setattr(entity, name, value)
        entity.add_supported_context(MRImageStorage, list(syntaxes))
        handlers = [(pynetdicom.evt.EVT_C_STORE, self.take)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return Node("127.0.0.1", self.server.socket.getsockname()[1], "ARCHIVE", "MRSYNTH")


@contextlib.contextmanager
def an_archive() -> Iterator[Archive]:
    """An archive that is not started yet, and is stopped in the end with all of its connections."""
    node = Archive()
    try:
        yield node
    finally:
        if node.server is not None:
            node.server.shutdown()
