"""The rows of the node selector: which nodes of a real MRML scene it lists, and how it follows the scene.

Rows come and go one by one as in 3D Slicer, so that what is selected after a removal is what 3D Slicer selects.
Rows: "None" if enabled, the nodes in the order of the scene, then the actions.
"""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import signals
from .widgets_ctk import ctkComboBox

__all__ = ["NodeRows"]

_NODE = QtCore.Qt.ItemDataRole.UserRole + 1  # ID of the node of a row
_ACTION = QtCore.Qt.ItemDataRole.UserRole + 2  # "NONE", "CREATE/<type>", "RENAME", "EDIT", "DELETE", "SEPARATOR"


def _stop_observing(observers: list[tuple[Any, int]]) -> None:
    for observed, tag in observers:
        observed.RemoveObserver(tag)
    observers.clear()


class NodeRows(QtWidgets.QWidget):
    """Combo box with the rows of a node selector, and the observers that keep them right."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observers: list[tuple[Any, int]] = []
        self._attributes: dict[str, tuple[str, str | None]] = {}
        self._quiet = False
        self._combo = ctkComboBox(self)
        self._combo.setSizePolicy(*2 * [QtWidgets.QSizePolicy.Policy.Expanding])
        self._combo.setFocusProxy(self)
        self._model = QtGui.QStandardItemModel(self._combo)
        self._combo.setModel(self._model)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.currentIndexChanged.connect(lambda _: self._current_changed())
        self.setEnabled(False)
        observers = self._observers
        self.destroyed.connect(lambda: _stop_observing(observers))

    # Rows

    def _rows(self, action: str = "") -> list[int]:
        """Return the rows of nodes, or those of an action."""
        every = range(self._model.rowCount())
        return [row for row in every if (self._action_of(row).startswith(action) if action else self._id_of(row))]

    def _id_of(self, row: int) -> str:
        return self._model.item(row).data(_NODE) or ""

    def _action_of(self, row: int) -> str:
        return self._model.item(row).data(_ACTION) or ""

    def _item(self, text: str, node_id: str = "", action: str = "") -> QtGui.QStandardItem:
        item = QtGui.QStandardItem(text)
        item.setData(node_id, _NODE)
        item.setData(action, _ACTION)
        return item

    def _first_row(self) -> int:
        return len(self._rows("NONE"))

    def _actions(self) -> list[tuple[str, str]]:
        if self._scene is None:
            return []
        label = self.nodeTypeLabel(self.nodeTypes[0] if len(self.nodeTypes) == 1 else "")
        found = [(f"Rename current {label}", "RENAME")] if self.renameEnabled else []
        found += [(f"Edit current {label}", "EDIT")] if self.editEnabled else []
        for node_type in self.nodeTypes if self.addEnabled else []:
            found.append((f"Create new {self.nodeTypeLabel(node_type)}", f"CREATE/{node_type}"))
            if self.renameEnabled:
                found.append((f"Create new {self.nodeTypeLabel(node_type)} as...", f"CREATE_AS/{node_type}"))
        found += [(f"Delete current {label}", "DELETE")] if self.removeEnabled else []
        return [("", "SEPARATOR"), *found] if found else []

    def _update_extra_rows(self) -> None:
        """Bring "None" and the actions up to date, without touching what is selected."""
        selected = self._selected_id()
        self._quiet = True
        for row in reversed([*self._rows("NONE"), *(r for r in range(self._model.rowCount()) if self._is_action(r))]):
            self._model.removeRow(row)
        if self.noneEnabled and self._scene is not None:
            self._model.insertRow(0, self._item(str(self.noneDisplay), action="NONE"))
        for text, action in self._actions():
            self._model.appendRow(self._item(text, action=action))
        self._combo.setPlaceholderText(f"Select a {self.nodeTypeLabel(self.nodeTypes[0] if self.nodeTypes else '')}")
        self._select(selected)
        self._quiet = False

    def _is_action(self, row: int) -> bool:
        return self._action_of(row) not in ("", "NONE")

    # Nodes

    def _accepts(self, node: Any) -> bool:
        """Return whether a node belongs into the list."""
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
            return False
        for node_type in self.nodeTypes:
            fits = node.IsA(node_type) if self.showChildNodeTypes else node.GetClassName() == node_type
            if fits:
                name, value = self._attributes.get(node_type, ("", None))
                found = node.GetAttribute(name) if name else None
                if not name or (found is not None and value in (None, found)):
                    return True
        return not self.nodeTypes

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in nodes if self._accepts(node)]

    def _refresh(self, *_: Any) -> None:
        """Add and remove the rows of nodes that came into or out of the filter."""
        wanted = [node.GetID() for node in self._nodes()]
        for row in reversed(self._rows()):
            if self._id_of(row) not in wanted:
                self._remove_row(row)
        shown = [self._id_of(row) for row in self._rows()]
        for position, node_id in enumerate(wanted):
            if node_id not in shown:
                self._insert_row(position, node_id)

    def _insert_row(self, position: int, node_id: str) -> None:
        node = self._scene.GetNodeByID(node_id)
        self._model.insertRow(self._first_row() + position, self._item(node.GetName() or "", node_id))
        if self._model.rowCount() == 1 and self._combo.currentIndex() < 0:
            self._combo.setCurrentIndex(0)  # Qt selects the first row of an empty list: no "None", no actions
        signals.emit(self, "nodeAdded(vtkMRMLNode*)", node)

    def _remove_row(self, row: int) -> None:
        """Take a row out; when it was the current one, Qt makes a neighbour current: another node, if there is one."""
        node = self._scene.GetNodeByID(self._id_of(row))
        if node is not None:
            signals.emit(self, "nodeAboutToBeRemoved(vtkMRMLNode*)", node)
        self._model.removeRow(row)
        if self.currentNode() is None:
            self.setCurrentNode(None)

    def _repopulate(self, *_: Any) -> None:
        """Take all nodes out and put them in again, as after closing or importing a scene: nothing stays selected."""
        rows = self._rows()
        if rows:
            self._model.removeRows(rows[0], len(rows))
            if self.currentNode() is None:
                self.setCurrentNode(None)
        self._watch_nodes()
        self._refresh()

    # What the scene says

    def _observe(self) -> None:
        import slicer
        import vtk

        scene = self._scene
        for event, function, priority in (
            (slicer.vtkMRMLScene.NodeAddedEvent, self._node_added, 10.0),
            (slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._node_about_to_be_removed, -10.0),
            (slicer.vtkMRMLScene.EndCloseEvent, self._repopulate, 0.0),
            (slicer.vtkMRMLScene.EndImportEvent, self._repopulate, 0.0),
        ):
            function.__func__.CallDataType = vtk.VTK_OBJECT
            self._observers.append((scene, scene.AddObserver(event, function, priority)))
        self._watch_nodes()

    def _watch_nodes(self) -> None:
        for index in range(self._scene.GetNumberOfNodes()):
            self._watch(self._scene.GetNthNode(index))

    def _watch(self, node: Any) -> None:
        if not any(observed is node for observed, _ in self._observers):
            self._observers.append((node, node.AddObserver("ModifiedEvent", self._node_modified)))

    def _forget(self) -> None:
        _stop_observing(self._observers)

    def _node_added(self, scene: Any, event: str, node: Any = None) -> None:
        if not scene.IsImporting():
            self._watch(node)
            self._refresh()

    def _node_about_to_be_removed(self, scene: Any, event: str, node: Any = None) -> None:
        for entry in [entry for entry in self._observers if entry[0] is node]:
            node.RemoveObserver(entry[1])
            self._observers.remove(entry)
        if not scene.IsClosing():
            for row in self._rows():
                if self._id_of(row) == node.GetID():
                    self._remove_row(row)
                    break

    def _node_modified(self, node: Any, event: str) -> None:
        scene = self._scene
        if scene is None or scene.IsClosing() or scene.IsImporting() or node.GetScene() is None:
            return
        for row in self._rows():
            if self._id_of(row) == node.GetID() and self._model.item(row).text() != node.GetName():
                self._model.item(row).setText(node.GetName() or "")
        if self._accepts(node) != (node.GetID() in [self._id_of(row) for row in self._rows()]):
            self._refresh()

    # What is selected

    def _selected_id(self) -> str:
        row = self._combo.currentIndex()
        return self._id_of(row) if row >= 0 else ""

    def _select(self, node_id: str) -> None:
        rows = [row for row in self._rows() if self._id_of(row) == node_id]
        nothing = 0 if self._rows("NONE") else -1
        self._combo.setCurrentIndex(rows[0] if rows else nothing)

    def _current_changed(self) -> None:
        if self._quiet:
            return
        row = self._combo.currentIndex()
        node = self.currentNode()
        if node is None and row != (0 if self.noneEnabled else -1):
            rows = self._rows()
            if rows:  # the row of an action became current: the last node instead
                self._select(self._id_of(rows[-1]))
            return
        signals.emit(self, "currentNodeChanged(vtkMRMLNode*)", node)
        signals.emit(self, "currentNodeChanged(bool)", node is not None)
        signals.emit(self, "currentNodeIDChanged(QString)", node.GetID() if node is not None else "")
