"""A run's files: checkpoints that are whole or not there, and what differs when one does not fit."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mrsynth_training.errors import TrainingError
from MRSynthLib.engine.writing import write_aside

LAST, BEST = "last.ckpt", "best.ckpt"
NEEDED = ("config", "config_sha256", "step", "total", "store")


def write_checkpoint(path: Path, state: dict[str, Any]) -> Path:
    """Write a state: aside, to the disk itself, and then renamed, so that a crash or full disk leaves the earlier.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    buffer = io.BytesIO()  # so that a full disk is an OSError, with its number, and not torch's own error
    torch.save(state, buffer)
    with write_aside(path) as aside, aside.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    return path


def read_checkpoint(run: Path) -> dict[str, Any]:
    """State that a run saved (tensors and plain values only; nothing in the file is executed).

    Parameters
    ----------
    run : Path
        The run's folder, for its last checkpoint, or a checkpoint.

    Raises
    ------
    TrainingError
        If the run has no readable checkpoint, or it is not of this trainer.
    """
    path = run / LAST if run.is_dir() else run
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({error})", "a run's last.ckpt", "Check the folder") from error
    lacking = [name for name in NEEDED if not isinstance(state, dict) or name not in state]
    if lacking:
        raise TrainingError(
            f"{path} is no checkpoint of mrsynth-train (without {', '.join(lacking)})",
            "a run's last.ckpt or best.ckpt",
            "Check the folder; weights of other trainers cannot be gone on with",
        )
    return state


def config_differences(then: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """Lines "key: value then, value now" of all settings that differ."""
    lines = []
    for key in sorted(then.keys() | now.keys()):
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += config_differences(old, new, f"{where}{key}.")
        elif old != new and not (isinstance(old, tuple | list) and isinstance(new, tuple | list) and [*old] == [*new]):
            lines.append(f"{where}{key}: {old!r} then, {new!r} now")
    return lines


def data_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the stores of a run (their `meta.json`); nothing where the earlier one had no checksums."""
    lines = [f"frame {then['frame']} then, {now['frame']} now"] if then["frame"] != now["frame"] else []
    roles_then, roles_now = ({s["subject"]: s["role"] for s in m["subjects"]} for m in (then, now))
    for title, names in (
        ("gone", roles_then.keys() - roles_now.keys()),
        ("new", roles_now.keys() - roles_then.keys()),
        ("in another role", {n for n in roles_then.keys() & roles_now.keys() if roles_then[n] != roles_now[n]}),
    ):
        if names:
            more = ", ..." if len(names) > 5 else ""
            lines.append(f"{len(names)} studies {title} ({', '.join(sorted(names)[:5])}{more})")
    sums_then, sums_now = then.get("sha256"), now.get("sha256")
    if sums_then and sums_now and sums_then != sums_now and not lines:
        lines.append(
            "the same studies, but other slices: " + ", ".join(n for n in sums_now if sums_then[n] != sums_now[n])
        )
    return lines
