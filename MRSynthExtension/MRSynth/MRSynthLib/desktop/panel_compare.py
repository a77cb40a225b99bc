"""Panel, compare: source and result side by side, faded or flickering, and scored against an acquired volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import MRSynthError

from . import scoring
from .compare import Comparison
from .panel_section import Section
from .pump import Pump, follow
from .results import SOURCE_ROLE
from .score_run import ScoreRun
from .words import _

if TYPE_CHECKING:
    from .panel import Panel

_OVERLAY = 0.5  # opacity of a map over the result
_FLICKER = 700  # ms; far slower than what may trigger seizures (three flashes a second)


class CompareSection(Section):
    """Looks at the synthetic volume that is chosen, together with the source that it was made from."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._comparison: Comparison | None = None
        self._pair: tuple[str, str] | None = None
        self._flicker: Pump | None = None
        self._scored = ""
        self._scoring: tuple[ScoreRun, scoring.Job] | None = None
        self._following: Pump | None = None
        self._overlay: slicer.vtkMRMLScalarVolumeNode | None = None  # what lies over the result in place of its source
        self.ui.sideBySideButton.connect("toggled(bool)", self._on_side_by_side)
        self.ui.flickerButton.connect("toggled(bool)", self._on_flicker)
        self.ui.fadeSlider.connect("valueChanged(double)", self._on_fade)
        self.ui.scoreButton.connect("clicked(bool)", self._on_score)

    def show_result(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Show a new result over its source, in the layout that the user has."""
        source = node.GetNodeReference(SOURCE_ROLE)
        if source is not None:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.flickerButton.setChecked(False)
            self._compare(source, node).show()

    def overlay(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Show a map over the synthetic volume; or, with None, that over its source again."""
        if node is not None:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.flickerButton.setChecked(False)
        self._overlay = node
        if self.panel.parameters is not None and (comparison := self._current()) is not None:
            comparison.fade(self.parameters.fade if node is None else _OVERLAY)

    def update(self) -> None:
        """Offer only what can be done with what is chosen."""
        synthetic, source = self._chosen()
        possible = source is not None
        for widget in (self.ui.sideBySideButton, self.ui.flickerButton, self.ui.fadeSlider, self.ui.fadeLabel):
            widget.setEnabled(possible)
        if not possible:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.flickerButton.setChecked(False)
        acquired = self.parameters.acquired
        scorable = possible and acquired is not None and acquired is not synthetic
        self.ui.scoreButton.setText(_("Cancel scoring") if self.scoring else _("Difference map and scores"))
        self.ui.scoreButton.setEnabled(self.scoring or scorable)
        hint = "" if possible else _("Choose a synthetic volume above, or make one, to compare it with its source.")
        self.ui.compareHintLabel.setText(hint)
        self.ui.compareHintLabel.setVisible(bool(hint))
        self.ui.scoreLabel.setText(self._scored)
        self.ui.scoreLabel.setVisible(bool(self._scored))

    def leave(self) -> None:
        """Stop flickering: the user looks at something else."""
        self.ui.flickerButton.setChecked(False)

    @property
    def scoring(self) -> bool:
        """Whether scores are being computed."""
        return self._scoring is not None

    def close(self) -> None:
        """Give the user's layout back, and end the scoring."""
        self._stop_scoring()
        self._stop_flicker()
        if self._comparison is not None and self.ui.sideBySideButton.checked:
            self._comparison.side_by_side(False)
        self._comparison = None

    def _chosen(self) -> tuple[slicer.vtkMRMLScalarVolumeNode | None, slicer.vtkMRMLScalarVolumeNode | None]:
        """The chosen result and the source that it was made from, or None for what is not there."""
        synthetic = self.parameters.synthetic
        if synthetic is None or not synthetic.GetAttribute("MRSynth.Synthetic"):
            return synthetic, None
        return synthetic, synthetic.GetNodeReference(SOURCE_ROLE)

    def _compare(self, source: slicer.vtkMRMLVolumeNode, synthetic: slicer.vtkMRMLVolumeNode) -> Comparison:
        """The comparison of these two; one object for all, as it remembers what the user had before the first."""
        pair = (source.GetID(), synthetic.GetID())
        if self._comparison is None:
            self._comparison = Comparison(slicer.mrmlScene, source, synthetic)
        elif pair != self._pair:
            self._comparison.choose(source, synthetic)
            self._scored = ""
        self._pair = pair
        return self._comparison

    def _current(self) -> Comparison | None:
        synthetic, source = self._chosen()
        if source is None:
            return None
        return self._compare(*((source, synthetic) if self._overlay is None else (synthetic, self._overlay)))

    def _on_side_by_side(self, on: bool) -> None:
        if on:
            self.ui.flickerButton.setChecked(False)
            self.ui.overlayCheckBox.setChecked(False)
        if self.panel.parameters is not None and (comparison := self._current()) is not None:
            comparison.side_by_side(on)

    def _on_fade(self, opacity: float) -> None:
        if self.panel.parameters is None or opacity == self.parameters.fade:
            return  # the slider followed the parameter node, which must not change what the views show
        if (comparison := self._current()) is not None:
            comparison.fade(opacity)

    def _on_flicker(self, on: bool) -> None:
        self._stop_flicker()
        if on:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.overlayCheckBox.setChecked(False)
            self._flicker = Pump(self._tick, _FLICKER)
        elif self.panel.parameters is not None and (comparison := self._current()) is not None:
            comparison.fade(self.parameters.fade)

    def _tick(self) -> bool:
        """Show the other one of the two; over where there is nothing left to compare."""
        comparison = self._current() if self.panel.parameters is not None else None
        if comparison is not None:
            comparison.flicker()
        return comparison is None

    def _stop_flicker(self) -> None:
        if self._flicker is not None:
            self._flicker.stop()
        self._flicker = None

    def _on_score(self, checked: bool = False) -> None:
        if self.scoring:
            self._stop_scoring()
            self._scored = _("Cancelled.")
        else:
            self._start_scoring()
        self.panel.update()

    def _start_scoring(self) -> None:
        synthetic, _source = self._chosen()
        try:
            job = scoring.capture(synthetic, self.parameters.acquired, self.parameters.mask)
            run = ScoreRun(job.pair)
            run.start()
        except MRSynthError as error:
            self._scored = _in_words(error)
            return
        self._scored = _("Scoring …")
        self._scoring = run, job
        self._following = follow(run, self._show_scores)

    def _show_scores(self) -> None:
        if self._scoring is None:
            return
        run, job = self._scoring
        self._stop_scoring()
        try:
            self._scored = _scores_in_words(scoring.show(job, run.result()))
        except MRSynthError as error:
            self._scored = _in_words(error)
        self.panel.update()

    def _stop_scoring(self) -> None:
        if self._following is not None:
            self._following.stop()
        if self._scoring is not None:
            self._scoring[0].cancel()
        self._following = self._scoring = None


def _in_words(error: MRSynthError) -> str:
    return f"⚠ {error.seen} {error.remedy}"


def _scores_in_words(scored: scoring.Scored) -> str:
    brain = scored.scores["brain"]
    return _(
        "Within the brain: PSNR {psnr:.1f} dB, SSIM {ssim:.2f}, MAE {mae:.0f} of 1000.\n"
        "All scores are in “{table}”, the differences in “{difference}”."
    ).format(
        psnr=brain["psnr"],
        ssim=brain["ssim"],
        mae=1000 * brain["mae"],
        table=scored.table_node.GetName(),
        difference=scored.difference_node.GetName(),
    )
