"""What travels between the runner and the worker: volumes as .npy, everything else as JSON.

No image format is used, for none keeps every grid: NIfTI loses shears, and left-handed arrays come back
flipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MRSynthLib.engine.volume import Volume
from MRSynthLib.engine.writing import write_aside


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Attributes
    ----------
    voxels : ndarray of int16, shape (k, j, i)
        On the input's grid; 1000 is the 99.5th percentile of brain, 0 is background.
    info : dict
        The worker's account of the run, as `provenance.facts` describes it.
    cycle : ndarray of int16, shape (k, j, i), or None
        |x - G(G(x))| in the same units, where asked for.
    reliability, interval : ndarray of int16, shape (k, j, i), or None
        Expected absolute error, and half the width of its 90 % interval, in the same units; where asked for.
    """

    voxels: NDArray[np.int16]
    info: dict[str, Any]
    cycle: NDArray[np.int16] | None = None
    reliability: NDArray[np.int16] | None = None
    interval: NDArray[np.int16] | None = None


def write_request(
    folder: Path, volume: Volume, mask: Volume | None, settings: Mapping[str, Any], like: Volume | None = None
) -> Path:
    """Write the volumes and request.json into `folder`; return the latter's path.

    Raises
    ------
    OutputError
        output-full, output-not-writable.
    """

    def described(one: Volume, name: str) -> dict[str, Any]:
        with write_aside(folder / name) as aside:
            np.save(aside, one.voxels, allow_pickle=False)
        place = {"voxels": name, "ijk_to_ras": one.ijk_to_ras.tolist()}
        return {**place, "name": one.name, "metadata": dict(one.metadata)}

    request = {
        **described(volume, "in.npy"),
        "mask": None if mask is None else described(mask, "mask.npy"),
        "like": None if like is None else described(like, "like.npy"),
        "output_dir": ".",
        **settings,
    }
    path = folder / "request.json"
    with write_aside(path) as aside:
        aside.write_text(json.dumps(request), encoding="utf-8")
    return path


def read_result(folder: Path, event: Mapping[str, Any], source: Volume, further: Sequence[str] = ()) -> RunResult:
    """Read what the worker's event "result" names; make sure that it is whole and on the source's grid.

    Parameters
    ----------
    further : sequence of str
        Parts beside the voxels that were asked for: "cycle", "reliability", "interval".

    Raises
    ------
    ValueError
        With what is wrong, in a sentence.
    """
    if not np.array_equal(np.array(event["ijk_to_ras"]), source.ijk_to_ras):
        raise ValueError("The result lies on another grid than the input.")
    parts = {part: read_array(folder, event.get(part), source) for part in further}
    return RunResult(read_array(folder, event["voxels"], source), dict(event["info"]), **parts)


def read_array(folder: Path, name: object, source: Volume) -> NDArray[np.int16]:
    """Read a .npy file that a child process wrote, which must have the voxels of `source`, as int16.

    Raises
    ------
    ValueError
        With what is wrong, in a sentence.
    """
    if not isinstance(name, str):
        raise ValueError("A part of the result is missing.")
    try:
        array = np.load(folder / Path(name).name, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"The result cannot be read: {error}.") from error
    if array.shape != source.shape or array.dtype != np.int16:
        raise ValueError(f"The result is {array.dtype} {array.shape}, the input {source.shape}.")
    return np.asarray(array)
