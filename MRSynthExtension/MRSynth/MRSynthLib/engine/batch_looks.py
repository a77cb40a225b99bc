"""What volumes are whose names do not tell: a look at the image, remembered as long as the file is the same."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from . import batch_scan, screening
from .batch_cohort import Scan
from .batch_plan import Seen
from .batch_records import Records, stamp, write_json
from .errors import MRSynthError
from .preparation import SURE


class Looks:
    """The looks at one cohort.

    Parameters
    ----------
    records : Records
        Of the output folder, where they are remembered.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, dict[str, Any]] = {}
        self._new = False
        try:
            known = json.loads(records.looks.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            pass

    def look(self, scan: Scan) -> Seen:
        """Contrast and reason; no contrast where it is not clear, or where the file cannot be read."""
        key = f"{scan.path}#{scan.series}"
        try:
            now = f"{__version__} {stamp(scan.files or [scan.path])}"  # another version may see more
        except OSError as error:
            return None, str(error)
        known = self._known.get(key, {})
        if known.get("stamp") != now:
            try:
                volume = batch_scan.read(scan)
                guess = screening.guess_contrast(volume, screening.look(volume).brain)
                contrast = guess.name if guess.confidence >= SURE else None
                known = {"stamp": now, "contrast": contrast, "reason": guess.reason}
            except MRSynthError as error:  # not remembered: what was wrong may be put right elsewhere than in the file
                return None, f"{error.seen} [{error.code}]"
            self._known[key] = known
            self._new = True
        return known["contrast"], known["reason"]

    def save(self) -> None:
        """Remember for the next run, if there is a place for it already."""
        if self._new and self._records.looks.parent.is_dir():
            write_json(self._records.looks, self._known)
