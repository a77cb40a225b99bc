"""Panel, export: the chosen result as a DICOM series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import MRSynthError

from . import dicom_export
from .panel_section import Section
from .words import _

if TYPE_CHECKING:
    from .panel import Panel


class ExportSection(Section):
    """Writes into an empty folder that the user chooses."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._said = ""
        self.ui.exportButton.connect("clicked(bool)", self._on_export)

    def update(self) -> None:
        """Offer the export where the source came from DICOM, and say why not elsewhere."""
        possible = dicom_export.possible(self.parameters.synthetic)
        self.ui.exportButton.setEnabled(possible)
        self.ui.anonymizeCheckBox.setEnabled(possible)
        reason = "" if possible else _("For a synthetic volume whose source was loaded from DICOM.")
        self.ui.exportLabel.setText(self._said or reason)
        self.ui.exportLabel.setVisible(bool(self.ui.exportLabel.text))

    def _on_export(self, checked: bool = False) -> None:
        import qt

        title = _("Empty folder for the DICOM series")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if not folder:
            return
        try:
            with slicer.util.WaitCursor():
                made = dicom_export.export(self.parameters.synthetic, folder, self.ui.anonymizeCheckBox.checked)
        except MRSynthError as error:
            self._said = f"⚠ {error.seen} {error.remedy}"
        else:
            self._said = _("Written to “{folder}”.").format(folder=made)
        self.update()
