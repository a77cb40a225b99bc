"""ctkCollapsibleButton and ctkCollapsibleGroupBox: which of their children are seen, and when.

A child that is told to show itself while the parent is collapsed appears when the parent is expanded; one that
was hidden on purpose stays hidden then. The group box has a check mark here where CTK draws an arrow.
"""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from . import signals
from .stored import stored

__all__ = ["ctkCollapsibleButton", "ctkCollapsibleGroupBox"]

_UNLIMITED = 16777215  # QWIDGETSIZE_MAX
_Attribute = QtCore.Qt.WidgetAttribute
_SHOWN = "visibilityToParent"  # CTK's own name: what the child itself was told


class _HidesChildren:
    """Mixed into a widget: its direct children are hidden while it is collapsed."""

    _forcing = False  # the change of a child's visibility under way is ours
    _state_created = False

    def _is_collapsed(self) -> bool:
        raise NotImplementedError

    def _child_widgets(self) -> list[QtWidgets.QWidget]:
        return [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]

    def _bring_child_in_line(self, child: QtWidgets.QWidget) -> None:
        if not self.testAttribute(_Attribute.WA_WState_Created):
            return
        hidden_on_purpose = child.property(_SHOWN) is False
        visible = not self._is_collapsed() and not hidden_on_purpose
        self._forcing = True
        if child.testAttribute(_Attribute.WA_WState_Created) or not visible:
            child.setVisible(visible)
        if not hidden_on_purpose:
            child.setAttribute(_Attribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        child = event.child()
        if event.type() == QtCore.QEvent.Type.ChildAdded and isinstance(child, QtWidgets.QWidget):
            explicit = child.testAttribute(_Attribute.WA_WState_ExplicitShowHide)
            if explicit and child.testAttribute(_Attribute.WA_WState_Hidden):
                child.setProperty(_SHOWN, False)
            child.installEventFilter(self)
            self._bring_child_in_line(child)
        super().childEvent(event)

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False
        if not self._state_created and self.testAttribute(_Attribute.WA_WState_Created):
            self._state_created = True
            for child in self._child_widgets():
                self._bring_child_in_line(child)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self._forcing and event.type() == QtCore.QEvent.Type.ShowToParent:
            child.setProperty(_SHOWN, True)
            self._bring_child_in_line(child)
        elif not self._forcing and event.type() == QtCore.QEvent.Type.HideToParent:
            child.setProperty(_SHOWN, False)
        return False


class ctkCollapsibleButton(_HidesChildren, QtWidgets.QAbstractButton):
    """Header that shows and hides the widgets below it; it is checked while they are shown."""

    def __init__(self, parent: Any = None, more: Any = None) -> None:
        self._collapsed = False
        super().__init__(more if isinstance(parent, str) else parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(parent if isinstance(parent, str) else "")
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._header().height(), 0, 0)
        self._height_before = self.maximumHeight()
        self.toggled.connect(lambda checked: self._collapse(not checked))

    def _is_collapsed(self) -> bool:
        return self._collapsed

    def _header(self) -> QtCore.QSize:
        """Return the size of the header alone."""
        metrics = self.fontMetrics()
        return QtCore.QSize(metrics.horizontalAdvance(self.text()) + 40, metrics.height() + 12)

    def _set_collapsed(self, collapsed: bool) -> None:
        if self.isCheckable():
            self.setChecked(not collapsed)
        else:
            self._collapse(collapsed)

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        if collapsed:
            self._height_before = self.maximumHeight()
        self.setMaximumHeight(self.sizeHint().height() if collapsed else self._height_before)
        for child in self._child_widgets():
            self._bring_child_in_line(child)
        self.updateGeometry()
        signals.emit(self, "contentsCollapsed(bool)", collapsed)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header().height()

    def minimumSizeHint(self) -> QtCore.QSize:
        if self._collapsed:
            return self._header() + QtCore.QSize(0, int(self.collapsedHeight))
        return self._header() if self.layout() is None else super().minimumSizeHint().expandedTo(self._header())

    def sizeHint(self) -> QtCore.QSize:
        header = self._header() + QtCore.QSize(0, int(self.collapsedHeight))
        return header if self._collapsed else super().sizeHint().expandedTo(header)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._header().height())
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, (option.rect.height() - 10) // 2, 10, 10)
        shapes = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(shapes.PE_IndicatorArrowRight if self._collapsed else shapes.PE_IndicatorArrowDown, arrow)
        flags = int(QtCore.Qt.AlignmentFlag.AlignVCenter) | int(QtCore.Qt.TextFlag.TextShowMnemonic)
        painter.drawItemText(option.rect.adjusted(26, 0, -8, 0), flags, option.palette, self.isEnabled(), self.text())

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)
    collapsedHeight = stored(int, "collapsedHeight", 14, lambda self: self.updateGeometry())
    flat = stored(bool, "flat", False, lambda self: self.update())
    contentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsFrameShadow = stored(int, "contentsFrameShadow", 16)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    contentsMidLineWidth = stored(int, "contentsMidLineWidth", 0)
    buttonTextAlignment = stored(int, "buttonTextAlignment", 129)
    indicatorAlignment = stored(int, "indicatorAlignment", 129)


class ctkCollapsibleGroupBox(_HidesChildren, QtWidgets.QGroupBox):
    """Group box whose check mark shows and hides what is inside."""

    def __init__(self, parent: Any = None, more: Any = None) -> None:
        super().__init__(more if isinstance(parent, str) else parent)
        self.setTitle(parent if isinstance(parent, str) else "")
        self.setCheckable(True)
        self.toggled.connect(self._expand)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def _expand(self, expanded: bool) -> None:
        for child in self._child_widgets():
            self._bring_child_in_line(child)
        self.setMaximumHeight(_UNLIMITED if expanded else self.fontMetrics().height() + int(self.collapsedHeight))

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))
    collapsedHeight = stored(int, "collapsedHeight", 14)
