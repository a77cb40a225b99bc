"""Panel, run: the one button, the progress, and what became of the run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import Cancelled, MRSynthError

from .panel_section import Section, device_in_words
from .state import RunState
from .words import _

if TYPE_CHECKING:
    from .background import BackgroundRun, RunProgress
    from .panel import Panel

_STAGES = {
    "prepare": _("Reading and preparing"),
    "synthesize": _("Synthesizing"),
    "cycle": _("Synthesizing back"),
    "restore": _("Putting the result on the source's grid"),
    "import": _("Showing the result"),
}


class RunSection(Section):
    """Starts and cancels runs.

    Attributes
    ----------
    run : BackgroundRun or None
        The latest run that the panel started.
    last_error : MRSynthError or None
        What the latest run failed with.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.run: BackgroundRun | None = None
        self.last_error: MRSynthError | None = None
        self._started = 0.0  # s, monotonic
        self._estimated: float | None = None  # s
        self.ui.progressBar.setVisible(False)
        self.ui.runButton.connect("clicked(bool)", self._on_clicked)

    @property
    def running(self) -> bool:
        """Whether a run of the panel is under way."""
        return self.run is not None and not self.run.ended

    def update(self) -> None:
        """Say what the button does, and why not where it does nothing."""
        missing = self.panel.volumes.missing
        button = self.ui.runButton
        button.setText(_("Cancel") if self.running else self._offer())
        button.setEnabled(self.running or not missing)
        button.setToolTip(
            _("Stop the run; nothing is changed.")
            if self.running
            else missing or _("Make the missing contrast. 3D Slicer can be used meanwhile.")
        )
        self.ui.progressBar.setVisible(self.running)
        self.ui.estimateLabel.setText("" if self.running else self.panel.model.estimate())
        self.ui.estimateLabel.setVisible(bool(self.ui.estimateLabel.text))
        self.ui.statusLabel.setVisible(bool(self.ui.statusLabel.text))

    def close(self) -> None:
        """End the run with the panel, and the process that is kept for the next one."""
        if self.run is not None:
            self.run.cancel()
        self.panel.logic.releaseWorker()

    def say(self, text: str) -> None:
        """Show one message below the button."""
        self.ui.statusLabel.setText(text)
        self.ui.statusLabel.setVisible(bool(text))

    def _offer(self) -> str:
        recognised = self.panel.volumes.recognised
        target = self.panel.volumes.target
        if target is None and recognised is not None and recognised.sure:
            target = {"t1": "t2", "t2": "t1"}[recognised.contrast]
        return _("Synthesize {contrast}").format(contrast=target.upper()) if target else _("Synthesize")

    def _on_clicked(self, checked: bool = False) -> None:
        if self.run is not None and not self.run.ended:
            self.run.cancel()
        elif self.panel.setup.made_ready():
            self._start()
        self.panel.update()

    def _start(self) -> None:
        choices = self.parameters
        self.last_error = None
        self.ui.progressBar.setValue(0)
        self.say(_("Starting …"))
        self._started, self._estimated = time.monotonic(), self.panel.model.seconds()
        try:
            self.run = self.panel.logic.start(
                choices.source,
                choices.synthetic,
                target=self.panel.volumes.target,
                maskNode=choices.mask,
                model=choices.model or None,
                device=choices.device,
                like=choices.like,
                planes=choices.planes,
                reliability=choices.reliability and self.panel.model.calibrated,
                force=self.panel.volumes.forced,
                onProgress=self._on_progress,
                onFinished=self._on_finished,
                onError=self._on_error,
            )
        except MRSynthError as error:
            self._on_error(error)

    def _on_progress(self, progress: RunProgress) -> None:
        self.ui.progressBar.setValue(round(100 * progress.fraction))
        if progress.state == RunState.CANCELLING:
            text = _("Cancelling …")
        else:
            text = _STAGES.get(progress.stage, _("Starting …"))
            if progress.seconds_left:
                text += ", " + _("about {seconds:.0f} s left").format(seconds=max(1.0, progress.seconds_left))
        self.say(text)

    def _on_finished(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        if self.panel.parameters is not None:
            self.parameters.synthetic = node
            self.parameters.fade = 1.0
            self.panel.model.learn(self._estimated, time.monotonic() - self._started)
        done = _("Done in {seconds} s on {device}: {name}").format(
            seconds=node.GetAttribute("MRSynth.Seconds"),
            device=device_in_words(node.GetAttribute("MRSynth.Device")),
            name=node.GetName(),
        )
        warnings = self.run.warnings if self.run is not None else []
        self.say("\n".join([done, *warnings]))
        self.panel.show_result(node)
        self.panel.update()

    def _on_error(self, error: MRSynthError) -> None:
        if isinstance(error, Cancelled):
            self.say(_("Cancelled: {reason} Nothing was changed.").format(reason=error.seen))
        else:
            self.last_error = error
            self.panel.setup.doubt(error)
            logging.error("MRSynth: %s [%s]", error, error.code)
            self.say("⚠ " + _("{seen}\nWhat to do: {remedy}").format(seen=error.seen, remedy=error.remedy))
        self.panel.update()
