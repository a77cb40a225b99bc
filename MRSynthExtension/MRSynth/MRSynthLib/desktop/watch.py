"""Looks out for changes of a scene without keeping anyone alive, and without staying behind."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import slicer
import vtk


def weakly(method: Callable[..., object]) -> Callable[..., None]:
    """Return a function that calls a bound method for as long as its object is alive, and else does nothing."""
    assert isinstance(method, MethodType), "of an object"
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call


def observe(
    observed: vtk.vtkObject,
    event: int | str,
    method: Callable[..., object],
    *,
    with_node: bool = False,
    priority: float = 0.0,
) -> Callable[[], object]:
    """Call a bound method on an event, until the returned function is called or the method's object is gone.

    Parameters
    ----------
    observed : vtkObject
    event : int or str
    method : bound method
        Called with the observed object and the event's name.
    with_node : bool
        Call it also with the node that the event is about.
    priority : float
        Observers of lower priority are called later.
    """
    call = weakly(method)
    if with_node:
        call = vtk.calldata_type(vtk.VTK_OBJECT)(call)
    # Without this, an object that is garbage together with its scene is called once more by the dying scene.
    stop = weakref.finalize(method.__self__, observed.RemoveObserver, observed.AddObserver(event, call, priority))  # type: ignore[attr-defined]
    stop.atexit = False
    return stop


def watch(
    scene: slicer.vtkMRMLScene, closing: Callable[[], object], removed: Callable[[str], object]
) -> Callable[[], object]:
    """Observe a scene until the returned function is called, or the object of the methods is gone.

    Parameters
    ----------
    scene : vtkMRMLScene
    closing : bound method
        Called when the scene is about to be emptied; its nodes are still there.
    removed : bound method of the same object
        Called with the ID of a node that is about to be removed.
    """
    tell_closing, tell_removed = weakly(closing), weakly(removed)

    def on_close(caller: object, event: str) -> None:
        tell_closing()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_remove(caller: object, event: str, node: slicer.vtkMRMLNode) -> None:
        tell_removed(node.GetID())

    tags = [
        scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, on_close),
        scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, on_remove),
    ]
    stop = weakref.finalize(closing.__self__, _stop, scene, tags)  # type: ignore[attr-defined]
    stop.atexit = False  # the scene may be gone before Python
    return stop


def _stop(scene: slicer.vtkMRMLScene, tags: list[int]) -> None:
    for tag in tags:
        scene.RemoveObserver(tag)
