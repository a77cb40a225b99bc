"""Panel, model and device: which checkpoint, its card, where to compute, and how long it may take."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine import checkpoint, library, model_folders
from MRSynthLib.engine.errors import MRSynthError
from MRSynthLib.engine.probe import Probe, estimate_seconds

from .card import card_html
from .mrml import ijk_to_ras
from .panel_section import Section, choose, chosen, device_in_words
from .parameters import AUTOMATIC
from .probing import DeviceProbe
from .pump import Pump, follow
from .words import _

if TYPE_CHECKING:
    from .panel import Panel

_PASSES = {"axial": 1, "three": 3}  # of the generator through the volume


class ModelSection(Section):
    """Checkpoints and devices.

    Attributes
    ----------
    probe : Probe or None
        What this computer can do; None until it is known.
    calibrated : bool
        Whether the chosen checkpoint can estimate its errors.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.probe: Probe | None = None
        self._probing: DeviceProbe | None = None
        self._pump: Pump | None = None
        self._probe_failed = ""
        self._paths: dict[str, Path] = {}
        self._card_of = ""  # the model whose card is shown
        self._pace: dict[str, float] = {}  # by device: how long the last run took, over its first estimate
        self.ui.deviceSelector.addItem(_("Automatic"), AUTOMATIC)
        self.ui.deviceSelector.addItem(_("CPU"), "cpu")
        self.calibrated = False
        self.ui.planesSelector.addItem(_("Axial"), "axial")
        self.ui.planesSelector.addItem(_("Three planes (three times as long)"), "three")
        self._list_models()
        self.ui.planesSelector.connect("currentIndexChanged(int)", self._on_planes)
        self.ui.reliabilityCheckBox.connect("toggled(bool)", self._on_reliability)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._on_model)
        self.ui.deviceSelector.connect("currentIndexChanged(int)", self._on_device)
        self.ui.addModelButton.connect("clicked(bool)", self._on_add)
        self.ui.openModelsButton.connect("clicked(bool)", self._on_open)
        self.ui.removeModelButton.connect("clicked(bool)", self._on_remove)

    def enter(self) -> None:
        """List the checkpoints anew, and look at the computer once."""
        self._list_models()
        if self.probe is None and self._probing is None and self.panel.setup.ready:
            self._start_probe()

    def update(self) -> None:
        """Select what the parameter node says, and show its card."""
        name = self.parameters.model or model_folders.DEFAULT
        choose(self.ui.modelSelector, name)
        if name != self._card_of:
            self._show_card(name)
        path = self._paths.get(name)
        self.ui.removeModelButton.setEnabled(path is not None and not model_folders.is_shipped(path))
        if self.probe is not None and self.ui.deviceSelector.findData(self.parameters.device) < 0:
            self.parameters.device = AUTOMATIC  # the scene is of another computer
        choose(self.ui.deviceSelector, self.parameters.device)
        self.ui.deviceReasonLabel.setText(self._reason())
        choose(self.ui.planesSelector, self.parameters.planes)
        self.ui.reliabilityCheckBox.setEnabled(self.calibrated)
        blocked = self.ui.reliabilityCheckBox.blockSignals(True)
        self.ui.reliabilityCheckBox.setChecked(self.calibrated and self.parameters.reliability)
        self.ui.reliabilityCheckBox.blockSignals(blocked)

    def seconds(self) -> float | None:
        """How long a run on the chosen source and device may take, from start to result; None while not known."""
        source = self.parameters.source
        if self.probe is None or source is None or source.GetImageData() is None or self.panel.volumes.refusal:
            return None
        recognised = self.panel.volumes.recognised
        first = estimate_seconds(
            self.probe,
            self._device,
            source.GetImageData().GetDimensions()[::-1],
            source.GetSpacing(),
            ijk_to_ras(source),
            skull_stripped=recognised is not None and recognised.skull_stripped,
        )
        return first * _PASSES.get(self.parameters.planes, 1) * self._pace.get(self._device, 1.0)

    def learn(self, estimated: float | None, took: float) -> None:
        """A run on the chosen device has ended: the next estimate goes by how long it really took."""
        if estimated:
            self._pace[self._device] = self._pace.get(self._device, 1.0) * took / estimated

    def estimate(self) -> str:
        """How long a run may take, in words; "" where there is nothing to say."""
        seconds = self.seconds()
        if seconds is None:
            return _("Measuring how fast this computer is …") if self._probing and self.parameters.source else ""
        told = _("Takes about {seconds:.0f} s on {device}.")
        return told.format(seconds=max(1.0, seconds), device=device_in_words(self._device))

    def close(self) -> None:
        """End the probe."""
        self._stop_probe()

    # Checkpoints

    def _list_models(self) -> None:
        self._card_of = ""
        self._paths = {path.stem: path for path in reversed(model_folders.installed())}
        selector = self.ui.modelSelector
        blocked = selector.blockSignals(True)
        selector.clear()
        for name, path in sorted(self._paths.items(), key=lambda item: (item[0] != model_folders.DEFAULT, item[0])):
            selector.addItem(name if model_folders.is_shipped(path) else _("{name} (added)").format(name=name), name)
        selector.blockSignals(blocked)

    def _show_card(self, name: str) -> None:
        self.calibrated = False
        try:
            card = checkpoint.read_card(self._paths[name])
            html = card_html(card)
            self.calibrated = card["reliability"] is not None
        except KeyError:
            html = _("The model “{name}” is not installed. Add it, or choose another one.").format(name=escape(name))
        except MRSynthError as error:
            html = f"⚠ {escape(error.seen)} {escape(error.remedy)}"
        self.ui.cardBrowser.setHtml(html)
        self._card_of = name

    def _on_model(self, index: int) -> None:
        if self.panel.parameters is not None and chosen(self.ui.modelSelector):
            self.parameters.model = chosen(self.ui.modelSelector)

    def _on_planes(self, index: int) -> None:
        if self.panel.parameters is not None:
            self.parameters.planes = chosen(self.ui.planesSelector)

    def _on_reliability(self, on: bool) -> None:
        if self.panel.parameters is not None:
            self.parameters.reliability = on

    def _on_add(self, checked: bool = False) -> None:
        import qt

        title = _("Add a checkpoint")
        kinds = _("Checkpoints") + f" (*{model_folders.SUFFIX})"
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", kinds)
        if not path:
            return
        try:
            added = library.add(path)
        except MRSynthError as error:
            slicer.util.errorDisplay(f"{error.seen}\n\n{error.remedy}", windowTitle=title)
            return
        self._list_models()
        self.parameters.model = added.stem
        self.panel.update()

    def _on_open(self, checked: bool = False) -> None:
        import qt

        folder = model_folders.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))

    def _on_remove(self, checked: bool = False) -> None:
        name = chosen(self.ui.modelSelector)
        question = _("Delete the checkpoint “{name}” from the folder of added ones? This cannot be undone.")
        if not slicer.util.confirmOkCancelDisplay(question.format(name=name), windowTitle=_("Remove a checkpoint")):
            return
        try:
            library.remove(name)
        except MRSynthError as error:
            slicer.util.errorDisplay(f"{error.seen}\n\n{error.remedy}")
        self._list_models()
        self.parameters.model = ""
        self.panel.update()

    # Devices

    def _start_probe(self) -> None:
        self._probing = DeviceProbe()
        try:
            self._probing.start()
        except MRSynthError as error:
            self._probing, self._probe_failed = None, str(error.seen)
            return
        self._pump = follow(self._probing, self._probed)

    def _probed(self) -> None:
        if self._probing is None:
            return
        try:
            self.probe, self._probe_failed = self._probing.result(), ""
        except MRSynthError as error:
            self._probe_failed = error.seen
            self.panel.setup.doubt(error)
        self._stop_probe()
        self._list_devices()
        self.panel.update()

    def _stop_probe(self) -> None:
        if self._pump is not None:
            self._pump.stop()
        if self._probing is not None:
            self._probing.cancel()
        self._pump = self._probing = None

    def _list_devices(self) -> None:
        if self.probe is None:
            return
        selector = self.ui.deviceSelector
        for one in self.probe.devices:
            if one.usable and selector.findData(one.device) < 0:
                selector.addItem(f"{one.name} ({one.device})", one.device)

    @property
    def _device(self) -> str:
        """The device that a run would take; "auto" only while it is not known which that is."""
        device = str(self.parameters.device)
        return self.probe.automatic if self.probe is not None and device == AUTOMATIC else device

    def _reason(self) -> str:
        if self.probe is None:
            if self._probe_failed:
                return _("This computer could not be measured: {reason}").format(reason=self._probe_failed)
            return _("Looking at this computer …") if self._probing else ""
        return next((one.reason for one in self.probe.devices if one.device == self._device), "")

    def _on_device(self, index: int) -> None:
        if self.panel.parameters is not None and chosen(self.ui.deviceSelector):
            self.parameters.device = chosen(self.ui.deviceSelector)
