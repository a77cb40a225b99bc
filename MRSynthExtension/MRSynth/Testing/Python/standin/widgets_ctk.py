"""The CTK widgets that panels use, imitated on PySide6: same behaviour, roughly the same look.

What is reachable from Python is decided by `allowed_names.json`; here stands what those names do.
"""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import enum
import math
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from . import signals
from .collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox
from .stored import stored

__all__ = ["CTK_WIDGETS"]


class ctkDoubleSlider(QtWidgets.QWidget):
    """Slider of real numbers."""

    _STEPS = 1000

    def __init__(self, parent: Any = None, more: Any = None) -> None:
        super().__init__(parent if isinstance(parent, QtWidgets.QWidget) else more)
        orientation = parent if isinstance(parent, QtCore.Qt.Orientation) else QtCore.Qt.Orientation.Vertical
        self._limits = [0.0, 99.0]
        self._value = 0.0
        self._slider = QtWidgets.QSlider(orientation, self)
        self._slider.setRange(0, self._STEPS)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        self._slider.valueChanged.connect(self._moved)
        for name in ("sliderPressed", "sliderReleased"):
            getattr(self._slider, name).connect(lambda name=name: signals.emit(self, f"{name}()"))

    def _moved(self, position: int) -> None:
        low, high = self._limits
        if round(self._position(self._value)) != position:
            self.setValue(low + (high - low) * position / self._STEPS)

    def _position(self, value: float) -> float:
        low, high = self._limits
        return self._STEPS * (value - low) / (high - low) if math.isfinite(high - low) and high > low else 0.0

    def setValue(self, value: float) -> None:
        value = min(max(float(value), self._limits[0]), self._limits[1])
        changed = value != self._value
        self._value = value
        self._slider.setValue(round(self._position(value)))
        if changed:
            signals.emit(self, "valueChanged(double)", value)

    def _set_range(self, low: float, high: float) -> None:
        self._limits = [float(low), max(float(low), float(high))]
        self.setValue(self._value)
        self._slider.setValue(round(self._position(self._value)))

    def _set_minimum(self, low: float) -> None:
        self._set_range(low, max(low, self._limits[1]))

    def _set_maximum(self, high: float) -> None:
        self._set_range(min(high, self._limits[0]), high)

    def setOrientation(self, orientation: Any) -> None:
        self._slider.setOrientation(QtCore.Qt.Orientation(orientation))

    value = Property(float, lambda self: self._value, setValue)
    minimum = Property(float, lambda self: self._limits[0], _set_minimum)
    maximum = Property(float, lambda self: self._limits[1], _set_maximum)
    orientation = Property(int, lambda self: self._slider.orientation().value, setOrientation)
    sliderPosition = Property(float, lambda self: self._value, setValue)
    singleStep = stored(float, "singleStep", 1.0)
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    tickPosition = stored(int, "tickPosition", 0)
    tracking = stored(bool, "tracking", True)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)
    handleToolTip = stored(str, "handleToolTip", "")


class ctkSliderWidget(QtWidgets.QWidget):
    """Slider with a spin box beside it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = ctkDoubleSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        self._spin_box.setRange(0.0, 99.0)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self._slider._slider.valueChanged.connect(lambda _: self.setValue(self._slider.value))
        self._spin_box.valueChanged.connect(self.setValue)
        self._shown = 0.0

    def setValue(self, value: float) -> None:
        value = min(max(float(value), self.minimum), self.maximum)
        value = round(value, int(self.decimals))
        changed = value != self._shown
        self._shown = value
        self._slider.setValue(value)
        self._spin_box.setValue(value)
        if changed:
            signals.emit(self, "valueChanged(double)", value)

    def reset(self) -> None:
        self.setValue(0.0)

    def _set_limits(self, low: float, high: float) -> None:
        self._spin_box.blockSignals(True)
        self._spin_box.setRange(low, high)
        self._spin_box.blockSignals(False)
        self._slider._set_range(low, high)
        self.setValue(self._shown)

    def _set_decimals(self, decimals: int) -> None:
        self._spin_box.setDecimals(decimals)
        signals.emit(self, "decimalsChanged(int)", decimals)

    value = Property(float, lambda self: self._shown, setValue)
    minimum = Property(
        float, lambda self: self._spin_box.minimum(), lambda self, low: self._set_limits(low, max(low, self.maximum))
    )
    maximum = Property(
        float, lambda self: self._spin_box.maximum(), lambda self, high: self._set_limits(min(high, self.minimum), high)
    )
    decimals = Property(int, lambda self: self._spin_box.decimals(), _set_decimals)
    singleStep = Property(
        float, lambda self: self._spin_box.singleStep(), lambda self, step: self._spin_box.setSingleStep(step)
    )
    prefix = Property(str, lambda self: self._spin_box.prefix(), lambda self, text: self._spin_box.setPrefix(text))
    suffix = Property(str, lambda self: self._spin_box.suffix(), lambda self, text: self._spin_box.setSuffix(text))
    spinBoxVisible = Property(
        bool, lambda self: not self._spin_box.isHidden(), lambda self, shown: self._spin_box.setVisible(shown)
    )
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    tickPosition = stored(int, "tickPosition", 0)
    popupSlider = stored(bool, "popupSlider", False)
    spinBoxAlignment = stored(int, "spinBoxAlignment", 32)
    synchronizeSiblings = stored(int, "synchronizeSiblings", 0)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)


class ctkComboBox(QtWidgets.QComboBox):
    """Combo box with a text for "nothing chosen" and an elided current text."""

    def _show_default(self) -> None:
        self.setPlaceholderText(str(self.defaultText))

    defaultText = stored(str, "defaultText", "", _show_default)
    defaultIcon = stored(QtGui.QIcon, "defaultIcon", QtGui.QIcon())
    forceDefault = stored(bool, "forceDefault", False)
    elideMode = stored(int, "elideMode", 3)
    scrollWheelEffect = stored(int, "scrollWheelEffect", 0)

    def setCurrentUserDataAsString(self, data: str) -> None:
        index = next((i for i in range(self.count()) if str(self.itemData(i)) == data), -1)
        self.setCurrentIndex(index)

    currentUserDataAsString = Property(
        str, lambda self: "" if self.currentData() is None else str(self.currentData()), setCurrentUserDataAsString
    )


class ctkCheckBox(QtWidgets.QCheckBox):
    """Check box with icons, which are not drawn here."""

    indicatorIcon = stored(QtGui.QIcon, "indicatorIcon", QtGui.QIcon())


class ctkPathLineEdit(QtWidgets.QWidget):
    """Line for a path, with a button that opens a file dialog."""

    class Filter(enum.IntFlag):
        """What may be chosen, as ctkPathLineEdit.h numbers it."""

        Dirs = 0x001
        Files = 0x002

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._combo = ctkComboBox(self)
        self._combo.setEditable(True)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._button)
        self._button.clicked.connect(self.browse)
        self._combo.editTextChanged.connect(lambda text: signals.emit(self, "currentPathChanged(QString)", text))

    def browse(self) -> None:
        from . import dialogs

        folder = self.filters & self.Filter.Dirs and not self.filters & self.Filter.Files
        chosen = dialogs.ask("folder" if folder else "file", str(self.label) or "Select a file or directory")
        if chosen:
            self._set_path(chosen)

    def _set_path(self, path: str) -> None:
        self._combo.setEditText(path)

    setCurrentPath = _set_path

    def comboBox(self) -> ctkComboBox:
        return self._combo

    def addCurrentPathToHistory(self) -> None:
        if self._combo.findText(self._combo.currentText()) < 0:
            self._combo.insertItem(0, self._combo.currentText())

    def retrieveHistory(self) -> None:
        return

    currentPath = Property(str, lambda self: self._combo.currentText(), _set_path)
    label = stored(str, "label", "")
    filters = stored(int, "filters", 0x007)
    nameFilters = stored("QStringList", "nameFilters", [])
    options = stored(int, "options", 0)
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = Property(
        bool, lambda self: not self._button.isHidden(), lambda self, shown: self._button.setVisible(shown)
    )
    showHistoryButton = stored(bool, "showHistoryButton", True)
    minimumContentsLength = stored(int, "minimumContentsLength", 0)
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 1)


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Text browser that is as high as its text."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self.textChanged.connect(self._fit)

    def _fit(self) -> None:
        self.document().setTextWidth(max(self.viewport().width(), 50))
        height = int(self.document().size().height()) + 2 * self.frameWidth()
        if height != self.minimumHeight():
            self.setFixedHeight(height)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    collapsed = stored(bool, "collapsed", True)
    showDetailsText = stored(str, "showDetailsText", "Show details...")
    hideDetailsText = stored(str, "hideDetailsText", "Hide details.")
    disableMouseScroll = stored(bool, "disableMouseScroll", True)


class ctkMessageBox(QtWidgets.QMessageBox):
    """Message box with "Don't show this message again"."""

    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
    dontShowAgainButtonRoles = stored("QVariantList", "dontShowAgainButtonRoles", [])


class ctkExpandButton(QtWidgets.QToolButton):
    """Tool button with two arrows."""


CTK_WIDGETS = {
    widget.__name__: widget
    for widget in (
        ctkCheckBox,
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkComboBox,
        ctkDoubleSlider,
        ctkExpandButton,
        ctkFittedTextBrowser,
        ctkMessageBox,
        ctkPathLineEdit,
        ctkSliderWidget,
    )
}
