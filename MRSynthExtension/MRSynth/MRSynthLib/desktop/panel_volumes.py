"""Panel, volumes: what goes in, what it was recognised as, and in which direction to go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from MRSynthLib.engine.errors import MRSynthError

from . import recognition
from .panel_section import Section, choose, chosen
from .parameters import AUTOMATIC, DIRECTIONS
from .results import DIRECTION
from .words import _

if TYPE_CHECKING:
    from .panel import Panel

_ARROWS = {"t1": "T1 → T2", "t2": "T2 → T1"}  # by the contrast of the source


class VolumesSection(Section):
    """Source, direction, result and mask.

    Attributes
    ----------
    recognised : Recognised or None
        What the source looks like; None where there is none, or none that can be used.
    refusal : str
        Why the source cannot be used, or "".
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.recognised: recognition.Recognised | None = None
        self.refusal = ""
        self._seen: tuple[object, ...] = ()
        self.ui.forceCheckBox.connect("toggled(bool)", lambda on: self.panel.update())
        for direction in DIRECTIONS:
            self.ui.directionSelector.addItem("", direction)
        self.ui.directionSelector.connect("currentIndexChanged(int)", self._on_direction)
        # Only a result may be overwritten by a result. Any direction: "" is that of a volume that is made here.
        self.ui.syntheticSelector.addAttribute("vtkMRMLScalarVolumeNode", DIRECTION)
        for name in ("sourceSelector", "syntheticSelector", "maskSelector", "likeSelector", "acquiredSelector"):
            _choose_none_on_removal(getattr(self.ui, name))

    @property
    def target(self) -> str | None:
        """The contrast to make; None where the worker is to go by what the source looks like."""
        return DIRECTIONS.get(self.parameters.direction)

    @property
    def missing(self) -> str:
        """What keeps a run from being started, in words; "" where nothing does."""
        if self.parameters.source is None:
            return _("Select a source volume first.")
        if self.refusal:
            return self.refusal
        if self.recognised is not None and self.recognised.refusal and not self.forced:
            return self.recognised.refusal
        if self.target is None and self.recognised is not None and not self.recognised.sure:
            return _("It is not clear whether the source is T1 or T2: choose the direction.")
        return ""

    @property
    def forced(self) -> bool:
        """Whether the user goes on with a source that the screening refuses."""
        return bool(self.ui.forceCheckBox.checked)

    def update(self) -> None:
        """Look at the source if it is another one, and say what was seen."""
        self._look()
        self.ui.forceCheckBox.setVisible(bool(self.recognised and self.recognised.refusal))
        self.ui.recognisedLabel.setText(self.refusal or (self.recognised.text if self.recognised else ""))
        self.ui.recognisedLabel.setVisible(bool(self.ui.recognisedLabel.text))
        automatic = _("Automatic")
        if self.recognised is not None and self.recognised.sure:
            automatic += f" ({_ARROWS[self.recognised.contrast]})"
        self.ui.directionSelector.setItemText(0, automatic)
        for index, contrast in enumerate(("t1", "t2"), start=1):
            self.ui.directionSelector.setItemText(index, _ARROWS[contrast])
        direction = self.parameters.direction
        choose(self.ui.directionSelector, direction if direction in DIRECTIONS else AUTOMATIC)

    def _look(self) -> None:
        source, mask = self.parameters.source, self.parameters.mask
        image = source.GetImageData() if source else None
        seen = (source and source.GetID(), image and image.GetMTime(), mask and mask.GetID(), mask and mask.GetMTime())
        if seen == self._seen:
            return
        self._seen = seen
        self.recognised, self.refusal = None, ""
        self.ui.forceCheckBox.setChecked(False)  # it was said of another volume
        if source is None:
            return
        try:
            self.recognised = recognition.recognise(source, mask)
        except MRSynthError as error:
            self.refusal = f"{error.seen} {error.remedy}"

    def _on_direction(self, index: int) -> None:
        if self.panel.parameters is not None and chosen(self.ui.directionSelector):
            self.parameters.direction = chosen(self.ui.directionSelector)


def _choose_none_on_removal(selector: Any) -> None:
    """When the chosen node is deleted choose none, where Qt would choose a neighbour that nobody asked for."""

    def on_removal(node: slicer.vtkMRMLNode) -> None:
        if node is not None and node.GetID() == selector.currentNodeID:
            selector.setCurrentNode(None)

    selector.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", on_removal)
