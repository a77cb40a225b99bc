"""Extensions Manager of the application: a test says which extensions its server has."""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from typing import Any

from PySide6 import QtCore
from PySide6.QtCore import Property

from . import dialogs
from .stored import stored

__all__ = ["qSlicerExtensionsManagerModel"]


class qSlicerExtensionsManagerModel(QtCore.QObject):
    """Names of extensions; nothing is downloaded.

    Attributes
    ----------
    on_server, installed : list of str
        What could be installed, and what is.
    """

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.on_server: list[str] = []
        self.installed: list[str] = []

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self.installed

    def installExtensionFromServer(self, name: str, restart: bool = True, update: bool = False) -> bool:
        """Ask as the manager does, and install what the server has; never restarts."""
        if name in self.installed:
            return True
        if self.interactive:
            question = f"Do you want to install '{name}' now?"
            if not dialogs.ask("question", question, title="Install extension ?", buttons=("Yes", "No")):
                return False
        if name in self.on_server:
            self.installed.append(name)
        return name in self.installed

    interactive = stored(bool, "interactive", True)
    installedExtensions = Property("QStringList", lambda self: list(self.installed))
