"""Stand-in for the Qt application of 3D Slicer, so that panels can be driven in tests without 3D Slicer.

It is not 3D Slicer. The scene, its nodes and `slicer.util` are 3D Slicer's own (from slicer-core); widgets are
those of PySide6; everything between them is imitated here, after the documented behaviour of PythonQt, CTK,
the qMRML widgets and the scripted-module classes of 3D Slicer 5.10 to 5.12. Names that the real classes do
not have are refused: `allowed_names.json` lists what their headers declare.

    with standin.application(tmp_path) as app:
        widget = app.open("MRSynth")
        widget.ui.runButton.click()
        app.process_events(0.5)
        app.grab(tmp_path / "panel.png", width=380)

PySide6 is imported when the first application starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .running import Application

__all__ = ["MODULE_FOLDER", "application"]

MODULE_FOLDER = Path(__file__).resolve().parents[3]


@contextmanager
def application(folder: Path, modules: Path = MODULE_FOLDER) -> Iterator[Application]:
    """Start a stand-in application with an empty scene, and put everything back at the end.

    Parameters
    ----------
    folder : Path
        Empty folder for the application's settings and temporary files.
    modules : Path
        Folder of the scripted modules (``<Name>.py``) that the application finds.

    Raises
    ------
    AssertionError
        At the end, when something went wrong that 3D Slicer only prints: an exception in a slot, a connection
        to a signal that does not exist, a dialog that no answer was given for. The list is `app.complaints`.
    """
    from .running import run

    with run(folder, modules) as app:
        yield app
