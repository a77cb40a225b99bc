"""The node selector of 3D Slicer (qMRMLNodeComboBox) on a real MRML scene, with Qt's own combo box inside.

Rows come and go one by one as in 3D Slicer, so that Qt decides what is selected after a removal, as it does
there. Rows: "None" if enabled, the nodes in the order of the scene, then the actions.
"""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from . import dialogs, signals
from .stored import stored
from .widgets_ctk import ctkComboBox

__all__ = ["qMRMLNodeComboBox"]

_NODE = QtCore.Qt.ItemDataRole.UserRole + 1  # ID of the node of a row
_ACTION = QtCore.Qt.ItemDataRole.UserRole + 2  # "NONE", "CREATE/<type>", "RENAME", "EDIT", "DELETE", "SEPARATOR"


def _stop_observing(observers: list[tuple[Any, int]]) -> None:
    for observed, tag in observers:
        observed.RemoveObserver(tag)
    observers.clear()


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Combo box of the nodes of a scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observers: list[tuple[Any, int]] = []
        self._attributes: dict[str, tuple[str, str | None]] = {}
        self._new_attributes: dict[str, str] = {}
        self._base_names: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._requested = ""
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
        self._combo.activated.connect(self._activated)
        self.setEnabled(False)
        observers = self._observers
        self.destroyed.connect(lambda: _stop_observing(observers))

    # Rows

    def _rows(self, action: str = "") -> list[int]:
        """Return the rows of nodes, or those of an action."""
        found = []
        for row in range(self._model.rowCount()):
            item = self._model.item(row)
            if (item.data(_ACTION) or "").startswith(action) if action else item.data(_NODE):
                found.append(row)
        return found

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
        return (self._model.item(row).data(_ACTION) or "NONE") != "NONE"

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
            if self._model.item(row).data(_NODE) not in wanted:
                self._remove_row(row)
        shown = [self._model.item(row).data(_NODE) for row in self._rows()]
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
        """Take a row out; when it was the current one, the row above becomes current, as with Qt 5."""
        node = self._scene.GetNodeByID(self._model.item(row).data(_NODE))
        if node is not None:
            signals.emit(self, "nodeAboutToBeRemoved(vtkMRMLNode*)", node)
        before = self._combo.currentIndex()
        self._quiet = True
        self._model.removeRow(row)
        if before == row:
            self._combo.setCurrentIndex(row - 1)
        self._quiet = False
        if before == row or self._combo.currentIndex() != before:
            self._current_changed()
        if self.currentNode() is None:
            self.setCurrentNode(None)

    def _repopulate(self, *_: Any) -> None:
        """Take all nodes out and put them in again, as after closing or importing a scene: nothing stays selected."""
        rows = self._rows()
        if rows:
            had_node = bool(self._selected_id())
            self._quiet = True
            self._model.removeRows(rows[0], len(rows))
            self._select("")
            self._quiet = False
            if had_node:
                self._current_changed()
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
                if self._model.item(row).data(_NODE) == node.GetID():
                    self._remove_row(row)
                    break

    def _node_modified(self, node: Any, event: str) -> None:
        scene = self._scene
        if scene is None or scene.IsClosing() or scene.IsImporting() or node.GetScene() is None:
            return
        for row in self._rows():
            if self._model.item(row).data(_NODE) == node.GetID() and self._model.item(row).text() != node.GetName():
                self._model.item(row).setText(node.GetName() or "")
        if self._accepts(node) != (node.GetID() in [self._model.item(row).data(_NODE) for row in self._rows()]):
            self._refresh()

    # What the user and the code select

    def _selected_id(self) -> str:
        row = self._combo.currentIndex()
        return (self._model.item(row).data(_NODE) or "") if row >= 0 else ""

    def _select(self, node_id: str) -> None:
        rows = [row for row in self._rows() if self._model.item(row).data(_NODE) == node_id]
        nothing = 0 if self._rows("NONE") else -1
        self._combo.setCurrentIndex(rows[0] if rows else nothing)

    def _current_changed(self) -> None:
        if self._quiet:
            return
        row = self._combo.currentIndex()
        node = self.currentNode()
        if node is None and row != (0 if self.noneEnabled else -1):
            nodes = self._nodes()
            if nodes:  # the row of an action: the last node instead
                self.setCurrentNode(nodes[-1])
            return
        signals.emit(self, "currentNodeChanged(vtkMRMLNode*)", node)
        signals.emit(self, "currentNodeChanged(bool)", node is not None)
        signals.emit(self, "currentNodeIDChanged(QString)", node.GetID() if node is not None else "")

    def _activated(self, row: int) -> None:
        """Do what a click on a row of the open list does."""
        action = self._model.item(row).data(_ACTION) or ""
        if not action or action == "NONE":
            signals.emit(self, "nodeActivated(vtkMRMLNode*)", self.currentNode())
        elif action.startswith("CREATE"):
            node = self.addNode(action.partition("/")[2])
            if action.startswith("CREATE_AS"):
                node.SetName(dialogs.ask("text", "New name:"))
            self.setCurrentNode(node)
        elif action == "DELETE":
            self.removeCurrentNode()
        elif action == "RENAME":
            self.renameCurrentNode()

    # Slots and invokable methods

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        wanted = self._selected_id() or self._requested
        self._forget()
        self._quiet = True
        self._scene = None
        rows = self._rows()
        if rows:
            self._model.removeRows(rows[0], len(rows))
        self._scene = scene
        self._update_extra_rows()
        self._quiet = True
        if scene is not None:
            self._observe()
            self._refresh()
        self._quiet = False
        self.setCurrentNodeID(wanted or self._selected_id())
        self._requested = ""
        self.setEnabled(scene is not None)

    def currentNode(self) -> Any:
        node_id = self._selected_id()
        return self._scene.GetNodeByID(node_id) if node_id and self._scene is not None else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else "" if node is None else node.GetID())

    def setCurrentNodeID(self, node_id: str) -> None:
        if self._scene is None:
            self._requested = node_id or ""
        self._select(node_id or "")

    def setCurrentNodeIndex(self, index: int) -> None:
        rows = self._rows()
        self._combo.setCurrentIndex(rows[index] if 0 <= index < len(rows) else 0 if self.noneEnabled else -1)

    def nodeCount(self) -> int:
        return len(self._rows()) if self._scene is not None else 0

    def nodeFromIndex(self, index: int) -> Any:
        rows = self._rows()
        found = self._model.item(rows[index]).data(_NODE) if 0 <= index < len(rows) else ""
        return self._scene.GetNodeByID(found) if found else None

    def addNode(self, node_type: str | None = None) -> Any:
        types = self.nodeTypes
        if not types or self._scene is None or node_type not in (None, *types):
            return None
        node = self._scene.CreateNodeByClass(node_type or types[0])
        node.UnRegister(None)
        base_name = self._base_names.get(node_type or types[0], "") or node.GetName() or node.GetDefaultNodeNamePrefix()
        node.SetName(self._scene.GetUniqueNameByString(base_name))
        for name, value in self._new_attributes.items():
            node.SetAttribute(name, value)
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        signals.emit(self, "nodeAddedByUser(vtkMRMLNode*)", node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = dialogs.ask("text", "New name:", title="Rename") if node is not None else None
        if name:
            node.SetName(name)
            signals.emit(self, "currentNodeRenamed(QString)", name)

    def editCurrentNode(self) -> None:
        signals.emit(self, "nodeAboutToBeEdited(vtkMRMLNode*)", self.currentNode())

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Filter by an attribute: one per node type, and only for types in `nodeTypes`, as in 3D Slicer."""
        self._new_attributes[name] = "" if value is None else str(value)
        if node_type in self.nodeTypes:
            self._attributes[node_type] = (name, None if value is None else str(value))
            self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._new_attributes.pop(name, None)
        if self._attributes.get(node_type, ("",))[0] == name:
            del self._attributes[node_type]
            self._refresh()

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label
        self._update_extra_rows()

    def nodeTypeLabel(self, node_type: str) -> str:
        if self._labels.get(node_type):
            return self._labels[node_type]
        return (self._scene.GetTypeDisplayNameByClassName(node_type) if self._scene is not None else "") or "node"

    # Properties

    def _set_base_name(self, name: str) -> None:
        if not self.nodeTypes:
            QtCore.qWarning("qMRMLNodeComboBox::setBaseName failed: no node types have been set yet")
        self._base_names.update(dict.fromkeys(self.nodeTypes, name))

    def _set_node_types(self, types: Any) -> None:
        self._node_types = [name for name in types if name]
        self._refresh()
        self._update_extra_rows()

    _node_types: list[str] = []  # noqa: RUF012
    nodeTypes = Property("QStringList", lambda self: list(self._node_types), _set_node_types)
    baseName = Property(str, lambda self: self._base_names.get(next(iter(self._node_types), ""), ""), _set_base_name)
    currentNodeID = Property(str, lambda self: self._selected_id(), setCurrentNodeID)
    currentNodeId = Property(str, lambda self: self._selected_id(), setCurrentNodeID)
    noneEnabled = stored(bool, "noneEnabled", False, _update_extra_rows)
    noneDisplay = stored(str, "noneDisplay", "None", _update_extra_rows)
    addEnabled = stored(bool, "addEnabled", True, _update_extra_rows)
    removeEnabled = stored(bool, "removeEnabled", True, _update_extra_rows)
    editEnabled = stored(bool, "editEnabled", False, _update_extra_rows)
    renameEnabled = stored(bool, "renameEnabled", False, _update_extra_rows)
    showHidden = stored(bool, "showHidden", False, _refresh)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, _refresh)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", (), _refresh)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "Singleton")
    sizeAdjustPolicy = Property(
        int,
        lambda self: self._combo.sizeAdjustPolicy().value,
        lambda self, policy: self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy(policy)),
    )
