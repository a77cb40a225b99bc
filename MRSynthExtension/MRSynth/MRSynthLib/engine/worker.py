"""The engine as a child process: a request file in, JSON lines out.

    python -m MRSynthLib.engine.worker REQUEST.json [--end-with PID [--serve SECONDS]]

The request is a JSON object; paths in it are relative to its own folder.

``voxels``, ``ijk_to_ras``
    A .npy file, shape (k, j, i), and the affine from (i, j, k, 1) to RAS mm. Or ``input``: an image file.
``name``, ``metadata``
    As in `Volume`; optional.
``mask``
    null, or an object with ``voxels`` and ``ijk_to_ras``, or with ``input``.
``like``
    The same: a volume whose brightness the result gets. Optional.
``force``
    Whether to go on where the screening refuses the volume; optional.
``model``, ``device``, ``precision``, ``source``, ``target``, ``cycle``, ``planes``, ``reliability``
    As `Synthesizer` takes them; optional.
``output_dir``
    Where out.npy, and cycle.npy, reliability.npy and interval.npy if asked for, are written.

Every line on stdout is one JSON object with the key ``event``: started, progress, warning, result or error.
Anything else that prints goes to stderr. The exit code is that of the error's family, as on the command line.

With ``--serve`` the worker stays after its run, also after an error that has a code, says ``idle`` and waits for the
next request: a line ``{"request": PATH}`` on stdin. What was imported and the network, if it is the same, are there
already. Before each further request it writes an event ``request`` with its path to stdout and to stderr: what comes
after that belongs to it. It ends with code 0 after SECONDS without a request, or when less than 1 GiB of memory is
available while it waits (on Linux and Windows; elsewhere it does not know).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .errors import MRSynthError
from .process import as_known, end_with, error_document, exit_code, own_stdout, remove_run_folder, stop_on_signals
from .serving import Networks, Requests, give_back_gpu_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .volume import Volume

PROTOCOL = 1

Emit = Callable[..., None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one request and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m MRSynthLib.engine.worker", description=__doc__.split("\n")[0])
    parser.add_argument("request", type=Path, help="JSON file that describes the run")
    parser.add_argument(
        "--end-with",
        type=int,
        metavar="PID",
        help="stop when this process ends, or closes the pipe to stdin, and remove the request's run folder",
    )
    parser.add_argument(
        "--serve",
        type=float,
        metavar="SECONDS",
        help="with --end-with: take further requests from stdin until none has come for so long",
    )
    arguments = parser.parse_args(argv)
    if arguments.serve is not None and arguments.end_with is None:
        parser.error("--serve needs --end-with")
    with own_stdout() as stream:

        def emit(event: str, **content: Any) -> None:
            stream.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
            stream.flush()

        requests = Requests()
        folder = _RunFolder(arguments.request.parent)
        orphaned = threading.Event()
        try:
            with stop_on_signals():
                if arguments.end_with is not None:
                    hear = None if arguments.serve is None else requests.hear
                    orphaned = end_with(arguments.end_with, hear, folder.remove)
                if arguments.serve is None:
                    _carry_out(arguments.request, emit, Networks())
                else:
                    _serve(arguments.request, requests, arguments.serve, emit, folder)
        except (Exception, KeyboardInterrupt) as error:
            if as_known(error) is None:
                traceback.print_exc()
            with contextlib.suppress(OSError):  # nobody may be left to read it
                emit("error", **error_document(error))
            return exit_code(error)
        finally:
            if orphaned.is_set():  # nobody else would
                folder.remove()
    return 0


def _serve(first: Path, requests: Requests, patience: float, emit: Emit, folder: _RunFolder) -> None:
    """Carry out the first request and those that come, until none does for `patience` seconds."""
    networks = Networks()
    path: Path | None = first
    while path is not None:
        folder.path = path.parent
        try:
            _carry_out(path, emit, networks)
        except MRSynthError as error:  # any other one may have broken more than this run
            emit("error", **error_document(error))
        give_back_gpu_memory()
        emit("idle")
        path = requests.next(patience)
        if path is not None:
            emit("request", request=str(path))
            sys.stderr.write(json.dumps({"event": "request", "request": str(path)}) + "\n")
            sys.stderr.flush()


def _carry_out(path: Path, emit: Emit, networks: Networks) -> None:
    run(json.loads(path.read_text(encoding="utf-8")), path.parent, emit, networks)


def run(request: Mapping[str, Any], folder: Path, emit: Emit, networks: Networks) -> None:
    """Carry out `request`, whose paths are relative to `folder`.

    Raises
    ------
    MRSynthError
        As `Synthesizer` and the readers; no file is left in the output folder then.
    """
    from .provenance import MAPS, facts

    volume = _volume(request, folder)
    mask, like = request.get("mask"), request.get("like")
    synthesizer = networks.get(request.get("model"), request.get("device", "auto"), request.get("precision", "auto"))
    emit(
        "started",
        protocol=PROTOCOL,
        pid=os.getpid(),
        software_version=__version__,
        model=synthesizer.checkpoint.name,
        device=synthesizer.device.device,
        device_reason=synthesizer.device.reason,
        precision=synthesizer.device.precision,
    )
    result = None
    for progress in synthesizer.steps(
        volume,
        source=request.get("source", "auto"),
        target=request.get("target"),
        mask=None if mask is None else _volume(mask, folder),
        cycle=request.get("cycle", False),
        planes=request.get("planes", "axial"),
        like=None if like is None else _volume(like, folder),
        force=request.get("force", False),
        reliability=request.get("reliability", False),
    ):
        emit("progress", fraction=progress.fraction, stage=progress.stage, seconds_left=progress.seconds_left)
        if progress.message:
            emit("warning", message=progress.message)
        result = progress.result
    assert result is not None, "the last step carries the result"
    found = {name: getattr(result, name) for name in MAPS}
    files = {"voxels": result.volume.voxels} | {name: made.voxels for name, made in found.items() if made is not None}
    names = _save(files, folder / request["output_dir"])
    emit(
        "result",
        voxels=names["voxels"],
        **{name: names.get(name) for name in MAPS},
        shape=list(result.volume.shape),
        dtype=str(result.volume.voxels.dtype),
        ijk_to_ras=result.volume.ijk_to_ras.tolist(),
        info=facts(result),
    )


def _volume(described: Mapping[str, Any], folder: Path) -> Volume:
    import numpy as np

    from .volume import Volume

    if "input" in described:
        from .files import read_volume

        return read_volume(folder / described["input"])
    return Volume(
        voxels=np.load(folder / described["voxels"], allow_pickle=False),
        ijk_to_ras=np.array(described["ijk_to_ras"], dtype=np.float64),
        name=described.get("name", ""),
        metadata=described.get("metadata", {}),
    )


def _save(arrays: Mapping[str, NDArray[Any]], folder: Path) -> dict[str, str]:
    """Write out.npy and the maps, all or none; return their names by key."""
    import numpy as np

    from .writing import write_aside

    names = {key: "out.npy" if key == "voxels" else f"{key}.npy" for key in arrays}
    with contextlib.ExitStack() as stack:
        for key, array in arrays.items():
            aside = stack.enter_context(write_aside(folder / names[key]))
            np.save(aside, array, allow_pickle=False)
    return names


class _RunFolder:
    """The private folder of the run under way, or of the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove(self) -> None:
        remove_run_folder(self.path)


if __name__ == "__main__":
    sys.exit(main())
