"""What every section of the panel is, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .words import _

if TYPE_CHECKING:
    from .panel import Panel


class Section:
    """A part of the panel: connects its widgets when it is made, and keeps them true afterwards."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.ui: Any = panel.ui

    @property
    def parameters(self) -> Any:
        """The choices (`MRSynthParameterNode`); sections are only called while there are some."""
        parameters = self.panel.parameters
        assert parameters is not None, "no parameter node is attached"
        return parameters

    def update(self) -> None:
        """Bring the widgets in line with the choices."""

    def enter(self) -> None:
        """The panel is shown."""

    def leave(self) -> None:
        """Another module is shown."""

    def close(self) -> None:
        """The panel goes away: leave nothing behind."""


def choose(combo: Any, value: str) -> None:
    """Select the item of a combo box that carries `value`, or none where there is no such item, without a signal."""
    index = combo.findData(value)
    if index != combo.currentIndex:
        blocked = combo.blockSignals(True)
        combo.setCurrentIndex(index)
        combo.blockSignals(blocked)


def chosen(combo: Any) -> str:
    """Return the value that the selected item of a combo box carries; "" where none is selected."""
    return str(combo.itemData(combo.currentIndex) or "")


def device_in_words(device: str) -> str:
    """Return a device as people call it: "cpu" is "the CPU"."""
    kind, _colon, number = device.partition(":")
    names = {"cpu": _("the CPU"), "mps": _("the Apple GPU"), "cuda": _("GPU {number}").format(number=number or 0)}
    return names.get(kind, device)
