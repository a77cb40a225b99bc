"""Two volumes in the slice views: one over the other to fade and flicker, or side by side; and all back as it was.

Works on the scene alone (layout, slice and slice composite nodes), in 3D Slicer and on slicer-core alike. Nodes are
held by ID, so whatever is deleted meanwhile is simply no longer there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import slicer

from . import views
from .watch import observe

SIDE_BY_SIDE = slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView
# The layout's two rows, by view name: the source above, the synthetic volume below it in the same orientation.
ROWS = (("Red", "Red+"), ("Green", "Green+"), ("Yellow", "Yellow+"))


@dataclass(frozen=True)
class _Layout:
    arrangement: int
    maximized: tuple[str, ...]  # IDs of views that fill the window


class Comparison:
    """A source and the volume synthesized from it (or any other two volumes) in the slice views.

    Parameters
    ----------
    scene : vtkMRMLScene
    source, synthetic : vtkMRMLVolumeNode
        Of the scene. `source` lies below and above on the screen, `synthetic` is laid over it.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        source: slicer.vtkMRMLVolumeNode,
        synthetic: slicer.vtkMRMLVolumeNode,
    ) -> None:
        self._scene = scene
        self._opacity = 1.0
        self._shown = False
        self._layout: _Layout | None = None  # the user's, while the volumes are side by side
        self._users = views.Memory()  # from before the comparison
        self._overlay = views.Memory()  # from before the volumes were put side by side
        self._ours: set[str] = set()
        self._stop: Callable[[], object] | None = None
        self._pair = (source.GetID(), synthetic.GetID())

    def show(self) -> None:
        """Show the synthetic volume over its source in all slice views, linked; the layout stays.

        Views that show neither of the two are moved to the source.
        """
        self._opacity = 1.0
        self._show()

    def choose(self, source: slicer.vtkMRMLVolumeNode, synthetic: slicer.vtkMRMLVolumeNode) -> None:
        """Compare two other volumes, in the way that is on."""
        self._pair = (source.GetID(), synthetic.GetID())
        if self._layout is not None:
            self._fill_rows()
        elif self._shown:
            self._show()

    def side_by_side(self, on: bool) -> None:
        """Show the volumes in two rows of linked slice views, or give back the layout and layers from before."""
        if on and self._layout is None and self._volumes() is not None:
            self._enter_rows()
        elif not on and self._layout is not None:
            self._leave_rows()

    def fade(self, opacity: float) -> None:
        """Show so much of the synthetic volume: 0 (source alone) to 1 (synthetic volume alone).

        While they are side by side, this is only kept for when they no longer are.
        """
        self._opacity = min(max(float(opacity), 0.0), 1.0)
        if self._layout is not None:
            return
        if not self._shown:
            self._show()
        for composite in self._composites():
            if (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == self._pair:
                composite.SetForegroundOpacity(self._opacity)

    def flicker(self) -> None:
        """Show the other one of the two; called again and again, they flicker. Ends side by side."""
        self.side_by_side(False)
        self.fade(0.0 if self._opacity > 0.5 else 1.0)

    def restore(self, *_: object) -> None:
        """Give back the layout, layers, links and positions that the user had before the comparison."""
        self.side_by_side(False)
        self._users.give_back(self._scene, self._ours)
        self._ours.clear()
        self._shown = False
        if self._stop is not None:
            self._stop()
        self._stop = None

    def _volumes(self) -> tuple[slicer.vtkMRMLVolumeNode, slicer.vtkMRMLVolumeNode] | None:
        source, synthetic = (self._scene.GetNodeByID(node_id) for node_id in self._pair)
        return (source, synthetic) if source is not None and synthetic is not None else None

    def _composites(self) -> Iterator[slicer.vtkMRMLSliceCompositeNode]:
        return views.nodes(self._scene, "vtkMRMLSliceCompositeNode")

    def _begin(self) -> None:
        self._ours.update(self._pair)
        if self._stop is None:
            # IDs are used again after a scene was closed: what is remembered must not reach the next one.
            self._stop = observe(self._scene, slicer.vtkMRMLScene.StartCloseEvent, self.restore)

    def _show(self) -> None:
        self.side_by_side(False)
        volumes = self._volumes()
        if volumes is None:
            return
        self._begin()
        self._shown = True
        for composite in self._composites():
            self._users.keep_layers(composite)
            view = views.named(self._scene, "vtkMRMLSliceNode", composite.GetLayoutName())
            if view is not None and not views.shown(composite) & set(self._pair):
                self._users.keep_geometry(view)
                views.fit(view, volumes[0])
            views.set_layers(composite, views.linked(*self._pair, self._opacity))

    def _enter_rows(self) -> None:
        layout = self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if layout is None:
            return
        self._begin()
        self._layout = _layout_of(layout)
        layout.RemoveAllMaximizedViewNodes()
        layout.SetViewArrangement(SIDE_BY_SIDE)
        self._fill_rows()

    def _fill_rows(self) -> None:
        volumes = self._volumes()
        if volumes is None:
            return
        self._begin()
        for names in ROWS:
            first, second = (views.named(self._scene, "vtkMRMLSliceNode", name) for name in names)
            if first is None or second is None:
                continue
            composites = [views.composite_of(view) for view in (first, second)]
            if not views.shown(composites[0]) & set(self._pair):
                self._overlay.keep_geometry(first)
                views.fit(first, volumes[0])
            self._overlay.keep_geometry(second)
            views.align(second, first)
            for composite, volume in zip(composites, volumes, strict=True):
                self._overlay.keep_layers(composite)
                views.set_layers(composite, views.linked(volume.GetID(), None, 0.0))

    def _leave_rows(self) -> None:
        before, self._layout = self._layout, None
        self._overlay.give_back(self._scene, self._ours)
        if self._shown:
            self.fade(self._opacity)  # which may have been changed meanwhile
        layout = self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if before is None or layout is None or layout.GetViewArrangement() != SIDE_BY_SIDE:
            return  # the user has already gone to another layout
        layout.SetViewArrangement(before.arrangement)
        for node_id in before.maximized:
            view = self._scene.GetNodeByID(node_id)
            if view is not None:
                layout.AddMaximizedViewNode(view)


def _layout_of(layout: slicer.vtkMRMLLayoutNode) -> _Layout:
    maximized = (layout.GetMaximizedViewNode(index) for index in range(layout.GetNumberOfMaximizedViewNodes()))
    return _Layout(layout.GetViewArrangement(), tuple(view.GetID() for view in maximized if view is not None))
