"""The node selector of 3D Slicer (qMRMLNodeComboBox): what Python code can do with it."""
# ruff: noqa: N801, N802, N815 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property

from . import dialogs, signals
from .node_rows import NodeRows
from .stored import stored

__all__ = ["qMRMLNodeComboBox"]


class qMRMLNodeComboBox(NodeRows):
    """Combo box of the nodes of a scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._new_attributes: dict[str, str] = {}
        self._base_names: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._requested = ""
        self._combo.activated.connect(self._activated)

    def _activated(self, row: int) -> None:
        """Do what a click on a row of the open list does."""
        action = self._action_of(row)
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
        found = self._id_of(rows[index]) if 0 <= index < len(rows) else ""
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
    noneEnabled = stored(bool, "noneEnabled", False, NodeRows._update_extra_rows)
    noneDisplay = stored(str, "noneDisplay", "None", NodeRows._update_extra_rows)
    addEnabled = stored(bool, "addEnabled", True, NodeRows._update_extra_rows)
    removeEnabled = stored(bool, "removeEnabled", True, NodeRows._update_extra_rows)
    editEnabled = stored(bool, "editEnabled", False, NodeRows._update_extra_rows)
    renameEnabled = stored(bool, "renameEnabled", False, NodeRows._update_extra_rows)
    showHidden = stored(bool, "showHidden", False, NodeRows._refresh)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, NodeRows._refresh)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", (), NodeRows._refresh)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "Singleton")
    sizeAdjustPolicy = Property(
        int,
        lambda self: self._combo.sizeAdjustPolicy().value,
        lambda self, policy: self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy(policy)),
    )
