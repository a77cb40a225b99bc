"""Panel, help: sample data that needs no network, and a text for bug reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import MRSynthError

from . import diagnostics, samples
from .panel_section import Section
from .words import _

if TYPE_CHECKING:
    from .panel import Panel


class HelpSection(Section):
    """Samples and diagnostics."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.ui.sampleT1Button.connect("clicked(bool)", lambda checked=False: self._load("t1"))
        self.ui.sampleT2Button.connect("clicked(bool)", lambda checked=False: self._load("t2"))
        self.ui.diagnosticsButton.connect("clicked(bool)", self._on_diagnostics)

    def update(self) -> None:
        """Hide the label while it says nothing."""
        self.ui.helpLabel.setVisible(bool(self.ui.helpLabel.text))

    def _load(self, contrast: str) -> None:
        try:
            node = samples.load(contrast)
        except MRSynthError as error:
            slicer.util.errorDisplay(f"{error.seen}\n\n{error.remedy}", windowTitle=_("Sample data"))
            return
        if contrast == "t1":
            self.parameters.source = node
        else:
            self.parameters.acquired = node
        slicer.util.setSliceViewerLayers(background=node, fit=True)

    def _on_diagnostics(self, checked: bool = False) -> None:
        import qt

        text = diagnostics.report(self.panel.model.probe, self.panel.run.last_error)
        qt.QApplication.clipboard().setText(text)
        self.ui.helpLabel.setText(_("Copied. Paste it into your report; it holds no patient data."))
        self.update()
