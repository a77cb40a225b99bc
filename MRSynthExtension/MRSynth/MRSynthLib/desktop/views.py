"""Slice views as nodes: what they show and where they look, set, and given back as it was.

A view is three nodes of the same layout name ("Red"): a slice node (where it looks), a slice composite node (what it
shows), and widgets that only 3D Slicer has and nothing here needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import slicer
import vtk


@dataclass(frozen=True)
class Layers:
    """What a slice view shows, and whether it moves together with others; label maps are nobody's business here."""

    background: str | None
    foreground: str | None
    opacity: float
    compositing: int
    linked: int
    hot_linked: int


@dataclass(frozen=True)
class Geometry:
    """Where a slice view looks."""

    slice_to_ras: vtk.vtkMatrix4x4
    field_of_view: tuple[float, float, float]
    origin: tuple[float, float, float]
    group: int


@dataclass
class Memory:
    """What slice views were like before they were first changed; by node ID."""

    layers: dict[str, Layers] = field(default_factory=dict)
    geometry: dict[str, Geometry] = field(default_factory=dict)

    def keep_layers(self, composite: slicer.vtkMRMLSliceCompositeNode) -> None:
        """Remember what a view shows, unless it is remembered already."""
        self.layers.setdefault(composite.GetID(), layers_of(composite))

    def keep_geometry(self, view: slicer.vtkMRMLSliceNode) -> None:
        """Remember where a view looks, unless it is remembered already."""
        self.geometry.setdefault(view.GetID(), geometry_of(view))

    def give_back(self, scene: slicer.vtkMRMLScene, ours: set[str]) -> None:
        """Undo and forget; a view in which the user has meanwhile chosen a volume that is not `ours` is left alone."""
        for node_id, layers in self.layers.items():
            composite = scene.GetNodeByID(node_id)
            if composite is not None and shown(composite) <= ours:
                set_layers(composite, layers)
        for node_id, geometry in self.geometry.items():
            view = scene.GetNodeByID(node_id)
            if view is not None:
                set_geometry(view, geometry)
        self.layers.clear()
        self.geometry.clear()


def fit(view: slicer.vtkMRMLSliceNode, volume: slicer.vtkMRMLVolumeNode) -> None:
    """Let a slice view show the whole of a volume, cut through its middle voxel.

    Parameters
    ----------
    view : vtkMRMLSliceNode
        Keeps its orientation.
    volume : vtkMRMLVolumeNode
        Under any parent transform; without voxels nothing is done.
    """
    image = volume.GetImageData()
    if image is None:
        return
    slice_to_ras = view.GetSliceToRAS()
    ras_to_slice = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(slice_to_ras, ras_to_slice)
    bounds = [0.0] * 6
    volume.GetSliceBounds(bounds, ras_to_slice)
    columns, rows, _slices = view.GetDimensions()
    pixel = max((bounds[1] - bounds[0]) / columns, (bounds[3] - bounds[2]) / rows)  # mm
    ijk_to_ras = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(ijk_to_ras)
    middle = ijk_to_ras.MultiplyPoint((*(size // 2 for size in image.GetDimensions()), 1.0))[:3]
    world = [0.0, 0.0, 0.0]
    volume.TransformPointToWorld(middle, world)
    # The depth is that of a voxel's centre, so that the plane does not run between two slices.
    depth = ras_to_slice.MultiplyPoint((*world, 1.0))[2]
    origin = ((bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, depth, 1.0)
    center = slice_to_ras.MultiplyPoint(origin)
    with slicer.util.NodeModify(view):
        view.SetFieldOfView(pixel * columns, pixel * rows, view.GetFieldOfView()[2])
        view.SetXYZOrigin(0.0, 0.0, 0.0)
        for axis in range(3):
            slice_to_ras.SetElement(axis, 3, center[axis])
        view.UpdateMatrices()


def nodes(scene: slicer.vtkMRMLScene, kind: str) -> Iterator[slicer.vtkMRMLNode]:
    """All nodes of a class."""
    for index in range(scene.GetNumberOfNodesByClass(kind)):
        yield scene.GetNthNodeByClass(index, kind)


def named(scene: slicer.vtkMRMLScene, kind: str, view_name: str) -> slicer.vtkMRMLNode | None:
    """The slice node or slice composite node of a view, by the name of the view."""
    return next((node for node in nodes(scene, kind) if node.GetLayoutName() == view_name), None)


def align(view: slicer.vtkMRMLSliceNode, other: slicer.vtkMRMLSliceNode) -> None:
    """Let a view show the same part of the same plane as another one, and move together with it."""
    columns, rows, _slices = view.GetDimensions()
    height = other.GetFieldOfView()[1]
    with slicer.util.NodeModify(view):
        view.GetSliceToRAS().DeepCopy(other.GetSliceToRAS())
        # Height, not width: that is what a view keeps when its window is given another shape.
        view.SetFieldOfView(height * columns / rows, height, view.GetFieldOfView()[2])
        view.SetXYZOrigin(*other.GetXYZOrigin())
        # Only views of one group are linked, and the layout puts its rows into two.
        view.SetViewGroup(other.GetViewGroup())
        view.UpdateMatrices()


def composite_of(view: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceCompositeNode:
    """The composite node of a view, made if the view is so new that it has none yet."""
    scene = view.GetScene()
    composite = named(scene, "vtkMRMLSliceCompositeNode", view.GetLayoutName())
    if composite is None:
        composite = scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
        composite.UnRegister(None)
        composite.SetLayoutName(view.GetLayoutName())
        composite = scene.AddNode(composite)
    return composite


def shown(composite: slicer.vtkMRMLSliceCompositeNode) -> set[str]:
    """The IDs of the volumes in the background and in the foreground."""
    layers = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    return {node_id for node_id in layers if node_id}


def linked(background: str, foreground: str | None, opacity: float) -> Layers:
    """Layers that are blended by opacity, in a view that moves, and is faded, together with the others."""
    alpha = slicer.vtkMRMLSliceCompositeNode.Alpha
    return Layers(background, foreground, opacity, alpha, linked=1, hot_linked=1)


def layers_of(composite: slicer.vtkMRMLSliceCompositeNode) -> Layers:
    """What a view shows."""
    return Layers(
        background=composite.GetBackgroundVolumeID(),
        foreground=composite.GetForegroundVolumeID(),
        opacity=composite.GetForegroundOpacity(),
        compositing=composite.GetCompositing(),
        linked=composite.GetLinkedControl(),
        hot_linked=composite.GetHotLinkedControl(),
    )


def set_layers(composite: slicer.vtkMRMLSliceCompositeNode, layers: Layers) -> None:
    """Let a view show this; a volume that is no longer in the scene is left out."""
    scene = composite.GetScene()
    volumes = (layers.background, layers.foreground)
    background, foreground = (node_id if node_id and scene.GetNodeByID(node_id) else None for node_id in volumes)
    with slicer.util.NodeModify(composite):
        composite.SetBackgroundVolumeID(background)
        composite.SetForegroundVolumeID(foreground)
        composite.SetForegroundOpacity(layers.opacity)
        composite.SetCompositing(layers.compositing)
        composite.SetLinkedControl(layers.linked)
        composite.SetHotLinkedControl(layers.hot_linked)


def geometry_of(view: slicer.vtkMRMLSliceNode) -> Geometry:
    """Where a view looks."""
    slice_to_ras = vtk.vtkMatrix4x4()
    slice_to_ras.DeepCopy(view.GetSliceToRAS())
    return Geometry(slice_to_ras, tuple(view.GetFieldOfView()), tuple(view.GetXYZOrigin()), view.GetViewGroup())


def set_geometry(view: slicer.vtkMRMLSliceNode, geometry: Geometry) -> None:
    """Let a view look there."""
    with slicer.util.NodeModify(view):
        view.GetSliceToRAS().DeepCopy(geometry.slice_to_ras)
        view.SetFieldOfView(*geometry.field_of_view)
        view.SetXYZOrigin(*geometry.origin)
        view.SetViewGroup(geometry.group)
        view.UpdateMatrices()
