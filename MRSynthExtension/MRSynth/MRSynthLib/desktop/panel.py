"""The panel: its sections, and what they share. Everything of Qt lies here and in the other panel files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .panel_batch import BatchSection
from .panel_compare import CompareSection
from .panel_export import ExportSection
from .panel_help import HelpSection
from .panel_model import ModelSection
from .panel_run import RunSection
from .panel_setup import SetupSection
from .panel_trust import TrustSection
from .panel_volumes import VolumesSection


class Panel:
    """The sections of the module's panel.

    Parameters
    ----------
    ui : object
        The widgets of MRSynth.ui by name, as `slicer.util.childWidgetVariables` gives them.
    logic : MRSynthLogic
        What runs.
    shown : callable
        Tells whether the user has the module open; else the slice views are another module's.

    Attributes
    ----------
    parameters : MRSynthParameterNode or None
        The choices; None while the scene closes.
    """

    def __init__(self, ui: Any, logic: Any, shown: Callable[[], bool]) -> None:
        self.ui = ui
        self.logic = logic
        self.shown = shown
        self.parameters: Any = None
        self._gui_tag: int | None = None
        self._observer: int | None = None
        self._unseen = vtk.vtkWeakReference()  # the result that came while another module was open
        self.setup = SetupSection(self)
        self.volumes = VolumesSection(self)
        self.model = ModelSection(self)
        self.trust = TrustSection(self)
        self.compare = CompareSection(self)
        self.export = ExportSection(self)
        self.batch = BatchSection(self)
        self.help = HelpSection(self)
        self.run = RunSection(self)
        self._sections = (
            *(self.setup, self.volumes, self.model, self.trust, self.compare),
            *(self.export, self.batch, self.help, self.run),
        )

    def attach(self, parameters: Any) -> None:
        """Show the choices of this `MRSynthParameterNode`, or of none, and write the user's into it from now on."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.parameters.RemoveObserver(self._observer)
        self.parameters = parameters
        if parameters is None:
            return
        if parameters.source is None:
            parameters.source = _volume_in_view()
        self._gui_tag = parameters.connectGui(self.ui)
        self._observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.update()

    def update(self) -> None:
        """Bring all sections in line with the choices and the state of the run."""
        if self.parameters is not None:
            for section in self._sections:
                section.update()

    def enter(self) -> None:
        """Look again at what may have changed while another module was shown."""
        for section in self._sections:
            section.enter()
        unseen = self._unseen.Get()
        if unseen is not None and self.parameters is not None and unseen is self.parameters.synthetic:
            self.show_result(unseen)
        self.update()

    def show_result(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Lay a new result over its source in the slice views: now, or when the user comes back to the module."""
        shown = self.shown()
        self._unseen.Set(None if shown else node)
        if shown:
            self.trust.show_result()
            self.compare.show_result(node)

    def leave(self) -> None:
        """Stop what only makes sense while the panel is seen; a run goes on."""
        for section in self._sections:
            section.leave()

    def close(self) -> None:
        """End everything: a run, child processes, timers, observers, and what the views show of it."""
        for section in self._sections:
            section.close()
        self.attach(None)

    def _on_modified(self, caller: object, event: str) -> None:
        self.update()


def _volume_in_view() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume that the user looks at, else the first one of the scene that is no result."""
    scene = slicer.mrmlScene
    composites = [
        scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode"))
    ]
    shown = [scene.GetNodeByID(composite.GetBackgroundVolumeID() or "") for composite in composites]
    loaded = [
        scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    for node in (*shown, *loaded):
        if (
            node is not None
            and node.GetClassName() == "vtkMRMLScalarVolumeNode"
            and node.GetImageData() is not None
            and not node.GetAttribute("MRSynth.Synthetic")
        ):
            return node
    return None
