"""Panel, setup: what is missing before the first run, and getting it after one consent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import InstallError, MRSynthError

from . import install, slicer_tools
from .panel_section import Section
from .words import _

if TYPE_CHECKING:
    from .panel import Panel


class SetupSection(Section):
    """PyTorch and safetensors: whether they are there, and how they come."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._setup = install.look()
        self._doubt = ""  # what a child process said of packages that look whole
        self.ui.installButton.connect("clicked(bool)", self._on_install)
        self.ui.installFolderButton.connect("clicked(bool)", self._on_install_folder)

    @property
    def ready(self) -> bool:
        """Whether everything is there that a run needs."""
        return self._setup.ready and not self._doubt

    def doubt(self, error: MRSynthError) -> None:
        """Take note of an error: one of the installation means that a run would fail until it is repaired."""
        if isinstance(error, InstallError):
            self._doubt = error.seen

    def made_ready(self) -> bool:
        """Return whether a run can start; offers to install what is missing."""
        return self.ready or self._install()

    def enter(self) -> None:
        """Look again: the user may have installed something meanwhile."""
        self._setup = install.look()

    def update(self) -> None:
        """Show the offer to install only while something is missing."""
        self.ui.setupFrame.setVisible(not self.ready)
        self.ui.setupLabel.setText(self._doubt or self._setup.explanation)

    def _on_install(self, checked: bool = False) -> None:
        self._install()

    def _install(self) -> bool:
        if self._setup.torch != "ready" and not self._setup.extension:
            return self._install_extension()
        title = _("Install what MRSynth needs")
        if not slicer.util.confirmOkCancelDisplay(install.consent(self._setup), windowTitle=title):
            return False
        return self._carry_out(lambda on_step: install.install(self._setup, on_step))

    def _install_extension(self) -> bool:
        """Get the extension that installs PyTorch; nothing more can be done before 3D Slicer was restarted."""
        question = _(
            "PyTorch is installed by 3D Slicer's PyTorch extension, which is not there yet."
            " Install the extension now?\n\n"
            "3D Slicer has to be restarted afterwards, which you do when your work is saved."
        )
        if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("PyTorch extension")):
            done = _("Restart 3D Slicer, and press Install again.")
            self._carry_out(lambda on_step: slicer_tools.add_extension(), done)
        return False

    def _on_install_folder(self, checked: bool = False) -> None:
        import qt

        title = _("Folder with wheels and checkpoints")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if folder:
            self._carry_out(lambda on_step: install.install_from_folder(folder, on_step))

    def _carry_out(self, work: Callable[[Callable[..., None]], object], done: str = _("Installed.")) -> bool:
        """Install with the steps shown below the button; say what to do where it fails."""
        self.panel.logic.releaseWorker()  # it has the packages open, which Windows then does not replace
        try:
            work(self._on_step)
        except MRSynthError as error:
            logging.error("MRSynth: %s [%s]", error, error.code)
            self.panel.run.last_error = error
            self.panel.run.say("")
            slicer.util.errorDisplay(f"{error.seen}\n\n{error.remedy}", windowTitle=_("Not installed"))
        else:
            self._doubt = ""
            self.panel.run.say(done)
        self.panel.enter()
        return self.ready

    def _on_step(self, text: str, fraction: float | None = None) -> None:
        self.panel.run.say(text if fraction is None else f"{text} ({fraction:.0%})")
        slicer.app.processEvents()
