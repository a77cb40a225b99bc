"""Plots of a study's scores: learning curves, box plots, Bland-Altman, tissue classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mrsynth_training import figures
from mrsynth_training.compare import title as direction_title
from mrsynth_training.curves import Curve
from mrsynth_training.downstream import TISSUES
from mrsynth_training.study_scores import StudyScores
from MRSynthLib.engine.checkpoint import DIRECTIONS

TISSUE_NAMES = {"csf": "CSF", "grey": "grey matter", "white": "white matter"}
TISSUE_COLOURS = {"csf": "#1f77b4", "grey": "#7f7f7f", "white": "#d95f02"}
FEW = 20  # points of a curve, which are then marked
BOXES = (("paper", "psnr", "PSNR, dB"), ("paper", "ssim", "SSIM"), ("brain", "mae", "MAE in the brain"))


@figures.styled
def learning_curves(
    path: Path,
    curves: Mapping[str, Mapping[int, Mapping[str, Curve]]],
    colours: Mapping[str, str],
    subjects: str,
    seeds: str,
) -> Path | None:
    """Losses and validation scores over the steps; thin lines are seeds. None where nothing was logged.

    Parameters
    ----------
    path : Path
    curves : dict
        By method, seed and tag, as `curves.read` gives.
    colours : dict
        By method.
    subjects, seeds : str
        For the note below.
    """
    tags = sorted({tag for by_seed in curves.values() for found in by_seed.values() for tag in found})
    tags = [tag for tag in tags if tag.startswith(("loss/", "validation/psnr/t", "validation/ssim/t"))]
    tags = [tag for tag in tags if tag.count("/") <= 2]  # not of single subjects
    if not tags:
        return None
    columns = min(3, len(tags))
    rows = -(-len(tags) // columns)
    figure = figures.empty(3.4 * columns, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, tag in zip(axes.flat, tags, strict=False):
        for method, by_seed in curves.items():
            for number, found in enumerate(by_seed.values()):
                if tag in found:
                    dot = "." if len(found[tag][0]) <= FEW else ""
                    label = method if number == 0 else None
                    place.plot(*found[tag], dot + "-", color=colours[method], linewidth=1.1, alpha=0.8, label=label)
        place.set_title(tag)
        place.set_xlabel("step")
        if tag.startswith("loss/"):
            place.set_yscale("log")
        place.grid(visible=True)
        place.legend()
    for place in list(axes.flat)[len(tags) :]:
        place.set_axis_off()
    figure.tight_layout()
    return figures.save(
        figure, path, "Learning curves", "Losses, and slices of the validation subjects", subjects, seeds
    )


@figures.styled
def boxes(path: Path, scores: StudyScores, subjects: str, seeds: str) -> Path:
    """Scores per subject, as boxes and points, of every method in both directions."""
    colours = figures.colours(scores.methods)
    figure = figures.empty(3.6 * len(BOXES), 2.9 * len(DIRECTIONS))
    axes = figure.subplots(len(DIRECTIONS), len(BOXES), squeeze=False)
    for row, direction in enumerate(DIRECTIONS):
        for column, (protocol, score, label) in enumerate(BOXES):
            values = [list(scores.by_subject(m, direction, protocol, score).values()) for m in scores.methods]
            _box(axes[row][column], values, [colours[m] for m in scores.methods])
            axes[row][column].set_ylabel(f"{direction_title(direction)}: {label}")
            last = row == len(DIRECTIONS) - 1
            axes[row][column].set_xticklabels(scores.methods if last else [], rotation=35, ha="right", fontsize=8)
    figure.tight_layout()
    return figures.save(figure, path, "Scores per subject", "Protocols paper and brain", subjects, seeds)


def _box(axes: Axes, values: Sequence[Sequence[float]], colours: Sequence[str]) -> None:
    """Box with median and quartiles, whiskers to 1.5 times the box, and every subject as a point."""
    drawn = axes.boxplot(
        [list(v) or [np.nan] for v in values],
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        medianprops={"color": "black"},
    )
    for patch, colour in zip(drawn["boxes"], colours, strict=True):
        patch.set(facecolor=colour, alpha=0.35)
    rng = np.random.default_rng(0)
    for place, (found, colour) in enumerate(zip(values, colours, strict=True), start=1):
        spread = rng.uniform(-0.15, 0.15, len(found))
        axes.scatter(place + spread, found, s=9, color=colour, alpha=0.7, zorder=3, linewidths=0)
    axes.set_xticks(range(1, len(values) + 1))
    axes.grid(visible=True, axis="y")


@figures.styled
def bland_altman(path: Path, scores: StudyScores, subjects: str, seeds: str) -> Path:
    """Mean intensity of each tissue, synthetic - acquired over their mean (Bland & Altman 1986); a dot is a subject."""
    methods = scores.networks
    figure = figures.empty(3.0 * len(methods) + 0.3, 2.7 * len(DIRECTIONS))
    axes = figure.subplots(len(DIRECTIONS), len(methods), squeeze=False, sharey=True)
    for row, direction in enumerate(DIRECTIONS):
        for column, method in enumerate(methods):
            place = axes[row][column]
            everything: list[float] = []
            for tissue in TISSUES:
                true, made = (
                    scores.by_subject(method, direction, "tissue", f"mean_{tissue}_{which}")
                    for which in ("true", "made")
                )
                common = sorted(true.keys() & made.keys())
                x, y = np.array([[(true[s] + made[s]) / 2, made[s] - true[s]] for s in common]).reshape(-1, 2).T
                place.scatter(x, y, s=14, color=TISSUE_COLOURS[tissue], label=TISSUE_NAMES[tissue], linewidths=0)
                everything += y.tolist()
            _limits(place, everything)
            place.set_title(f"{method}, {direction_title(direction)}")
            if row == len(DIRECTIONS) - 1:
                place.set_xlabel("mean of acquired and synthetic")
            if column == 0:
                place.set_ylabel("synthetic − acquired")
    axes[0][0].legend()
    figure.tight_layout()
    protocol = "Mean intensity where the acquired T1 shows the tissue, declared scale; lines: mean and 1.96 SD"
    return figures.save(figure, path, "Bland-Altman: tissue intensities", protocol, subjects, seeds)


def _limits(axes: Axes, differences: Sequence[float]) -> None:
    """Bias and limits of agreement."""
    axes.axhline(0, color="black", linewidth=0.6)
    if len(differences) > 1:
        mean, spread = float(np.mean(differences)), 1.96 * float(np.std(differences, ddof=1))
        axes.axhline(mean, color="#444444", linewidth=1)
        for limit in (mean - spread, mean + spread):
            axes.axhline(limit, color="#444444", linewidth=1, linestyle="--")


@figures.styled
def tissues(path: Path, scores: StudyScores, subjects: str, seeds: str) -> Path:
    """Dice of each tissue class between acquired and synthetic volumes."""
    colours = figures.colours(scores.methods)
    figure = figures.empty(3.6 * len(TISSUES), 2.9 * len(DIRECTIONS))
    axes = figure.subplots(len(DIRECTIONS), len(TISSUES), squeeze=False, sharey=True)
    for row, direction in enumerate(DIRECTIONS):
        for column, tissue in enumerate(TISSUES):
            values = [
                list(scores.by_subject(m, direction, "tissue", f"dice_{tissue}").values()) for m in scores.methods
            ]
            _box(axes[row][column], values, [colours[m] for m in scores.methods])
            last = row == len(DIRECTIONS) - 1
            axes[row][column].set_xticklabels(scores.methods if last else [], rotation=35, ha="right", fontsize=8)
            axes[row][column].set_title(TISSUE_NAMES[tissue] if row == 0 else "")
            if column == 0:
                axes[row][column].set_ylabel(f"{direction_title(direction)}: Dice")
    figure.tight_layout()
    protocol = "Gaussian mixture of three classes, fitted to the acquired and to the synthetic volume alike"
    return figures.save(figure, path, "Tissue classes of synthetic and acquired volumes", protocol, subjects, seeds)
