"""DICOM files to a node of the network (a PACS), by C-STORE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from . import dicom_files
from .dicom_files import DamagedError
from .errors import InputError, OutputError

OWN_TITLE, THEIR_TITLE = "MRSYNTH", "ANY-SCP"
TIMEOUT = 30.0  # seconds for each answer
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
CONTEXTS = 128  # that one association may propose


@dataclass(frozen=True)
class Node:
    """A DICOM node of the network, and what it knows us as.

    Parameters
    ----------
    host : str
    port : int
    title : str
        Its application entity title.
    own_title : str
        Ours; many nodes take images only from titles that they know.
    """

    host: str
    port: int
    title: str = THEIR_TITLE
    own_title: str = OWN_TITLE

    def __str__(self) -> str:
        return f"{self.title} at {self.host}:{self.port}"


@dataclass(frozen=True)
class _Instance:
    path: Path
    kind: UID
    syntax: UID


def send(
    folder: Path, node: Node, *, timeout: float = TIMEOUT, on_sent: Callable[[int, int], None] | None = None
) -> int:
    """Send all DICOM objects of a folder and its subfolders.

    Parameters
    ----------
    folder : Path
    node : Node
    timeout : float
        Seconds to wait for the connection and for each answer.
    on_sent : callable, optional
        Called after each object with the number of those done, and of all.

    Returns
    -------
    int
        Number of objects; the node has taken them all.

    Raises
    ------
    InputError
        input-not-found, input-not-an-image, input-corrupt.
    OutputError
        dicom-send: not connected, refused, or not all were taken; says how many were.
    InstallError
        dicom-package.
    """
    network = dicom_files.optional("pynetdicom", "pynetdicom", "to send images")
    instances = _instances(folder)
    entity = network.AE(ae_title=node.own_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout
    for kind, syntaxes in _contexts(instances):
        entity.add_requested_context(kind, syntaxes)
    association = entity.associate(node.host, node.port, ae_title=node.title)
    try:
        if not association.is_established:
            raise _not_connected(association, node)
        return _store(association, instances, node, on_sent)
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()


def _instances(folder: Path) -> list[_Instance]:
    try:
        files = dicom_files.files_below(folder)
    except OSError as error:
        raise InputError("input-not-found", f"'{folder}' cannot be read ({error.strerror}).", "a folder.") from error
    instances = []
    with dicom_files.quiet():
        for path in files:
            instance = _instance(path)
            if instance is not None:
                instances.append(instance)
    if not instances:
        raise InputError(
            "input-not-an-image", f"'{folder}' holds no DICOM files.", "a folder that MRSynth has written."
        )
    return instances


def _instance(path: Path) -> _Instance | None:
    """What has to be known of a file to send it; None for what is no DICOM object."""
    try:
        if not dicom_files.has_preamble(path):
            return None
        header = dicom_files.read(path, ["SOPClassUID", "SOPInstanceUID"])
    except (DamagedError, OSError) as error:
        raise InputError(
            "input-corrupt", f"'{path.name}' cannot be read: {error}.", "whole, undamaged files."
        ) from error
    kind, syntax = header.get("SOPClassUID"), header.file_meta.get("TransferSyntaxUID")
    if not kind or "SOPInstanceUID" not in header:  # DICOMDIR
        return None
    return _Instance(path, UID(str(kind)), UID(str(syntax)))


def _contexts(instances: Sequence[_Instance]) -> list[tuple[UID, list[UID]]]:
    """What to propose: for each kind its files' own encodings; what is not compressed can go in either of two."""
    wanted: dict[UID, list[UID]] = {}
    for instance in instances:
        syntaxes = wanted.setdefault(instance.kind, [])
        for syntax in (instance.syntax, *(UNCOMPRESSED if instance.syntax in UNCOMPRESSED else ())):
            if syntax not in syntaxes:
                syntaxes.append(syntax)
    return [(kind, [syntax]) for kind, syntaxes in wanted.items() for syntax in syntaxes][:CONTEXTS]


def _not_connected(association: Any, node: Node) -> OutputError:
    if association.is_rejected:
        seen = f"{node} refused the association with {node.own_title}."
        remedy = "Have the node's administrator enter our AE title (--aet) and address, and check its own (--aec)."
        return OutputError("dicom-send", seen, "a node that accepts it.", remedy)
    if association.rejected_contexts and not association.accepted_contexts:
        seen = f"{node} takes no images of this kind, or not in this encoding."
        return OutputError("dicom-send", seen, "a node that stores MR images.")
    seen = f"{node} cannot be reached, or broke the connection off." if association.is_aborted else f"{node} is silent."
    return OutputError("dicom-send", seen, "a DICOM storage node that listens there.")


def _store(
    association: Any, instances: Sequence[_Instance], node: Node, on_sent: Callable[[int, int], None] | None
) -> int:
    taken, refused = 0, ""
    for done, instance in enumerate(instances, 1):
        reason = _store_one(association, instance)
        taken += not reason
        refused = refused or (reason and f"'{instance.path.name}': {reason}")
        if on_sent is not None:
            on_sent(done, len(instances))
        if not association.is_established:
            refused = refused or f"'{instance.path.name}': the connection broke off"
            break
    if refused:
        seen = f"{node} took {taken} of {len(instances)} images; the first that it did not take was {refused}."
        raise OutputError("dicom-send", seen, "a node that takes all.")
    return taken


def _store_one(association: Any, instance: _Instance) -> str:
    """Send one object; why it was not taken, "" where it was."""
    try:
        status = association.send_c_store(instance.path)
    except (ValueError, RuntimeError) as error:  # no context for it was accepted; the association has ended
        return " ".join(str(error).split())
    except (AttributeError, OSError) as error:
        return f"it cannot be read ({error})"
    if "Status" not in status:
        return "no answer came"
    # 0 is success; Bxxx means taken, with a warning.
    if status.Status == 0 or status.Status >> 12 == 0xB:
        return ""
    return f"status {status.Status:#06x} {status.get('ErrorComment', '')}".strip()
