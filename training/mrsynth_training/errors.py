"""The error a user of the training commands can act on."""

from __future__ import annotations


class TrainingError(Exception):
    """Something is wrong with a configuration, a slice store or a run.

    Parameters
    ----------
    seen : str
        What was found.
    expected : str
        What is needed instead.
    remedy : str
        What to do now.
    """

    exit_code = 3

    def __init__(self, seen: str, expected: str, remedy: str) -> None:
        super().__init__(f"{seen}. Expected: {expected}. {remedy}.")
        self.seen = seen
        self.expected = expected
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[TrainingError], tuple[str, str, str]]:
        """Survive the way back from a worker process."""
        return type(self), (self.seen, self.expected, self.remedy)
