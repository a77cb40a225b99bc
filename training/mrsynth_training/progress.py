"""What a run tells while it goes: a live line, TensorBoard's files, and where the time goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

LOG_EVERY = 20  # steps, where there is no terminal, and in TensorBoard
LIVE_EVERY = 0.5  # s
MEMORY = 0.95  # of the running seconds per step


class Speed:
    """Running seconds per step, and the share of them that the data took."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.data = 0.0
        self._begin = time.perf_counter()

    def begin(self) -> None:
        """A step begins: its batch is drawn."""
        self._begin = time.perf_counter()

    def drawn(self) -> None:
        """The batch is there."""
        self.data_seconds = time.perf_counter() - self._begin

    def end(self) -> None:
        """The step is done."""
        spent = time.perf_counter() - self._begin
        known = self.seconds is not None
        self.data = MEMORY * self.data + (1 - MEMORY) * self.data_seconds if known else self.data_seconds
        self.seconds = MEMORY * self.seconds + (1 - MEMORY) * spent if self.seconds is not None else spent


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


class Teller:
    """Tells of a run; in processes other than the first, nothing.

    Parameters
    ----------
    folder : Path
        For TensorBoard's files.
    step, total : int
    first : bool
        Whether this process is the first.
    stream : text file, optional
        By default the standard output.
    """

    def __init__(self, folder: Path, step: int, total: int, *, first: bool, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = (stream or sys.stdout) if first else None
        self.live = self.stream is not None and self.stream.isatty()
        self.log = SummaryWriter(str(folder), purge_step=step) if first else None
        self._told = 0.0
        self._width = 0

    def step(self, step: int, terms: Mapping[str, Tensor], speed: Speed, learning_rate: float) -> None:
        """After every step."""
        if self.stream is None or self.log is None:
            return
        logged = step % LOG_EVERY == 0 or step == self.total
        if logged:
            values = {f"loss/{name}": float(term) for name, term in terms.items()}
            values["learning_rate"] = learning_rate
            values["speed/steps_per_second"] = 1 / (speed.seconds or 1e-9)
            values["speed/share_of_data"] = speed.data / (speed.seconds or 1e-9)
            self.scalars(values, step)
        if logged and not self.live:
            self.say(self._line(step, terms, speed))
        elif self.live and (time.monotonic() - self._told > LIVE_EVERY or step == self.total):
            self._told = time.monotonic()
            line = self._line(step, terms, speed)
            self.stream.write("\r" + line.ljust(self._width))
            self.stream.flush()
            self._width = len(line)

    def _line(self, step: int, terms: Mapping[str, Tensor], speed: Speed) -> str:
        seconds = speed.seconds or 0.0
        parts = "  ".join(f"{name} {float(term):.4f}" for name, term in terms.items())
        rate = f"{1 / seconds:.2f} step/s" if 0 < seconds < 1 else f"{seconds:.2f} s/step"
        share = 100 * speed.data / seconds if seconds else 0.0
        left = duration(seconds * (self.total - step))
        done = f"step {step}/{self.total} ({100 * step / self.total:.1f} %)"
        return f"{done}  {parts}  {rate}, data {share:.0f} %  {left} left"

    def say(self, line: str) -> None:
        """One line of its own."""
        if self.stream is None:
            return
        if self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.stream.write(line + "\n")
        self.stream.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Curves for TensorBoard."""
        if self.log is not None:
            for name, value in values.items():
                self.log.add_scalar(name, value, step)

    def picture(self, name: str, image: Tensor, step: int) -> None:
        """A picture (1, h, w) for TensorBoard."""
        if self.log is not None:
            self.log.add_image(name, image, step)

    def close(self) -> None:
        """End the live line and TensorBoard's file."""
        if self.stream is not None and self._width:
            self.stream.write("\n")
            self.stream.flush()
        if self.log is not None:
            self.log.close()

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
