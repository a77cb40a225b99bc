"""The engine as a child process: a request file in, JSON lines out.

    python -m MRSynthLib.engine.worker REQUEST.json [--end-with PID]

The request is a JSON object; paths in it are relative to its own folder.

``voxels``, ``ijk_to_ras``
    A .npy file, shape (k, j, i), and the affine from (i, j, k, 1) to RAS mm. Or ``input``: an image file.
``name``, ``metadata``
    As in `Volume`; optional.
``mask``
    null, or an object with ``voxels`` and ``ijk_to_ras``, or with ``input``.
``model``, ``device``, ``precision``, ``source``, ``target``, ``cycle``
    As `Synthesizer` takes them; optional.
``output_dir``
    Where out.npy, and cycle.npy if asked for, are written.

Every line on stdout is one JSON object with the key ``event``: started, progress, warning, result or error.
Anything else that prints goes to stderr. The exit code is that of the error's family, as on the command line.
"""

from __future__ import annotations

import _thread
import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .process import as_known, error_document, exit_code, own_stdout, stop_on_signals, wait_for_end_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .volume import Volume

PROTOCOL = 1
RUN_FOLDER_PREFIX = "mrsynth-run-"
_GRACE = 3.0  # seconds that an orphaned run gets to end in order

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
    arguments = parser.parse_args(argv)
    with own_stdout() as stream:

        def emit(event: str, **content: Any) -> None:
            stream.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
            stream.flush()

        orphaned = threading.Event()
        try:
            with stop_on_signals():
                if arguments.end_with is not None:
                    _end_with(arguments.end_with, arguments.request.parent, orphaned)
                run(json.loads(arguments.request.read_text(encoding="utf-8")), arguments.request.parent, emit)
        except (Exception, KeyboardInterrupt) as error:
            if as_known(error) is None:
                traceback.print_exc()
            with contextlib.suppress(OSError):  # nobody may be left to read it
                emit("error", **error_document(error))
            return exit_code(error)
        finally:
            if orphaned.is_set():
                _remove_run_folder(arguments.request.parent)
    return 0


def run(request: Mapping[str, Any], folder: Path, emit: Emit) -> None:
    """Carry out `request`, whose paths are relative to `folder`.

    Raises
    ------
    MRSynthError
        As `Synthesizer` and the readers; no file is left in the output folder then.
    """
    from .provenance import facts
    from .synthesis import Synthesizer

    volume = _volume(request, folder)
    mask = request.get("mask")
    synthesizer = Synthesizer(request.get("model"), request.get("device", "auto"), request.get("precision", "auto"))
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
    ):
        emit("progress", fraction=progress.fraction, stage=progress.stage, seconds_left=progress.seconds_left)
        if progress.message:
            emit("warning", message=progress.message)
        result = progress.result
    assert result is not None, "the last step carries the result"
    files = {"voxels": result.volume.voxels}
    if result.cycle is not None:
        files["cycle"] = result.cycle.voxels
    names = _save(files, folder / request["output_dir"])
    emit(
        "result",
        voxels=names["voxels"],
        cycle=names.get("cycle"),
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
    """Write out.npy and cycle.npy, all or none; return their names by key."""
    import numpy as np

    from .files import write_aside

    names = {"voxels": "out.npy", "cycle": "cycle.npy"}
    with contextlib.ExitStack() as stack:
        for key, array in arrays.items():
            aside = stack.enter_context(write_aside(folder / names[key]))
            np.save(aside, array, allow_pickle=False)
    return {key: names[key] for key in arrays}


def _end_with(parent: int, folder: Path, orphaned: threading.Event) -> None:
    """Stop this process when `parent` is gone, however it went; nobody else would clean up then."""

    def watch() -> None:
        wait_for_end_of(parent)
        orphaned.set()
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(_GRACE)
        _remove_run_folder(folder)
        os._exit(7)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _remove_run_folder(folder: Path) -> None:
    """Remove the private folder of a run; any other folder is the caller's and stays."""
    if folder.name.startswith(RUN_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
