"""One brain through the main job, on real MRML: `make demo`, or `mrsynth demo` with slicer-core.

Without an input the T1-weighted MNI152 template is taken, which comes with nilearn; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer

from MRSynthLib.engine.errors import MRSynthError, OutputError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.intensity import SCALE
from MRSynthLib.engine.provenance import DISCLAIMER
from MRSynthLib.engine.volume import Volume

from . import figure, mrml, results
from .background import RunProgress
from .nodes import set_window

TEMPLATE = "mni152_t1"


@dataclass(frozen=True)
class Outcome:
    """What the demo made.

    Attributes
    ----------
    facts : dict
        The run in lines of a table: what it is called, and what it was.
    files : dict
        Path by what it is: "NRRD", "NIfTI", "scene", "picture".
    """

    facts: dict[str, str]
    files: dict[str, Path]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from a command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="mrsynth demo", description=__doc__.split("\n")[0])
    parser.add_argument("--input", type=Path, help="T1 or T2: .nii, .nii.gz, .nrrd, .mha or a DICOM folder")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for what is made")
    parser.add_argument("--model", help="path or installed name of a checkpoint (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    arguments = parser.parse_args(argv)
    try:
        outcome = run(arguments.input, arguments.output, arguments.model, arguments.device)
    except MRSynthError as error:
        print(f"mrsynth demo: {error} [{error.code}]", file=sys.stderr)
        return error.exit_code
    for table in (outcome.facts, outcome.files):
        for key, value in table.items():
            print(f"{key:<12} {value}")
        print()
    print(DISCLAIMER)
    return 0


def run(input_path: Path | None, output: Path, model: str | None = None, device: str = "auto") -> Outcome:
    """Synthesize the other contrast of one volume, on an MRML scene, and save result, scene and picture.

    Parameters
    ----------
    input_path : Path or None
        T1 or T2; None for the MNI152 template. Never written to.
    output : Path
        Folder; made if it is not there. Files of an earlier run on the same input are replaced.
    model, device
        As in `Synthesizer`.

    Raises
    ------
    MRSynthError
        As the engine's; OutputError where the folder cannot be made.
    """
    from MRSynth import MRSynthLogic

    volume = read_volume(input_path) if input_path is not None else None
    output = output.resolve()  # scene bundles are written to full paths only
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-not-writable", f"'{output}' cannot be made: {error}.", "a folder.") from error
    if volume is None:
        input_path = _template(output)
        volume = read_volume(input_path)

    scene = slicer.vtkMRMLScene()
    source = _shown(scene, volume)
    difference = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{volume.name} [cycle difference]")
    run = MRSynthLogic().start(source, model=model, device=device, cycleNode=difference, onProgress=_tell)
    synthetic = run.wait()

    about = {name.removeprefix("MRSynth."): synthetic.GetAttribute(name) for name in synthetic.GetAttributeNames()}
    start, _, end = about["Direction"].partition(" to ")
    stem = f"{volume.name}_synthetic-{end}"
    endings = {"NRRD": "nrrd", "NIfTI": "nii.gz", "scene": "mrb", "picture": "png"}
    files = {what: output / f"{stem}.{ending}" for what, ending in endings.items()}
    made = volume.replaced(mrml.volume_from_node(synthetic).voxels)
    write_volume(made, files["NIfTI"], description=about["Description"], overwrite=True)
    _save(lambda path: _write_node(synthetic, path), files["NRRD"])
    _save(lambda path: bool(scene.WriteToMRB(str(path))), files["scene"])
    _draw(volume, made, mrml.volume_from_node(difference), about, files["picture"])
    facts = {
        "Input": f"{input_path} ({' x '.join(map(str, volume.shape[::-1]))})",
        "Recognised": f"{start}: {about['SourceContrastReason']}",
        "Checkpoint": f"{about['Model']}, SHA-256 {about['ModelSHA256']}",
        "Device": f"{about['Device']}, {about['Precision']}: {about['DeviceReason']}",
        "Seconds": f"{about['Seconds']} (there, and back for the cycle difference)",
    }
    return Outcome(facts, files)


def _window(volume: Volume) -> float:
    """Up to where a source is shown: its 99.5th percentile above 0."""
    above = volume.voxels[volume.voxels > 0]
    return float(np.percentile(above, 99.5)) if above.size else 1.0


def _shown(scene: slicer.vtkMRMLScene, volume: Volume) -> slicer.vtkMRMLScalarVolumeNode:
    """A node of the source, in its window."""
    node = scene.AddNode(mrml.node_from_volume(volume))
    set_window(node, 0, _window(volume))
    return node


def _draw(source: Volume, made: Volume, difference: Volume, about: Mapping[str, str], path: Path) -> None:
    """Draw source, result and cycle difference, with what must be known of them."""
    start, _, end = about["Direction"].partition(" to ")
    window = _window(source)
    panels = (
        figure.Panel(source, f"{start}, source: {source.name}   (window 0 to {window:.4g})", window),
        figure.Panel(made, f"SYNTHETIC {end}   (window 0 to {SCALE})", SCALE, synthetic=True),
        figure.Panel(
            difference,
            f"cycle difference |{start} - G(G({start}))|   (window 0 to {results.CYCLE_WINDOW}, same units)",
            results.CYCLE_WINDOW,
            colours="inferno",
        ),
    )
    notes = (
        f"SYNTHETIC. {DISCLAIMER}",
        f"Checkpoint {about['Model']}, SHA-256 {about['ModelSHA256'][:12]}. "
        f"Synthetic units: {SCALE} is the 99.5th percentile of brain. The patient's right is on the left.",
    )
    figure.draw(panels, path, f"MRSynth: {start} to {end}", notes)


def _template(folder: Path) -> Path:
    """Save nilearn's MNI152 T1 (1 mm, skull-stripped) as a file, once."""
    from nilearn.datasets import load_mni152_template

    path = folder / f"{TEMPLATE}.nii.gz"
    if not path.exists():
        image = load_mni152_template(resolution=1)
        template = Volume(np.asarray(image.dataobj, dtype=np.float32).T, image.affine, name=TEMPLATE)
        write_volume(template, path, description="MNI152 T1 template, by nilearn")
    return path


def _tell(progress: RunProgress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.fraction:4.0%} {progress.stage:<12}", end="", file=sys.stderr, flush=True)
        if progress.fraction >= 1:
            print("\r" + " " * 20 + "\r", end="", file=sys.stderr)


def _save(write: Callable[[Path], bool], path: Path) -> None:
    """Let MRML write a file in a folder of its own beside `path`, under its name; then move it there."""
    with tempfile.TemporaryDirectory(prefix=".mrsynth-", dir=path.parent) as folder:
        aside = Path(folder) / path.name
        if not write(aside):
            raise OutputError("output-not-writable", f"'{path}' could not be written.", "a folder to write to.")
        aside.replace(path)


def _write_node(node: slicer.vtkMRMLVolumeNode, path: Path) -> bool:
    """Write NRRD as 3D Slicer does, with the node's provenance attributes in the header."""
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    return bool(storage.WriteData(node))


if __name__ == "__main__":
    sys.exit(main())
