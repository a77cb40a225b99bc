"""`report.md` of a study: tables and figures, each with its protocol, n, seeds and commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrsynth_training import compare, curves, figure_images, figure_plots, figures, provenance, statistics
from mrsynth_training.downstream import TISSUES
from mrsynth_training.figure_plots import TISSUE_NAMES
from mrsynth_training.markdown import table
from mrsynth_training.metrics import PROTOCOL_VERSION
from mrsynth_training.study import Outcome, digest
from mrsynth_training.study_scores import StudyScores
from mrsynth_training.study_volumes import shown
from MRSynthLib.engine.checkpoint import DIRECTIONS
from MRSynthLib.engine.writing import write_aside

# Fu et al., Table 2: PSNR in dB and SSIM, T1→T2 and T2→T1.
PUBLISHED = {
    "U-net": {"psnr": (20.65, 20.66), "ssim": (0.68, 0.68)},
    "ResNet": {"psnr": (21.82, 22.55), "ssim": (0.76, 0.77)},
    "DenseU-net": {"psnr": (22.78, 22.75), "ssim": (0.80, 0.79)},
}
REGIONS = {  # of the table of tumours
    "lesion": "whole lesion",
    "tumour_core": "core",
    "tumour_oedema": "oedema",
    "tumour_enhancing": "enhancing",
    "lesion_rim": "5 mm rim",
    "brain": "whole brain",
}
PEERS = (("peer:selfrdb", "psnr"), ("peer:selfrdb", "ssim"), ("peer:resvit", "psnr"), ("peer:syndiff", "psnr"))


def write(outcome: Outcome, device: str = "auto") -> Path:
    """Draw all figures and write the tables and the report; returns the report's path."""
    return _Report(outcome, device).write()


class _Report:
    def __init__(self, outcome: Outcome, device: str) -> None:
        self.outcome, self.device = outcome, device
        self.scores = StudyScores(outcome)
        self.out = outcome.study.out
        self.figures = self.out / "figures"
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.out / "tables").mkdir(exist_ok=True)
        self.n = len(outcome.cases)
        self.subjects = f"n = {self.n} test subject{'s' * (self.n != 1)}"
        seeds = ", ".join(str(seed) for seed in outcome.study.seeds)
        self.seeds = f"seed{'s' * (len(outcome.study.seeds) != 1)} {seeds}"
        self.ours = self.scores.networks[-1]

    def write(self) -> Path:
        self.scores.write_csv(self.out / "tables" / "scores.csv")
        lines = [
            *self._head(),
            *self._table_2(),
            *self._brain(),
            *self._pictures(),
            *self._curves(),
            *self._distributions(),
            *self._differences(),
            *self._tissues(),
            *self._tumours(),
            *self._peers(),
            *self._files(),
        ]
        path = self.out / "report.md"
        with write_aside(path) as aside:
            aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def _state(self, protocol: str) -> str:
        """What stands below every table."""
        return (
            f"*Protocol {protocol}, version {PROTOCOL_VERSION}; {self.subjects}; {self.seeds}; {provenance.commit()}.*"
        )

    def _head(self) -> list[str]:
        study, split = self.outcome.study, self.outcome.split
        sources = sorted({case.source or "source unknown" for case in self.outcome.cases})
        lines = ["# Study: " + ", ".join(study.labels()), ""]
        if any("phantom" in source.lower() for source in sources):
            lines += ["> Computed patients: nothing in this report says anything about people.", ""]
        lines += [
            f"- Data: `{study.data}` ({'; '.join(sources)})",
            f"- Split, by patient: {split['rule']} (seed {split['seed']}); tested on "
            + ", ".join(case.subject for case in self.outcome.cases[:8])
            + (" ..." if self.n > 8 else ""),
            f"- Seeds of the trainings: {', '.join(map(str, study.seeds))}",
            *(f"- {label}: {self._described(number)}" for number, label in enumerate(study.labels())),
            f"- Code: {provenance.commit()}; outcome {digest(self.outcome)}",
            "- No test subject was used to choose anything: each run's averaged generator at its last step counts. "
            "Synthetic volumes are scored on their own declared scale, never fitted to the acquired ones.",
            "",
        ]
        failures = {
            f"{method}: {which}": why
            for method, found in self.outcome.results.items()
            for which, why in found["failures"].items()
        }
        if failures:
            lines += ["**Not scored:**", "", *(f"- {which}: {why}" for which, why in failures.items()), ""]
        return lines

    def _described(self, number: int) -> str:
        experiment = self.outcome.study.experiments[number]
        terms = ", ".join(f"{k} {v['weight']:g}" for k, v in experiment.as_dict()["losses"].items() if v["weight"])
        length = f"{experiment.steps} steps" if experiment.steps else f"{experiment.epochs:g} epochs"
        return f"`{experiment.name}`, {experiment.framework}, {terms}; {length} of {experiment.batch_size}"

    def _table_2(self) -> list[str]:
        ways = [(score, direction) for score in ("psnr", "ssim") for direction in DIRECTIONS]
        heads = [f"{score.upper()} {compare.title(direction)}" for score, direction in ways]
        rows = [
            [method, *(self._cell(method, direction, "paper", score) for score, direction in ways)]
            for method in self.scores.methods
        ]
        for label, published in PUBLISHED.items():
            cells = [f"*{published[score][DIRECTIONS.index(direction)]:.2f}*" for score, direction in ways]
            rows.append([f"*{label}, published*", *cells])
        return [
            "## Table 2: three generators",
            "",
            *table(["", *heads], rows),
            "",
            "Mean over subjects, with its bootstrap 95 % interval over subjects; ± is the standard deviation over "
            "seeds. *Published*: Fu et al., Table 2, on 53 BraTS 2018 subjects, by a protocol that `paper` follows as "
            "far as it is published; other data, so not directly comparable.",
            "",
            self._state("`paper`"),
            "",
        ]

    def _cell(self, method: str, direction: str, protocol: str, score: str) -> str:
        values = list(self.scores.by_subject(method, direction, protocol, score).values())
        if not values:
            return "–"
        digits = 2 if score == "psnr" else 3
        low, high = statistics.bootstrap_interval(values)
        by_seed = self.scores.by_seed(method, direction, protocol, score)
        spread = f" ± {np.std(by_seed, ddof=1):.{digits}f}" if len(by_seed) > 1 else ""
        return f"{np.mean(values):.{digits}f}{spread} ({low:.{digits}f} to {high:.{digits}f})"

    def _brain(self) -> list[str]:
        columns = (
            *(("brain", "psnr", 2), ("brain", "ssim", 3), ("brain", "mae", 3), ("brain", "bias", 3)),
            *(("drift", "p95", 3), ("shift", "voxels", 2)),
        )
        heads = [f"`{protocol}` {score}" for protocol, score, _ in columns]
        lines = ["## In the brain", ""]
        for direction in DIRECTIONS:
            rows = [[m, *(self._quartiles(m, direction, *column) for column in columns)] for m in self.scores.methods]
            lines += [f"### {compare.title(direction)}", "", *table(["", *heads], rows), ""]
        text = "Median and quartiles over subjects. `drift`: flicker between slices; `shift`: offset from the source."
        return [*lines, text, "", self._state("`brain`, `drift` and `shift`"), ""]

    def _quartiles(self, method: str, direction: str, protocol: str, score: str, digits: int) -> str:
        values = list(self.scores.by_subject(method, direction, protocol, score).values())
        if not values:
            return "–"
        low, middle, high = np.percentile(values, (25, 50, 75))
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def _pictures(self) -> list[str]:
        volumes = shown(self.outcome, self.device)
        seed = f"seed {min(self.outcome.study.seeds)}"
        drawn = (
            ("Figure 4: whole slices", figure_images.examples(self.figures / "figure_4.png", volumes, seed)),
            (
                "Figure 5: details without tumour",
                figure_images.details(self.figures / "figure_5.png", volumes, seed, tumour=False),
            ),
            (
                "Figure 6: details with tumour",
                figure_images.details(self.figures / "figure_6.png", volumes, seed, tumour=True),
            ),
            ("Difference maps", figure_images.differences(self.figures / "differences.png", volumes, seed)),
        )
        lines = [
            "## Pictures",
            "",
            "The first test subjects by name, those with tumour first; chosen before scoring.",
            "",
        ]
        for title, path in drawn:
            lines += self._figure(title, path, "No subject shown has a segmented tumour.")
        return lines

    def _figure(self, title: str, path: Path | None, missing: str, level: int = 3) -> list[str]:
        content = f"![{title}](figures/{path.name})" if path else missing
        return [f"{'#' * level} {title}", "", content, ""]

    def _curves(self) -> list[str]:
        found: dict[str, dict[int, dict[str, curves.Curve]]] = {}
        for item in self.outcome.trained:
            found.setdefault(item.label, {})[item.seed] = curves.read(item.run)
        watched = sum(len(studies) for studies in self.outcome.split["validation"].values())
        path = figure_plots.learning_curves(
            self.figures / "curves.png",
            found,
            figures.colours(self.scores.methods),
            f"n = {watched} validation subject{'s' * (watched != 1)}",
            self.seeds,
        )
        return self._figure("Learning curves", path, "The runs have logged nothing.", level=2)

    def _distributions(self) -> list[str]:
        boxes = figure_plots.boxes(self.figures / "boxes.png", self.scores, self.subjects, self.seeds)
        bland = figure_plots.bland_altman(self.figures / "bland_altman.png", self.scores, self.subjects, self.seeds)
        return [
            "## Spread over subjects",
            "",
            *self._figure("Scores per subject", boxes, ""),
            *self._figure("Bland-Altman of tissue intensities", bland, ""),
        ]

    def _differences(self) -> list[str]:
        lines = [f"## {self.ours} against the others", ""]
        rows = []
        for protocol, score in (("paper", "psnr"), ("paper", "ssim"), ("brain", "mae"), ("tissue", "dice")):
            found = compare.tested(self.scores.table(protocol, score), self.ours)
            rows += [{"protocol": protocol, "score": score, **row} for row in found]
        for direction in DIRECTIONS:
            chosen = [row for row in rows if row["direction"] == direction]
            lines += [f"### {compare.title(direction)}", "", *compare.difference_table(chosen), ""]
        state = self._state("`paper`, `brain` and `tissue`")
        return [*lines, compare.note(self.n, 0) + " Seeds are averaged first, per subject.", "", state, ""]

    def _tissues(self) -> list[str]:
        figure = figure_plots.tissues(self.figures / "tissues.png", self.scores, self.subjects, self.seeds)
        lines = [
            "## Downstream: tissue classes",
            "",
            "CSF, grey and white matter by a Gaussian mixture (scikit-learn), fitted to the acquired and to the "
            "synthetic volume in the same way, without atlas; disease left out. Dice between the two, and how much "
            "larger a tissue is in the synthetic volume than in the acquired one.",
            "",
        ]
        heads = [f"Dice {TISSUE_NAMES[t]}" for t in TISSUES] + [f"volume {TISSUE_NAMES[t]}, %" for t in TISSUES]
        for direction in DIRECTIONS:
            rows = []
            for method in self.scores.methods:
                dice = [self._mean(method, direction, "tissue", f"dice_{t}", ".3f") for t in TISSUES]
                rows.append([method, *dice, *(self._volume(method, direction, t) for t in TISSUES)])
            lines += [f"### {compare.title(direction)}", "", *table(["", *heads], rows), ""]
        return [*lines, self._state("`tissue`"), "", *self._figure("Tissue classes", figure, "")]

    def _mean(self, method: str, direction: str, protocol: str, score: str, form: str) -> str:
        values = list(self.scores.by_subject(method, direction, protocol, score).values())
        return format(float(np.mean(values)), form) if values else "–"

    def _volume(self, method: str, direction: str, tissue: str) -> str:
        true, made = (
            self.scores.by_subject(method, direction, "tissue", f"volume_{tissue}_{which}")
            for which in ("true", "made")
        )
        changes = [100 * (made[s] - true[s]) / true[s] for s in true if true[s]]
        return f"{np.mean(changes):+.1f}" if changes else "–"

    def _tumours(self) -> list[str]:
        regions = [r for r in REGIONS if any(self._has(direction, r) for direction in DIRECTIONS)]
        if "lesion" not in regions:
            return ["## Tumour regions", "", "No test subject has a segmented tumour or lesion.", ""]
        lines = [
            "## Tumour regions",
            "",
            "Each cell: PSNR in dB / mean absolute error / bias (synthetic − acquired).",
            "",
        ]
        for direction in DIRECTIONS:
            counts = {r: len(self.scores.by_subject(self.ours, direction, r, "psnr")) for r in regions}
            heads = [f"{REGIONS[r]} (n = {counts[r]})" for r in regions]
            rows = [[m, *(self._in_region(m, direction, r) for r in regions)] for m in self.scores.methods]
            lines += [f"### {compare.title(direction)}", "", *table(["", *heads], rows), ""]
        return [*lines, self._state("`lesion`"), ""]

    def _in_region(self, method: str, direction: str, region: str) -> str:
        forms = {"psnr": ".2f", "mae": ".3f", "bias": "+.3f"}
        return " / ".join(self._mean(method, direction, region, score, form) for score, form in forms.items())

    def _has(self, direction: str, region: str) -> bool:
        return bool(self.scores.by_subject(self.ours, direction, region, "psnr"))

    def _peers(self) -> list[str]:
        heads = [f"`{p}` {s} {compare.title(d)}" for p, s in PEERS for d in DIRECTIONS]
        rows = [
            [m, *(self._mean(m, d, p, s, ".2f" if s == "psnr" else ".3f") for p, s in PEERS for d in DIRECTIONS)]
            for m in self.scores.methods
        ]
        return [
            "## By the rules of others",
            "",
            "For a look at the tables of SelfRDB, ResViT and SynDiff only; their rules scale every slice by itself "
            "(`mrsynth_training/peers.py` says how).",
            "",
            *table(["", *heads], rows),
            "",
            self._state("as named"),
            "",
        ]

    def _files(self) -> list[str]:
        names: Sequence[str] = [item.checkpoint.name for item in self.outcome.trained]
        return [
            "## Files",
            "",
            "- Every score of every subject: [tables/scores.csv](tables/scores.csv)",
            "- Checkpoints, for `mrsynth models add` and 3D Slicer: "
            + ", ".join(f"[{name}](checkpoints/{name})" for name in names),
            "- Split: [store/split.json](store/split.json)",
        ]
