"""What the command line shows to people: a progress bar, and the card of a checkpoint as text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

from .provenance import weighting


class ProgressBar:
    """One line that is drawn over itself, and erased in the end; nothing at all where nobody watches.

    Parameters
    ----------
    stream : TextIO
        Usually stderr.
    shown : bool
        False turns every method into nothing.
    """

    def __init__(self, stream: TextIO, shown: bool) -> None:
        self._stream = stream
        self._shown = shown
        self._drawn = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def draw(self, fraction: float, stage: str, seconds_left: float | None) -> None:
        """Show `fraction` (0 to 1) as a bar, with the stage's name and the time left."""
        if not self._shown:
            return
        left = "" if seconds_left is None else f"  {seconds_left:.0f} s left"
        text = f"{stage:<10} {fraction:4.0%}{left}"
        width = max(0, min(40, shutil.get_terminal_size().columns - len(text) - 5))
        filled = round(width * min(max(fraction, 0.0), 1.0))
        line = f"[{'#' * filled}{'.' * (width - filled)}] {text}"
        self._stream.write("\r" + line.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(line)

    def clear(self) -> None:
        """Erase the line, to leave the place to other text."""
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0


def card_text(card: Mapping[str, Any], path: str, width: int = 100) -> str:
    """Return the card of a checkpoint for reading: use and limits first, then how it came about."""
    generator = card["generator"]
    arguments = ", ".join(f"{name}={value}" for name, value in generator["arguments"].items())
    arrow = " -> " if len(card.get("directions", ())) == 1 else " <-> "
    subjects: dict[str, list[str]] = {}
    for subject in card["training_data"]:
        kind = f"{subject['role']}, {subject['source']} ({subject['licence']})"
        subjects.setdefault(kind, []).append(str(subject["subject"]))
    fields = {
        "File": path,
        "Intended use": card["intended_use"],
        "Known failures": card["known_failures"] or "none recorded",
        "Licence": card["licence"],
        "Contrasts": arrow.join(weighting(contrast) for contrast in card["contrasts"]),
        "Frame": card["frame"],
        "Generator": f"{generator['name']}({arguments})",
        "Intensity": card["intensity"],
        "Metrics": card["metrics"] or "none recorded",
        "Reliability": card["reliability"] or "not calibrated",
        "Trained on": [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in subjects.items()],
        "Training": card["training"],
        "Created": f"{card['created']}, seed {card['seed']}",
        "Configuration": f"SHA-256 {card['config_sha256']}",
        "Weights": f"SHA-256 {card['weights_sha256']}",
    }
    lines = [str(card["name"]), "=" * len(str(card["name"]))]
    for name, value in fields.items():
        for number, text in enumerate(_flat(value)):
            label = f"{name}:" if number == 0 else ""
            lines += textwrap.wrap(
                f"{label:<16}{text}",
                width,
                subsequent_indent=" " * 16,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines) + "\n"


def _flat(value: Any) -> list[str]:
    """Return nested mappings and lists as lines of "a.b = 1"."""
    if isinstance(value, Mapping):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, Mapping):
                lines += [f"{key}.{line}" for line in _flat(inner)]
            else:
                lines.append(f"{key} = {', '.join(_flat(inner))}")
        return lines
    if isinstance(value, (list, tuple)):
        return [", ".join(_flat(each)) for each in value]
    if isinstance(value, float):
        return [f"{value:.4g}"]
    return [" ".join(str(value).split())]
