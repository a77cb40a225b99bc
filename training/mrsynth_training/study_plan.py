"""What a study consists of: its presets, experiments and seeds, and where its parts lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrsynth_training import config
from mrsynth_training.config import Config
from mrsynth_training.errors import TrainingError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRESETS = {  # from the paper's weakest generator to its own
    "paper": ("paper_unet.yaml", "paper_resnet.yaml", "paper.yaml"),
    "quick": ("study/quick_unet.yaml", "study/quick_resnet.yaml", "study/quick.yaml"),
}
SEEDS = {"paper": (1, 2, 3), "quick": (1,)}
ONE_GENERATOR = ("self_inverse", "self_inverse_paired")
LABELS = {"DenseUNet": "DenseU-net", "UNet": "U-net", "ResNet": "ResNet"}


@dataclass(frozen=True)
class Study:
    """What a study is made of.

    Attributes
    ----------
    data, out : Path
        Folder of the volumes, and the study's own.
    experiments : tuple of Config
        Each trained with every seed; the last one is tested against the others.
    seeds : tuple of int
    split : str
        As `prepare` takes it; "auto" is the paper's where there are enough patients, else the same shares.
    accelerator, devices : str
        As `train` takes them.
    threads : int, optional
    jobs : int
        Studies prepared and scored at once.
    broken : {"stop", "skip"}
        What an incomplete or damaged study of the data does.
    """

    data: Path
    out: Path
    experiments: tuple[Config, ...]
    seeds: tuple[int, ...]
    split: str = "auto"
    accelerator: str = "auto"
    devices: str = "1"
    threads: int | None = None
    jobs: int = 1
    broken: str = "stop"

    def labels(self) -> list[str]:
        """What the experiments are called: by generator if that tells them apart, else by their own names."""
        names = [LABELS.get(e.generator.name, e.generator.name) for e in self.experiments]
        return names if len(set(names)) == len(names) else [e.name for e in self.experiments]


@dataclass(frozen=True)
class Trained:
    """One generator of a study, trained with one seed."""

    label: str
    seed: int
    experiment: Config
    run: Path
    checkpoint: Path

    @property
    def name(self) -> str:
        """Unique in the study."""
        return f"{self.label}, seed {self.seed}"


def experiments(preset: str, files: Sequence[Path] = ()) -> tuple[Config, ...]:
    """The experiments of a preset, or of YAML files.

    Raises
    ------
    TrainingError
        If a file cannot be read, two experiments have one name or different frames, or one has two generators.
    """
    found = tuple(config.load(path) for path in files or [CONFIGS / name for name in PRESETS[preset]])
    if len({e.name for e in found}) < len(found) or len({e.frame for e in found}) > 1:
        seen = ", ".join(f"{e.name} ({e.frame})" for e in found)
        raise TrainingError(f"experiments {seen}", "different names and one frame", "Correct the YAML files")
    two = [e.name for e in found if e.framework not in ONE_GENERATOR]
    if two:
        raise TrainingError(
            f"one generator per direction in {', '.join(two)}",
            "one generator for both directions (self_inverse, self_inverse_paired)",
            "Train and export it by hand, and use `mrsynth-train compare`",
        )
    return found


def engine_device(accelerator: str) -> str:
    """The engine's name of what Fabric calls an accelerator."""
    return accelerator if accelerator in ("cpu", "cuda", "mps") else "auto"
