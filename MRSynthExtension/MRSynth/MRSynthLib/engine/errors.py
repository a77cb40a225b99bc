"""Errors that say what was seen, what was expected and what to do.

Every error of the engine is an `MRSynthError` with a stable code. `ERRORS` is the one list of codes; the table
in ``docs/errors.md`` is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    """What a code stands for: its family (which fixes the exit code), the cause and the remedy, in plain words."""

    family: str
    cause: str
    remedy: str


ERRORS: dict[str, ErrorKind] = {
    "input-not-found": ErrorKind("input", "The path does not exist.", "Check the path."),
    "input-not-an-image": ErrorKind(
        "input", "The file is of a type that is not read.", "Give .nii, .nii.gz, .nrrd, .mha or a DICOM folder."
    ),
    "input-corrupt": ErrorKind(
        "input", "The file is truncated or damaged.", "Copy or export the image again from its source."
    ),
    "input-not-3d": ErrorKind("input", "The image has two, or more than three, dimensions.", "Extract one 3-D volume."),
    "input-color": ErrorKind("input", "The voxels are colours or vectors.", "Give a scalar (grey) volume."),
    "input-label-map": ErrorKind(
        "input", "The voxels look like labels, not like intensities.", "Give the MR volume, and labels as the mask."
    ),
    "input-empty": ErrorKind("input", "No voxel is above zero.", "Check that the right volume was chosen."),
    "input-constant": ErrorKind("input", "All voxels are equal.", "Check that the right volume was chosen."),
    "input-not-finite": ErrorKind(
        "input", "No voxel holds a finite number.", "Check the processing step that made the file."
    ),
    "input-spacing": ErrorKind(
        "input", "The voxel spacing is zero, negative, not finite or absurd.", "Repair the header."
    ),
    "input-affine": ErrorKind("input", "The voxel-to-world matrix is singular or not finite.", "Repair the header."),
    "input-too-few-slices": ErrorKind("input", "An axis has fewer than 5 voxels.", "Give a volume, not a few slices."),
    "input-too-large": ErrorKind(
        "input", "The header claims more voxels than can be worked on.", "Crop or downsample the volume."
    ),
    "input-contrast-unknown": ErrorKind(
        "input", "It is not clear whether the volume is T1- or T2-weighted.", "Say it: --from t1 or --from t2."
    ),
    "input-planes": ErrorKind(
        "input", "The slices are too thick for passes in three planes.", "Run with --planes axial."
    ),
    "input-screened": ErrorKind(
        "input",
        "The volume is no brain MR, lies otherwise than its header says, or has another contrast than T1 or T2.",
        "Look at it with `mrsynth screen`; --force goes on nevertheless, --from t1 or t2 tells the contrast.",
    ),
    "dicom-slices": ErrorKind(
        "input", "Slices of the series are missing, doubled or unevenly spaced.", "Export the whole series again."
    ),
    "dicom-mosaic": ErrorKind(
        "input", "The series is a Siemens mosaic.", "Split it, for example with dcm2niix, and give the result."
    ),
    "dicom-compressed": ErrorKind(
        "input", "No decoder for the compression of the images is installed.", "pip install 'mrsynth[dicom]'."
    ),
    "dicom-several": ErrorKind(
        "input", "Several series fit.", "Name one with --series, as `mrsynth dicom list` shows them."
    ),
    "dicom-series-unknown": ErrorKind(
        "input", "No series has that name.", "Give number or UID, as `mrsynth dicom list` shows them."
    ),
    "dicom-unsuitable": ErrorKind(
        "input", "No series is one that synthesis should start from.", "Name one with --series to take it nevertheless."
    ),
    "mask-empty": ErrorKind("input", "The brain mask marks no voxel of the volume.", "Check the mask."),
    "mask-off-grid": ErrorKind(
        "input", "The mask lies elsewhere in space than the volume.", "Give a mask of the same patient space."
    ),
    "mask-unreadable": ErrorKind("input", "The mask could not be read as a label volume.", "Check the mask file."),
    "reference-unusable": ErrorKind(
        "input",
        "The reference of --like shows no brain, or cannot be read.",
        "Give a volume of the wanted contrast, of a brain.",
    ),
    "reference-contrast": ErrorKind(
        "input",
        "The reference of --like is not of the contrast that is to be made.",
        "Give a volume of the wanted contrast from the same scanner or patient, or none.",
    ),
    "batch-list": ErrorKind(
        "input", "The list of examinations cannot be used.", "Give a table with the columns subject, t1 and t2."
    ),
    "batch-nothing": ErrorKind(
        "input", "There is no examination to work on.", "Check the path; name the layout with --layout."
    ),
    "batch-doubled": ErrorKind(
        "input", "Several examinations have the same name.", "Name each differently, or list them in a CSV file."
    ),
    "batch-running": ErrorKind(
        "output", "Another batch run works in this output folder.", "Wait until it has ended, or choose another folder."
    ),
    "batch-scheduler": ErrorKind(
        "device",
        "The cluster's scheduler cannot be reached, or a worker does not fit.",
        "Check address and workers; run the same command again to go on.",
    ),
    "batch-package": ErrorKind(
        "install",
        "A Python package that batch runs on several workers need is not installed.",
        "pip install 'mrsynth[batch]'.",
    ),
    "score-not-synthetic": ErrorKind(
        "input", "The volume to score is not one that MRSynth made.", "Choose a synthetic volume."
    ),
    "score-not-acquired": ErrorKind(
        "input",
        "The volume to score against is synthetic itself, or the source.",
        "Choose the acquired volume of the contrast that was made.",
    ),
    "score-no-overlap": ErrorKind(
        "input",
        "The synthetic and the acquired volume have no brain in common.",
        "Choose a volume of the same examination; one of another examination must be registered first.",
    ),
    "score-changed": ErrorKind("input", "A volume was changed or removed while it was scored.", "Score again."),
    "model-not-found": ErrorKind(
        "model", "There is no such checkpoint.", "List the installed ones with `mrsynth models`."
    ),
    "model-hash": ErrorKind(
        "model", "The weights are not those that the card was written for.", "Download the checkpoint again."
    ),
    "model-truncated": ErrorKind("model", "The checkpoint file ends too early.", "Download the checkpoint again."),
    "model-not-safetensors": ErrorKind(
        "model",
        "The file is not a safetensors file (a pickle is never opened).",
        "Export with `mrsynth-train export`.",
    ),
    "model-card": ErrorKind(
        "model", "The checkpoint's card is missing or lacks fields.", "Export with `mrsynth-train export`."
    ),
    "model-version": ErrorKind("model", "The checkpoint needs a newer MRSynth.", "Update MRSynth."),
    "model-generator": ErrorKind(
        "model", "The card names a generator or arguments that MRSynth does not have.", "Update MRSynth."
    ),
    "model-shape": ErrorKind(
        "model", "The weights do not fit the generator of the card.", "Export with `mrsynth-train export`."
    ),
    "model-reliability": ErrorKind(
        "model",
        "The checkpoint has no calibration, or one that cannot be used, so that there is no reliability map.",
        "Run without it, or calibrate the checkpoint with `mrsynth-train calibrate`.",
    ),
    "model-direction": ErrorKind(
        "model",
        "The checkpoint was not trained for this direction.",
        "Choose a checkpoint that was, or go the other way.",
    ),
    "model-name-taken": ErrorKind(
        "model", "Another checkpoint of that name is installed.", "Remove that one first, or export under a new name."
    ),
    "model-shipped": ErrorKind(
        "model", "The checkpoint is a part of MRSynth.", "Keep it; only added ones are removed."
    ),
    "output-folder-missing": ErrorKind("output", "The output's folder does not exist.", "Create the folder."),
    "output-not-writable": ErrorKind(
        "output", "The output cannot be written there.", "Choose a folder that you may write to."
    ),
    "output-full": ErrorKind("output", "The disk is full.", "Free space, or choose another disk."),
    "output-exists": ErrorKind(
        "output", "The output file exists.", "Choose another name, or overwrite with --overwrite."
    ),
    "output-is-input": ErrorKind(
        "output", "The output would overwrite the input.", "Choose another name (--overwrite does not help)."
    ),
    "output-format": ErrorKind(
        "output", "The output's ending is not one that is written.", "End in .nii, .nii.gz, .nrrd or .mha."
    ),
    "dicom-grid": ErrorKind(
        "output",
        "The volume does not lie on the slices of the source series.",
        "Export it as .nrrd, or make it from the series as it was loaded.",
    ),
    "dicom-send": ErrorKind(
        "output",
        "The DICOM node could not be reached, or did not take everything.",
        "Check host, port and both AE titles with whoever administers the node, then send again.",
    ),
    "device-unavailable": ErrorKind(
        "device", "The device or precision is not there.", "Use --device auto, or install its driver."
    ),
    "device-out-of-memory": ErrorKind(
        "device", "Even the smallest batch does not fit into memory.", "Close programs, or crop the volume."
    ),
    "worker-died": ErrorKind(
        "device", "The background process ended without a result.", "Run again; the message holds its last words."
    ),
    "dicom-no-source": ErrorKind(
        "output",
        "The result's source was not loaded from DICOM, so there is no study to put it into.",
        "Load the source with the DICOM module, or save the result as NRRD or NIfTI.",
    ),
    "run-in-progress": ErrorKind("device", "Another run is under way.", "Wait until it has ended, or cancel it."),
    "run-failed": ErrorKind(
        "device", "Something went wrong in the application that should not.", "Report it as a bug, with the log."
    ),
    "install-declined": ErrorKind(
        "install", "The installation was not agreed to.", "Press Install when you want it; nothing was changed."
    ),
    "install-extension-missing": ErrorKind(
        "install",
        "The PyTorch extension of 3D Slicer is not installed.",
        "View > Extensions Manager, search for PyTorch, Install, restart 3D Slicer. Or install from a folder.",
    ),
    "install-network": ErrorKind(
        "install",
        "The download server cannot be reached.",
        "Check the network and try again; without one, use Install from folder.",
    ),
    "install-proxy": ErrorKind(
        "install",
        "The proxy refuses the connection or cannot be reached.",
        "Set HTTPS_PROXY to http://user:password@host:port before 3D Slicer starts, or use Install from folder.",
    ),
    "install-certificate": ErrorKind(
        "install",
        "The server's certificate is not trusted, as behind a firewall that opens encrypted traffic.",
        "Set PIP_CERT to your hospital's certificate file (.pem) before 3D Slicer starts, or use Install from folder.",
    ),
    "install-path-too-long": ErrorKind(
        "install",
        "A path is longer than Windows allows (260 characters).",
        "Enable long paths in Windows, or install 3D Slicer into a short path such as C:\\Slicer.",
    ),
    "install-disk-full": ErrorKind(
        "install", "The disk is full.", "Free some space on the disk of 3D Slicer, then press Install again."
    ),
    "install-not-writable": ErrorKind(
        "install",
        "The Python folder of 3D Slicer may not be written to.",
        "Install 3D Slicer into a folder of your own, or ask whoever administers it to press Install once.",
    ),
    "install-in-use": ErrorKind(
        "install",
        "A file of PyTorch is in use by a running program.",
        "Restart 3D Slicer and press Install before anything else.",
    ),
    "install-no-build": ErrorKind(
        "install",
        "There is no build of PyTorch for this system and version of Python.",
        "Use a current 3D Slicer on 64-bit Windows, macOS or Linux.",
    ),
    "install-wheels-missing": ErrorKind(
        "install",
        "The folder lacks packages that are needed.",
        "Collect them for this system and version of Python, see docs/install.md.",
    ),
    "install-broken": ErrorKind(
        "install",
        "PyTorch or safetensors is installed, but does not work.",
        "Restart 3D Slicer and press Install; it removes what is broken and installs anew.",
    ),
    "install-in-progress": ErrorKind("install", "An installation is under way.", "Wait until it has ended."),
    "install-failed": ErrorKind(
        "install", "The installer failed for another reason.", "The message holds its last words; try again once."
    ),
    "dicom-package": ErrorKind(
        "install", "A Python package that this needs is not installed.", "pip install 'mrsynth[dicom]'."
    ),
    "cancelled": ErrorKind("cancelled", "The run was cancelled.", "Run again when you like; nothing was written."),
}


class MRSynthError(Exception):
    """An error with a stable code.

    Parameters
    ----------
    code : str
        A key of `ERRORS`; any other raises `KeyError`, so that no undocumented code can exist.
    seen, expected, remedy : str
        What was found, what would have been right, and what to do about it.

    Attributes
    ----------
    exit_code : int
        The exit code of the command line for this family of errors.
    """

    exit_code = 1

    def __init__(self, code: str, seen: str, expected: str, remedy: str = "") -> None:
        self.code = code
        self.seen = seen
        self.expected = expected
        self.remedy = remedy or ERRORS[code].remedy
        self.kind = ERRORS[code]
        super().__init__(f"{seen} Expected: {expected} What to do: {self.remedy}")

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), (self.code, self.seen, self.expected, self.remedy)


class InputError(MRSynthError):
    """The input volume or mask cannot be used."""

    exit_code = 3


class ModelError(MRSynthError):
    """The checkpoint cannot be used."""

    exit_code = 4


class OutputError(MRSynthError):
    """The result cannot be written."""

    exit_code = 5


class DeviceError(MRSynthError):
    """The device cannot do the work."""

    exit_code = 6


class Cancelled(MRSynthError):
    """The run was stopped, by the user or by what the user did.

    Parameters
    ----------
    seen : str
        What stopped it.
    remedy : str
        What to do, where it is not true that nothing was written.
    """

    exit_code = 7

    def __init__(self, seen: str = "The run was cancelled.", remedy: str = "") -> None:
        super().__init__("cancelled", seen, "a run that goes on to its end.", remedy)

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), (self.seen, self.remedy)


class InstallError(MRSynthError):
    """What MRSynth needs could not be installed."""

    exit_code = 8


FAMILIES: dict[str, type[MRSynthError]] = {
    "input": InputError,
    "model": ModelError,
    "output": OutputError,
    "device": DeviceError,
    "install": InstallError,
    "cancelled": Cancelled,
}


def markdown_table() -> str:
    """All codes as the table of ``docs/errors.md``."""
    rows = [
        f"| `{code}` | {FAMILIES[kind.family].exit_code} | {kind.cause} | {kind.remedy} |"
        for code, kind in ERRORS.items()
    ]
    return "\n".join(["| code | exit | cause | remedy |", "|---|---|---|---|", *rows])
