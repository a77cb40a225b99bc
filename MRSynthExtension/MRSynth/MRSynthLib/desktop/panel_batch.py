"""Panel, batch: what is missing in a whole folder, in the background, with a report at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from MRSynthLib.engine.errors import Cancelled, MRSynthError

from .batching import BatchResult, BatchRun, Event
from .panel_section import Section
from .pump import Pump, follow
from .words import _

if TYPE_CHECKING:
    from .panel import Panel

_FULL = 1000  # of the progress bar


class BatchSection(Section):
    """Starts and cancels batches; one at a time, beside a single run if need be.

    Attributes
    ----------
    batch : BatchRun or None
        The latest batch.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        import ctk

        self.batch: BatchRun | None = None
        self._pump: Pump | None = None
        self._report: Path | None = None
        self._said = ""
        self._failed = 0
        for path in (self.ui.batchInputPath, self.ui.batchOutputPath):
            path.filters = ctk.ctkPathLineEdit.Dirs
            path.connect("currentPathChanged(QString)", self._on_path)
        self.ui.batchProgressBar.setVisible(False)
        self.ui.batchButton.connect("clicked(bool)", self._on_clicked)
        self.ui.reportButton.connect("clicked(bool)", self._on_report)

    @property
    def running(self) -> bool:
        """Whether a batch is under way."""
        return self.batch is not None and not self.batch.ended

    def update(self) -> None:
        """Say what the button does; take what is chosen from the parameter node."""
        choices = self.parameters
        for path, chosen in (
            (self.ui.batchInputPath, choices.batch_input),
            (self.ui.batchOutputPath, choices.batch_output),
        ):
            if path.currentPath != chosen:
                blocked = path.blockSignals(True)
                path.currentPath = chosen
                path.blockSignals(blocked)
            path.setEnabled(not self.running)
        ready = bool(choices.batch_input and choices.batch_output)
        self.ui.batchButton.setText(_("Cancel batch") if self.running else _("Synthesize what is missing"))
        self.ui.batchButton.setEnabled(self.running or ready)
        self.ui.batchProgressBar.setVisible(self.running)
        self.ui.reportButton.setEnabled(self._report is not None)
        hint = "" if ready else _("Choose a folder of examinations, and one for the results.")
        self.ui.batchStatusLabel.setText(self._said or hint)
        self.ui.batchStatusLabel.setVisible(bool(self.ui.batchStatusLabel.text))

    def close(self) -> None:
        """End the batch with the panel; what is done stays, and the same batch goes on from there."""
        self._stop()
        if self.batch is not None:
            self.batch.cancel()

    def _stop(self) -> None:
        if self._pump is not None:
            self._pump.stop()
        self._pump = None

    def _on_path(self, path: str) -> None:
        if self.panel.parameters is not None:
            self.parameters.batch_input = str(self.ui.batchInputPath.currentPath)
            self.parameters.batch_output = str(self.ui.batchOutputPath.currentPath)

    def _on_clicked(self, checked: bool = False) -> None:
        if self.batch is not None and not self.batch.ended:
            self.batch.cancel()
            self._ended()
        elif self.panel.setup.made_ready():
            self._start()
        self.panel.update()

    def _start(self) -> None:
        choices = self.parameters
        self._said, self._report, self._failed = _("Looking through the folder …"), None, 0
        self.ui.batchProgressBar.setValue(0)
        self.batch = BatchRun(
            Path(choices.batch_input),
            Path(choices.batch_output),
            model=choices.model or None,
            device=choices.device,
            options=self._options(),
            on_event=self._hear,
        )
        try:
            self.batch.start()
        except MRSynthError as error:
            self.batch = None
            self._said = _in_words(error)
            return
        self._pump = follow(self.batch, self._ended)

    def _options(self) -> tuple[str, ...]:
        """What is chosen for single runs too."""
        wanted = self.parameters.reliability and self.panel.model.calibrated
        return ("--planes", str(self.parameters.planes), *(["--reliability"] if wanted else []))

    def _ended(self) -> None:
        self._stop()
        if self.batch is None:
            return
        try:
            self._conclude(self.batch.result())
        except Cancelled:
            self._said = _("Cancelled. What is done stays; start the same batch again to go on.")
        except MRSynthError as error:
            self.panel.setup.doubt(error)
            self._said = _in_words(error)
        self.panel.update()

    def _conclude(self, result: BatchResult) -> None:
        counts = result.counts
        self._said = _(
            "Done: {made} made, {kept} from earlier, {complete} had both, {skipped} left out, {failed} failed."
        ).format(**{key: counts.get(key, 0) for key in ("made", "kept", "complete", "skipped", "failed")})
        self._report = result.report
        if self._report is not None:
            self._on_report()

    def _hear(self, event: Event) -> None:
        kind = event["event"]
        if kind == "failure":
            self._failed += 1
        elif kind == "progress":
            self.ui.batchProgressBar.setValue(round(_FULL * event["fraction"]))
            self._say(self._progress(event))
        elif kind == "planning":
            self._say(_("Looking: {done} of {total} examinations").format(done=event["done"], total=event["total"]))

    def _progress(self, event: Event) -> str:
        text = _("{done} of {total} done").format(done=event["done"], total=event["total"])
        if self._failed:
            text += ", " + _("{failed} failed").format(failed=self._failed)
        if event["seconds_left"]:
            minutes = event["seconds_left"] / 60
            left = _("about {minutes:.0f} min left") if minutes >= 1 else _("less than a minute left")
            text += ", " + left.format(minutes=minutes)
        return text

    def _say(self, text: str) -> None:
        self._said = text
        self.ui.batchStatusLabel.setText(text)
        self.ui.batchStatusLabel.setVisible(True)

    def _on_report(self, checked: bool = False) -> None:
        import qt

        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._report)))


def _in_words(error: Any) -> str:
    return "⚠ " + _("{seen}\nWhat to do: {remedy}").format(seen=error.seen, remedy=error.remedy)
