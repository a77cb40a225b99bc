"""The mark in the corner of every slice view that shows something synthetic, whoever put it there.

What to write where is decided on the scene alone (`Marks`); `slicer_annotator` writes it into the slice views of
3D Slicer. The mark is drawn by VTK inside the view, so that screenshots show it; nothing of it is saved with a scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import slicer
import vtk

from . import views
from .watch import observe
from .words import _

MARK = "Mark"  # the attribute MRSynth.Mark is what to write where "SYNTHETIC T2" would say too little
OUTDATED = _(" [outdated]")  # what follows the name of a map or table of a result that is there no more
CORNER = (0.985, 0.985)  # of the view; the others are used by 3D Slicer for volume names, rulers and markers
HEIGHT = 0.033  # of the letters, over the shorter side of the view
SMALLEST, LARGEST = 12, 22  # points
LETTERS = (1.0, 176 / 255, 0.0)  # red, green, blue; as in the figures
BOX = (0.08, 0.08, 0.08)
_LATE = -1.0  # below the priority of 3D Slicer's own observers, so that views which they make are there already

_KINDS = ("vtkMRMLSliceCompositeNode", "vtkMRMLLayoutNode", "vtkMRMLVolumeNode")

Annotate = Callable[[str, str], None]


def target_of(node: slicer.vtkMRMLNode) -> str:
    """The contrast that was synthesized, with a space before it: " T2"; empty where the node does not say it."""
    direction = node.GetAttribute("MRSynth.Direction") or ""
    _source, found, target = direction.partition(" to ")
    return f" {target}" if found else ""


def mark_of(node: slicer.vtkMRMLNode | None) -> str:
    """What must be written over the pictures of a node: "SYNTHETIC T2", or nothing.

    In no language but this one, as in DICOM series descriptions.
    """
    if node is None or not node.GetAttribute("MRSynth.Synthetic"):
        return ""
    return node.GetAttribute(f"MRSynth.{MARK}") or f"SYNTHETIC{target_of(node)}"


def outdate(node: slicer.vtkMRMLNode) -> None:
    """Say in the name of a map or table, and over the views, that the result which it tells about was replaced."""
    node.SetName(node.GetName().removesuffix(OUTDATED) + OUTDATED)
    if node.IsA("vtkMRMLVolumeNode"):
        node.SetAttribute(f"MRSynth.{MARK}", "OUTDATED MAP")


def shown_synthetic(composite: slicer.vtkMRMLSliceCompositeNode) -> str:
    """What must be written over a slice view.

    Parameters
    ----------
    composite : vtkMRMLSliceCompositeNode

    Returns
    -------
    str
        The marks of all visible volumes, the topmost first, one per line; empty where all were acquired. A background
        counts as visible under a foreground of any opacity, for it shows wherever that one ends.
    """
    marks = [mark_of(volume) for volume in _visible(composite)]
    return "\n".join(dict.fromkeys(mark for mark in marks if mark))


def _visible(composite: slicer.vtkMRMLSliceCompositeNode) -> Iterator[slicer.vtkMRMLVolumeNode]:
    first_extra = composite.Layer_Last
    extra = range(first_extra, first_extra + composite.GetNumberOfAdditionalLayers())
    blended = composite.GetCompositing() != composite.Alpha  # then opacity is not the foreground's alone
    for layer in (composite.LayerLabel, *reversed(extra), composite.LayerForeground):
        if composite.GetNthLayerOpacity(layer) > 0 or (blended and layer != composite.LayerLabel):
            yield composite.GetNthLayerVolume(layer)
    yield composite.GetNthLayerVolume(composite.LayerBackground)


class Marks:
    """Keeps the marks of all slice views of a scene right, whatever is shown, loaded or removed, while it is held.

    Parameters
    ----------
    scene : vtkMRMLScene
    annotate : callable
        Gets the name of a view ("Red") and what to write over it, or "" for nothing. May be called again with what is
        written there already.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, annotate: Annotate) -> None:
        self.scene = scene
        self._annotate = annotate
        self._marked: set[str] = set()
        self._watched: dict[Any, Callable[[], object]] = {}  # node: what ends it
        self._scene_stops = [
            observe(scene, event, self._on_node, with_node=True, priority=_LATE)
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent)
        ]
        self._scene_stops += [
            observe(scene, event, self.update, priority=_LATE)
            for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndRestoreEvent, scene.EndBatchProcessEvent)
        ]
        self.update()

    def update(self, *_: object) -> None:
        """Look at all views again."""
        composites = list(views.nodes(self.scene, "vtkMRMLSliceCompositeNode"))
        self._watch(composites)
        texts = {composite.GetLayoutName(): shown_synthetic(composite) for composite in composites}
        for view in self._marked - texts.keys():
            self._annotate(view, "")
        for view, text in texts.items():
            if text or view in self._marked:
                self._annotate(view, text)
        self._marked = {view for view, text in texts.items() if text}

    def remove(self) -> None:
        """Take all marks away and observe nothing any more."""
        for stop in (*self._scene_stops, *self._watched.values()):
            stop()
        for view in self._marked:
            self._annotate(view, "")
        self._scene_stops.clear()
        self._watched.clear()
        self._marked.clear()

    def _watch(self, composites: list[slicer.vtkMRMLSliceCompositeNode]) -> None:
        """Observe the views, what they show, and the layout, which makes views that were hidden."""
        nodes = {node for composite in composites for node in (composite, *_visible(composite)) if node is not None}
        nodes.update(filter(None, [self.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")]))
        for node in self._watched.keys() - nodes:
            self._watched.pop(node)()
        for node in nodes - self._watched.keys():
            self._watched[node] = observe(node, vtk.vtkCommand.ModifiedEvent, self.update, priority=_LATE)

    def _on_node(self, _caller: object, _event: str, node: slicer.vtkMRMLNode) -> None:
        if any(node.IsA(kind) for kind in _KINDS):
            self.update()


_running: Marks | None = None


def start() -> None:
    """Mark the slice views of 3D Slicer from now on, in every module; once for a scene, however often it is called."""
    global _running
    if _running is not None and _running.scene is slicer.mrmlScene:
        return
    stop()
    _running = Marks(slicer.mrmlScene, slicer_annotator())


def stop() -> None:
    """Take the marks away again, as at the end of the application."""
    global _running
    if _running is not None:
        _running.remove()
    _running = None


def slicer_annotator() -> Annotate:
    """Return what writes marks into the slice views of 3D Slicer.

    The corner annotations that a slice view has are not used: the Data Probe module writes all four of them anew
    whenever the view changes.
    """
    drawn: dict[str, DrawnMark] = {}

    def annotate(view_name: str, text: str) -> None:
        application = getattr(slicer, "app", None)
        manager = application.layoutManager() if application is not None else None
        widget = manager.sliceWidget(view_name) if manager is not None else None
        if widget is None:  # a view that was never shown: the layout node tells when it is
            return
        view = widget.sliceView()
        renderer = overlay_renderer(view.renderWindow())
        mark = drawn.get(view_name)
        if mark is not None and not renderer.HasViewProp(mark.actor):  # the view was made anew
            mark = None
        if (mark.actor.GetInput() if mark is not None else "") == text:
            return
        if mark is None:
            mark = drawn[view_name] = DrawnMark(renderer)
        if text:
            mark.actor.SetInput(text)
        else:
            drawn.pop(view_name).remove(renderer)
        view.scheduleRender()

    return annotate


def overlay_renderer(window: vtk.vtkRenderWindow) -> vtk.vtkRenderer:
    """The renderer that draws over a slice view's picture and all that lies on it, or the only one that there is."""
    renderers = window.GetRenderers()
    found = [renderers.GetItemAsObject(index) for index in range(renderers.GetNumberOfItems())]
    return next((renderer for renderer in found if renderer.GetLayer() > 0), found[0])


class DrawnMark:
    """Bright letters on a dark box in a corner of a renderer: readable on any picture, as large as the view allows.

    Holds no reference to the renderer, which is the view's.

    Parameters
    ----------
    renderer : vtkRenderer

    Attributes
    ----------
    actor : vtkTextActor
    """

    def __init__(self, renderer: vtk.vtkRenderer) -> None:
        self.actor = vtk.vtkTextActor()
        style = self.actor.GetTextProperty()
        style.SetFontFamilyToArial()
        style.BoldOn()
        style.SetColor(*LETTERS)
        style.SetBackgroundColor(*BOX)
        style.SetBackgroundOpacity(0.85)
        style.FrameOn()  # of the box's colour: room between letters and border
        style.SetFrameColor(*BOX)
        style.SetFrameWidth(3)
        style.SetJustificationToRight()
        style.SetVerticalJustificationToTop()
        self.actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        self.actor.SetPosition(*CORNER)

        def fit(renderer: vtk.vtkRenderer, _event: str) -> None:
            points = 72 / renderer.GetRenderWindow().GetDPI()
            size = round(HEIGHT * min(renderer.GetSize()) * points)
            style.SetFontSize(min(max(size, SMALLEST), LARGEST))

        renderer.AddViewProp(self.actor)
        self._tag = renderer.AddObserver(vtk.vtkCommand.StartEvent, fit)

    def remove(self, renderer: vtk.vtkRenderer) -> None:
        """Take the mark out of its renderer."""
        renderer.RemoveObserver(self._tag)
        renderer.RemoveViewProp(self.actor)
