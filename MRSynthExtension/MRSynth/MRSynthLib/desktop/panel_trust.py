"""Panel, reliability: where not to trust the result, in colour, in a line, and as places to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import trust
from .panel_section import Section
from .words import _

if TYPE_CHECKING:
    from .panel import Panel


class TrustSection(Section):
    """Shows the reliability map of the synthetic volume that is chosen."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._regions: list[dict[str, Any]] = []
        self._listed: tuple[str, str] | None = None
        self.ui.overlayCheckBox.connect("toggled(bool)", self._on_overlay)
        for signal in ("itemClicked(QListWidgetItem*)", "itemActivated(QListWidgetItem*)"):  # by mouse, by keyboard
            self.ui.regionsList.connect(signal, self._on_region)

    def update(self) -> None:
        """Say what the map of the chosen result says; offer nothing where there is none."""
        synthetic = self.parameters.synthetic
        node = trust.map_of(synthetic)
        summary = trust.summary_of(synthetic) if node is not None else {}
        self.ui.trustLabel.setText(summary.get("summary") or _("No reliability map: run with one to get it."))
        self.ui.overlayCheckBox.setEnabled(node is not None)
        if node is None:
            self.ui.overlayCheckBox.setChecked(False)
        self._list(synthetic.GetID() if node is not None else "", summary.get("regions", []))

    def show_result(self) -> None:
        """A new result lies over its source, and its map is one click away."""
        self.ui.overlayCheckBox.setChecked(False)

    def _list(self, node_id: str, regions: list[dict[str, Any]]) -> None:
        listed = (node_id, repr(regions))
        if listed == self._listed:
            return
        self._listed, self._regions = listed, regions
        blocked = self.ui.regionsList.blockSignals(True)
        self.ui.regionsList.clear()
        told = _("{number}: off by about {error:.0f} of 1000, {volume:.1f} ml")
        for number, region in enumerate(regions, start=1):
            self.ui.regionsList.addItem(
                told.format(number=number, error=region["expected_error"], volume=region["volume_ml"])
            )
        self.ui.regionsList.setCurrentRow(-1)
        self.ui.regionsList.blockSignals(blocked)
        for widget in (self.ui.regionsLabel, self.ui.regionsList):
            widget.setVisible(bool(regions))

    def _on_overlay(self, on: bool) -> None:
        self.panel.compare.overlay(on)

    def _on_region(self, item: object = None) -> None:
        row = self.ui.regionsList.currentRow
        if self.panel.parameters is not None and 0 <= row < len(self._regions):
            trust.jump_to(self.parameters.synthetic, self._regions[row]["centre_ras"])
