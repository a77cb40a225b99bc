"""What travels between the runner and the worker: volumes as .npy, everything else as JSON.

No image format is used, for none keeps every grid: NIfTI loses shears, and left-handed arrays come back
flipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MRSynthLib.engine.files import write_aside
from MRSynthLib.engine.volume import Volume


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
    """

    voxels: NDArray[np.int16]
    info: dict[str, Any]
    cycle: NDArray[np.int16] | None


def write_request(folder: Path, volume: Volume, mask: Volume | None, settings: Mapping[str, Any]) -> Path:
    """Write the volumes and request.json into `folder`; return the latter's path.

    Raises
    ------
    OutputError
        output-full, output-not-writable.
    """

    def described(one: Volume, name: str) -> dict[str, Any]:
        with write_aside(folder / name) as aside:
            np.save(aside, one.voxels, allow_pickle=False)
        return {"voxels": name, "ijk_to_ras": one.ijk_to_ras.tolist(), "name": one.name}

    request = {
        **described(volume, "in.npy"),
        "metadata": dict(volume.metadata),
        "mask": None if mask is None else described(mask, "mask.npy"),
        "output_dir": ".",
        **settings,
    }
    path = folder / "request.json"
    with write_aside(path) as aside:
        aside.write_text(json.dumps(request), encoding="utf-8")
    return path


def read_result(folder: Path, event: Mapping[str, Any], source: Volume, cycle: bool) -> RunResult:
    """Read what the worker's event "result" names; make sure that it is whole and on the source's grid.

    Raises
    ------
    ValueError
        With what is wrong, in a sentence.
    """
    if not np.array_equal(np.array(event["ijk_to_ras"]), source.ijk_to_ras):
        raise ValueError("The result lies on another grid than the input.")
    voxels = _read_array(folder, event["voxels"], source)
    return RunResult(voxels, dict(event["info"]), _read_array(folder, event["cycle"], source) if cycle else None)


def _read_array(folder: Path, name: object, source: Volume) -> NDArray[np.int16]:
    if not isinstance(name, str):
        raise ValueError("A part of the result is missing.")
    try:
        array = np.load(folder / Path(name).name, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"The result cannot be read: {error}.") from error
    if array.shape != source.shape or array.dtype != np.int16:
        raise ValueError(f"The result is {array.dtype} {array.shape}, the input {source.shape}.")
    return np.asarray(array)
