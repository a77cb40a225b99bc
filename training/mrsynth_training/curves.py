"""Learning curves out of a run's TensorBoard files."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curve = tuple[list[int], list[float]]  # steps, values


def read(run: Path) -> dict[str, Curve]:
    """All scalars by tag; empty where the run has logged nothing. Steps that a resumed run repeated count once."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 1})
    events.Reload()
    result = {}
    for tag in events.Tags()["scalars"]:
        values = {event.step: event.value for event in events.Scalars(tag)}
        steps = sorted(values)
        result[tag] = (steps, [values[step] for step in steps])
    return result
