"""Panel, compare: source and result side by side, faded or flickering, and scored against an acquired volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from MRSynthLib.engine.errors import MRSynthError

from . import scoring, trust
from .compare import Comparison
from .panel_section import Section
from .pump import Pump, follow
from .results import SOURCE_ROLE, is_result
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
        self._scored_of: tuple[object, ...] = ()  # the volumes that it was said of, see `_contents`
        self._scoring: tuple[ScoreRun, scoring.Job] | None = None
        self._following: Pump | None = None
        self._overlay = False  # whether the map lies over the result, in place of the result over its source
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

    def overlay(self, on: bool) -> None:
        """Show the map of the synthetic volume over it, or that over its source again."""
        if on:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.flickerButton.setChecked(False)
        self._overlay = on
        if self.panel.shown() and (comparison := self._current()) is not None:
            comparison.fade(_OVERLAY if on else self.parameters.fade)

    def update(self) -> None:
        """Offer only what can be done with what is chosen."""
        synthetic, source = self._chosen()
        possible = source is not None
        for widget in (self.ui.sideBySideButton, self.ui.flickerButton, self.ui.fadeSlider, self.ui.fadeLabel):
            widget.setEnabled(possible)
        if not possible:
            self.ui.sideBySideButton.setChecked(False)
            self.ui.flickerButton.setChecked(False)
        elif self.panel.shown() and (self._overlay or self.ui.sideBySideButton.checked):
            self._current()  # what is on goes with what is chosen
        acquired = self.parameters.acquired
        scorable = possible and acquired is not None and acquired is not synthetic
        self.ui.scoreButton.setText(_("Cancel scoring") if self.scoring else _("Difference map and scores"))
        self.ui.scoreButton.setEnabled(self.scoring or scorable)
        hint = "" if possible else _("Choose a synthetic volume above, or make one, to compare it with its source.")
        self.ui.compareHintLabel.setText(hint)
        self.ui.compareHintLabel.setVisible(bool(hint))
        self.ui.scoreLabel.setText(self._scored if self._scored_of == _contents(synthetic, acquired) else "")
        self.ui.scoreLabel.setVisible(bool(self.ui.scoreLabel.text))

    def leave(self) -> None:
        """Stop flickering: the user looks at something else."""
        self.ui.flickerButton.setChecked(False)

    @property
    def scoring(self) -> bool:
        """Whether scores are being computed."""
        return self._scoring is not None

    def close(self) -> None:
        """Give the user's layout and views back, and end the scoring."""
        self._stop_scoring()
        self._stop_flicker()
        if self._comparison is not None:
            self._comparison.restore()
        self._comparison = None

    def _chosen(self) -> tuple[slicer.vtkMRMLScalarVolumeNode | None, slicer.vtkMRMLScalarVolumeNode | None]:
        """The chosen result and the source that it was made from, or None for what is not there."""
        synthetic = self.parameters.synthetic
        return synthetic, synthetic.GetNodeReference(SOURCE_ROLE) if is_result(synthetic) else None

    def _compare(self, source: slicer.vtkMRMLVolumeNode, synthetic: slicer.vtkMRMLVolumeNode) -> Comparison:
        """The comparison of these two; one object for all, as it remembers what the user had before the first."""
        pair = (source.GetID(), synthetic.GetID())
        if self._comparison is None:
            self._comparison = Comparison(slicer.mrmlScene, source, synthetic)
        elif pair != self._pair:
            self._comparison.choose(source, synthetic)
        self._pair = pair
        return self._comparison

    def _current(self) -> Comparison | None:
        synthetic, source = self._chosen() if self.panel.parameters is not None else (None, None)
        if synthetic is None or source is None:
            return None
        over = trust.map_of(synthetic) if self._overlay else None
        return self._compare(source, synthetic) if over is None else self._compare(synthetic, over)

    def _on_side_by_side(self, on: bool) -> None:
        comparison = self._comparison  # gives the layout back, whatever is chosen or deleted by now
        if on:
            self.ui.flickerButton.setChecked(False)
            self.ui.overlayCheckBox.setChecked(False)
            comparison = self._current()
        if comparison is not None:
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
        elif (comparison := self._current()) is not None:
            comparison.fade(self.parameters.fade)

    def _tick(self) -> bool:
        """Show the other one of the two; over where there is nothing left to compare."""
        comparison = self._current()
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
            self._say(_("Cancelled."))
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
            self._say(_in_words(error))
            return
        self._say(_("Scoring …"))
        self._scoring = run, job
        self._following = follow(run, self._show_scores)

    def _show_scores(self) -> None:
        if self._scoring is None:
            return
        run, job = self._scoring
        self._stop_scoring()
        try:
            scored = scoring.show(job, run.result())
            nodes = [job.scene.GetNodeByID(node_id) for node_id in (job.synthetic_id, job.acquired_id)]
            self._say(_scores_in_words(scored), *nodes)
        except MRSynthError as error:
            self._say(_in_words(error))
        self.panel.update()

    def _say(self, text: str, *nodes: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Show a text for as long as these volumes, by default those that are chosen now, are chosen and unchanged."""
        choices = self.panel.parameters
        if not nodes and choices is not None:
            nodes = (choices.synthetic, choices.acquired)
        self._scored, self._scored_of = text, _contents(*nodes)

    def _stop_scoring(self) -> None:
        if self._following is not None:
            self._following.stop()
        if self._scoring is not None:
            self._scoring[0].cancel()
        self._following = self._scoring = None


def _contents(*nodes: slicer.vtkMRMLScalarVolumeNode | None) -> tuple[object, ...]:
    """What differs as soon as one of the volumes is another one, or holds another image."""
    images = [node.GetImageData() if node is not None else None for node in nodes]
    return tuple((node and node.GetID(), image and image.GetMTime()) for node, image in zip(nodes, images, strict=True))


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
