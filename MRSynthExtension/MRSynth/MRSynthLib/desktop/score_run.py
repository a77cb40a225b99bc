"""Scores in a child process: they take seconds, for which 3D Slicer's own process should not stand still."""

from __future__ import annotations

import json
import os

from MRSynthLib.engine import score_pair
from MRSynthLib.engine.score_pair import Pair, PairScores

from .child import Child
from .exchange import read_array
from .polled import PolledModule


class ScoreRun(PolledModule[PairScores]):
    """One pair that is scored; see `PolledRun`.

    Parameters
    ----------
    pair : Pair
    python : str, optional
        The interpreter; by default PythonSlicer inside 3D Slicer, else the running one.
    """

    expected = "scores."

    def __init__(self, pair: Pair, python: str | None = None) -> None:
        super().__init__("MRSynthLib.engine.score_pair", ["--end-with", str(os.getpid())], python)
        self._pair = pair
        self._said = ""

    def _begin(self) -> Child:
        folder = self._new_folder()
        score_pair.write(self._pair, folder)
        self._arguments.append(str(folder))
        return super()._begin()

    def _hear(self, line: str) -> None:
        self._said += line

    def _conclude(self, code: int) -> None:
        try:
            if code == 0 and self._traces.folder is not None:
                difference = read_array(self._traces.folder, score_pair.DIFFERENCE, self._pair.synthetic)
                self._result = PairScores(difference=difference, **json.loads(self._said))
                return
        except (ValueError, TypeError):
            pass
        self._error = self._failure(code, self._said)
