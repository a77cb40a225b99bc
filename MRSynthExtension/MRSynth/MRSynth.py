"""MRSynth in 3D Slicer: the missing T1- or T2-weighted volume of a brain, from a panel or the Python console.

    from MRSynth import MRSynthLogic
    t2 = MRSynthLogic().synthesize(slicer.util.getNode("MRHead"))

The file is thin: what it does lies in `MRSynthLib.desktop`, and the synthesis itself in `MRSynthLib.engine`.
"""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import VTKObservationMixin

from MRSynthLib.desktop import background, results, runner, warm
from MRSynthLib.desktop.state import RunState
from MRSynthLib.desktop.words import _
from MRSynthLib.engine.errors import MRSynthError

try:
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
except ImportError:
    # slicer-core (real MRML without the application) has no scripted modules; the logic needs nothing of
    # them.
    ScriptedLoadableModule = ScriptedLoadableModuleLogic = ScriptedLoadableModuleWidget = object
    ScriptedLoadableModuleTest = unittest.TestCase


class MRSynth(ScriptedLoadableModule):
    """What 3D Slicer shows about the module."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("MRSynth")
        parent.categories = [_("Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["The MRSynth developers"]
        parent.helpText = _(
            "Synthesizes the missing T1- or T2-weighted volume of a brain from the other one. "
            "Research only, not for diagnosis: a synthetic volume may hide or invent lesions."
        )
        parent.acknowledgementText = _(
            "After Fu et al., MR image generation method based on dense connection self-inverse generative "
            "adversarial network."
        )
        slicer.app.connect("startupCompleted()", self._onStartupCompleted)
        slicer.app.connect("aboutToQuit()", self._onAboutToQuit)

    def _onStartupCompleted(self) -> None:
        """Offer the sample data, and mark synthetic volumes in the slice views of every module."""
        from MRSynthLib.desktop import marks, samples

        samples.register()
        marks.start()

    def _onAboutToQuit(self) -> None:
        """Take the marks out of the views while these are still there."""
        from MRSynthLib.desktop import marks

        marks.stop()


class MRSynthWidget(ScriptedLoadableModuleWidget):
    """The module's panel: loads MRSynth.ui, and hands everything else to `MRSynthLib.desktop.panel`."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: Any = None
        self.panel: Any = None
        self._observers = VTKObservationMixin()
        super().__init__(parent)  # calls setup() where there is no parent

    def setup(self) -> None:
        """Make the panel."""
        super().setup()
        # Imported here, because the panel needs the application, which slicer-core is not.
        from MRSynthLib.desktop import marks
        from MRSynthLib.desktop.panel import Panel

        form = slicer.util.loadUI(self.resourcePath("UI/MRSynth.ui"))
        self.layout.addWidget(form)
        form.setMRMLScene(slicer.mrmlScene)
        self.logic = MRSynthLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(form), self.logic, lambda: bool(self.parent.isEntered))
        marks.start()  # again, for a module that was loaded after the application had started
        scene = slicer.mrmlScene
        self._observers.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self._observers.addObserver(scene, scene.EndCloseEvent, self._onSceneChanged)
        self._observers.addObserver(scene, scene.EndImportEvent, self._onSceneChanged)
        self._attach()

    def enter(self) -> None:
        """The user opens the module."""
        self._attach()
        self.panel.enter()

    def exit(self) -> None:
        """The user opens another module; a run goes on."""
        self.panel.leave()

    def cleanup(self) -> None:
        """The module is reloaded, or the application ends."""
        self._observers.removeObservers()
        if self.panel is not None:
            self.panel.close()

    def _attach(self) -> None:
        self.panel.attach(self.logic.getParameterNode())

    def _onSceneStartClose(self, caller: Any, event: str) -> None:
        self.panel.attach(None)

    def _onSceneChanged(self, caller: Any, event: str) -> None:
        if self.parent.isEntered:  # else it is attached when it is entered
            self._attach()


class MRSynthLogic(ScriptedLoadableModuleLogic):
    """The module's work, without any GUI.

    Parameters
    ----------
    worker : callable, optional
        Makes what computes a run; by default a child process (`MRSynthLib.desktop.runner.WorkerRun`).
    keepWorker : bool, optional
        Whether that process stays for the next run, which then begins at once. By default so in 3D Slicer, unless that
        was started for tests. It ends after five minutes without a run, when memory runs low, with the panel, with
        3D Slicer, and by `releaseWorker`.
    """

    def __init__(self, worker: Callable[..., background.Worker] | None = None, keepWorker: bool | None = None) -> None:
        super().__init__()
        if keepWorker is None:
            application = getattr(slicer, "app", None)
            keepWorker = application is not None and not application.testingEnabled()
        self._worker = worker or (
            functools.partial(runner.WorkerRun, keep_warm=True) if keepWorker else runner.WorkerRun
        )

    @staticmethod
    def releaseWorker() -> None:
        """End the process that waits for the next run, if there is one; a run under way goes on."""
        warm.release()

    def start(
        self,
        inputNode: slicer.vtkMRMLScalarVolumeNode,
        outputNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        target: str | None = None,
        maskNode: slicer.vtkMRMLNode | None = None,
        model: str | None = None,
        device: str = "auto",
        reliability: bool = False,
        cycleNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        like: slicer.vtkMRMLScalarVolumeNode | None = None,
        planes: str = "axial",
        force: bool = False,
        onProgress: Callable[[background.RunProgress], object] | None = None,
        onFinished: Callable[[slicer.vtkMRMLScalarVolumeNode], object] | None = None,
        onError: Callable[[MRSynthError], object] | None = None,
    ) -> background.BackgroundRun:
        """Synthesize the other contrast of a brain volume in the background; returns at once.

        Parameters
        ----------
        inputNode, outputNode, target, maskNode, model, device, reliability, cycleNode, like, planes, force
            As in `synthesize`.
        onProgress : callable, optional
            Called with a `RunProgress`: state, stage, fraction (0 to 1), seconds_left, message (a warning, or "").
        onFinished : callable, optional
            Called with the result node.
        onError : callable, optional
            Called with an `MRSynthError` that holds code, cause and remedy, also of a wrong input; with `Cancelled`
            when the run was cancelled. One of `onFinished` and `onError` is called, once, in the main thread.

        Returns
        -------
        BackgroundRun
            With `cancel()`, `wait()`, `state` and `ended`. In 3D Slicer a timer drives it; elsewhere call `poll()` now
            and then.

        Raises
        ------
        DeviceError
            run-in-progress: one run at a time.
        """
        return background.BackgroundRun(
            inputNode,
            outputNode,
            mask_node=maskNode,
            cycle_node=cycleNode,
            like_node=like,
            target=target,
            model=model,
            device=device,
            reliability=reliability,
            planes=planes,
            force=force,
            worker=self._worker,
            on_progress=onProgress,
            on_finished=onFinished,
            on_error=onError,
        )

    def getParameterNode(self) -> Any:
        """Return the panel's choices in this scene, as an `MRSynthParameterNode`; 3D Slicer only."""
        from MRSynthLib.desktop.parameters import MRSynthParameterNode

        wrapper: Any = MRSynthParameterNode  # made by a decorator that has no types
        return wrapper(super().getParameterNode())

    def synthesize(
        self,
        inputNode: slicer.vtkMRMLScalarVolumeNode,
        outputNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        target: str | None = None,
        maskNode: slicer.vtkMRMLNode | None = None,
        model: str | None = None,
        device: str = "auto",
        reliability: bool = False,
        cycleNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        like: slicer.vtkMRMLScalarVolumeNode | None = None,
        planes: str = "axial",
        force: bool = False,
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """Synthesize the other contrast of a brain volume; returns when it is done.

        Parameters
        ----------
        inputNode : vtkMRMLScalarVolumeNode
            T1- or T2-weighted brain, whole head or skull-stripped. Not changed.
        outputNode : vtkMRMLScalarVolumeNode, optional
            Takes the result and keeps its name: an empty node or a former result. Without, a new node
            "<input> [synthetic T2]" is made.
        target : {"t1", "t2"}, optional
            The contrast to make; without, the other one than the input's, which is recognised.
        maskNode : vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode or vtkMRMLScalarVolumeNode, optional
            Brain mask on any grid; the result is 0 outside.
        model : str, optional
            Name or path of a checkpoint; without, the shipped one.
        device : {"auto", "cpu", "cuda", "mps"}
            Where to compute.
        reliability : bool
            Also estimate the error: two more nodes, which the result refers to as "MRSynthReliability" (expected
            absolute error) and "MRSynthInterval" (half the width of its 90 % interval), in output units. Needs a
            checkpoint that was calibrated for it.
        cycleNode : vtkMRMLScalarVolumeNode, optional
            Takes the cycle difference, which is how far the volume synthesized back from the result is from
            the input, in output units (1000 = the 99.5th percentile of brain). Doubles the time.
        like : vtkMRMLScalarVolumeNode, optional
            A volume of the contrast to make, from the same scanner or patient: the result gets its brightness. It
            may lie on any grid; nothing of its anatomy is used.
        planes : {"axial", "three"}
            "three": the mean of axial, coronal and sagittal passes, for isotropic input; three times the work.
        force : bool
            Go on although the screening refuses the input.

        Returns
        -------
        vtkMRMLScalarVolumeNode
            int16 on the input's grid and under its parent transform; 1000 is the 99.5th percentile of brain,
            0 is background. What it was made by stands in its "MRSynth.…" attributes, the input in the node
            reference "MRSynthSource".

        Raises
        ------
        MRSynthError
            With code, cause and remedy; the scene is then as it was.
        """
        run = self.start(
            *(inputNode, outputNode, target, maskNode, model, device, reliability, cycleNode, like, planes, force)
        )
        return run.wait()


class MRSynthTest(ScriptedLoadableModuleTest):
    """Self-test: the shipped checkpoint on a computed head, through the logic and its background process."""

    def setUp(self) -> None:
        """Begin with an empty scene, and without a run that an earlier failure may have left."""
        left = background.active()
        if left is not None:
            left.cancel()
        slicer.mrmlScene.Clear()

    def tearDown(self) -> None:
        """Leave no process behind."""
        MRSynthLogic.releaseWorker()

    def runTest(self) -> None:
        """Run all, as 3D Slicer's "Reload and Test" does."""
        for test in (self.test_t1_to_t2, self.test_t2_to_t1_in_the_background, self.test_cancel):
            self.setUp()
            try:
                test()
            finally:
                self.tearDown()

    def test_t1_to_t2(self) -> None:
        """A T1, recognised as such, becomes a T2."""
        source, head = self._computedHead("T1")
        before = slicer.util.arrayFromVolume(source).copy()
        result = MRSynthLogic().synthesize(source, device="cpu")
        self._check(source, head, before, result, "T1 to T2")

    def test_t2_to_t1_in_the_background(self) -> None:
        """A T2 becomes a T1 in a node that is given, with progress, and the callers are told once."""
        source, head = self._computedHead("T2")
        before = slicer.util.arrayFromVolume(source).copy()
        output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Computed T2 [synthetic T1]")
        progress: list[background.RunProgress] = []
        finished: list[Any] = []
        errors: list[MRSynthError] = []
        run = MRSynthLogic().start(
            source,
            output,
            device="cpu",
            onProgress=progress.append,
            onFinished=finished.append,
            onError=errors.append,
        )
        self.assertIs(background.active(), run)
        while not run.poll(timeout=0.1):
            pass
        self.assertEqual(errors, [])
        self.assertEqual(finished, [output])
        self.assertIsNone(background.active())
        fractions = [each.fraction for each in progress]
        self.assertEqual(fractions, sorted(fractions))
        self.assertEqual(fractions[-1], 1)
        self._check(source, head, before, output, "T2 to T1")

    def test_cancel(self) -> None:
        """A run that is cancelled while it works is over at once, says so, and leaves nothing."""
        source, _head = self._computedHead("T1")
        before = slicer.util.arrayFromVolume(source).copy()
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        finished: list[Any] = []
        errors: list[MRSynthError] = []
        run = MRSynthLogic().start(source, device="cpu", onFinished=finished.append, onError=errors.append)
        run.poll()
        self.assertIs(run.state, RunState.RUNNING)
        run.cancel()
        self.assertTrue(run.ended)
        self.assertIsNone(background.active())
        self.assertEqual([error.code for error in errors], ["cancelled"])
        self.assertEqual(finished, [])
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), nodes)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(source), before)

    def _computedHead(self, contrast: str) -> tuple[slicer.vtkMRMLScalarVolumeNode, dict[str, np.ndarray]]:
        """Return an oblique volume of white matter in grey matter, and where each tissue is.

        A ball of fluid lies off centre along every axis, so that nothing can be mirrored unseen.
        """
        k, j, i = np.mgrid[-1:1:24j, -1:1:64j, -1:1:56j]
        radius = np.sqrt(k**2 + j**2 + i**2)
        fluid = np.sqrt((k - 0.2) ** 2 + (j - 0.25) ** 2 + (i - 0.25) ** 2) < 0.25
        head = {"fluid": fluid, "white": (radius < 0.6) & ~fluid, "grey": (radius >= 0.6) & (radius < 0.8) & ~fluid}
        brightness = {"T1": (150, 800, 500), "T2": (1000, 280, 420)}[contrast]
        noise = np.random.default_rng(7).normal(0, 15, radius.shape)
        voxels = np.where(radius < 0.8, np.select(list(head.values()), brightness) + noise, 0).astype(np.int16)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"Computed {contrast}")
        slicer.util.updateVolumeFromArray(node, voxels)
        node.SetSpacing(3.0, 3.0, 6.0)
        node.SetIJKToRASDirections(0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
        node.SetOrigin(-90, 12.5, -70)
        return node, head

    def _check(
        self,
        source: slicer.vtkMRMLScalarVolumeNode,
        head: dict[str, np.ndarray],
        before: np.ndarray,
        result: slicer.vtkMRMLScalarVolumeNode,
        direction: str,
    ) -> None:
        """The result looks like the other contrast, lies where the source lies, and says what it is."""
        target = direction[-2:]
        # Seen: the source as it was.
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(source), before)
        # In place: the same grid, and nothing outside of the head.
        matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
        for node, matrix in zip((source, result), matrices, strict=True):
            node.GetIJKToRASMatrix(matrix)
        np.testing.assert_array_equal(*map(slicer.util.arrayFromVTKMatrix, matrices))
        voxels = slicer.util.arrayFromVolume(result)
        np.testing.assert_array_equal(voxels > 0, before > 0)
        # The other contrast: fluid is the brightest in T2, and the darkest in T1.
        fluid, white, grey = (float(np.median(voxels[head[tissue]])) for tissue in ("fluid", "white", "grey"))
        order = (white, grey, fluid) if target == "T2" else (fluid, grey, white)
        self.assertEqual(order, tuple(sorted(order)))
        self.assertGreater(order[-1], 1.2 * order[0])
        # Marked as what it is.
        self.assertEqual(result.GetName(), f"{source.GetName()} [synthetic {target}]")
        self.assertEqual(result.GetAttribute("MRSynth.Synthetic"), "1")
        self.assertEqual(result.GetAttribute("MRSynth.Direction"), direction)
        self.assertIn(f"SYNTHETIC {target}w", result.GetDescription())
        self.assertIn("not for diagnosis", result.GetDescription())
        self.assertIs(result.GetNodeReference(results.SOURCE_ROLE), source)
