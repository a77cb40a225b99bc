"""The command `mrsynth` on real files: what it writes, says and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from conftest import REPOSITORY

from MRSynthLib import __version__
from MRSynthLib.engine import checkpoint, model_folders, synthesize_cli
from MRSynthLib.engine.cli import main
from MRSynthLib.engine.errors import FAMILIES, OutputError
from MRSynthLib.engine.files import read_volume, write_volume
from MRSynthLib.engine.synthesis import Synthesizer
from MRSynthLib.engine.volume import Volume
from MRSynthLib.engine.writing import write_together

COMMAND = [sys.executable, "-m", "MRSynthLib.engine.cli"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom_t1: Volume) -> Path:
    """The current folder, with t1.nii.gz in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_volume(phantom_t1, tmp_path / "t1.nii.gz")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def synthesize(tiny_checkpoint: Path, *arguments: str) -> int:
    return main(["synthesize", *arguments, "--model", str(tiny_checkpoint)])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_it_writes_image_and_sidecar_and_nothing_else(
    folder: Path, tiny_checkpoint: Path, phantom_t1: Volume, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", f"t2{ending}") == 0
    assert names(folder) == sorted(["t1.nii.gz", "t2.json", f"t2{ending}"])
    assert capfd.readouterr() == ("", "")  # quiet in a pipe

    written = read_volume(folder / f"t2{ending}")
    here = Synthesizer(tiny_checkpoint, "cpu").synthesize(phantom_t1)
    np.testing.assert_array_equal(written.voxels, here.volume.voxels)
    np.testing.assert_allclose(written.ijk_to_ras, phantom_t1.ijk_to_ras, atol=1e-9)

    document = json.loads((folder / "t2.json").read_text(encoding="utf-8"))
    assert document["synthetic"] is True
    assert document["Sources"] == ["t1.nii.gz"]
    source = (folder / "t1.nii.gz").read_bytes()
    assert document["SourceSHA256"] == hashlib.sha256(source).hexdigest()
    assert document["Model"] == {
        "Name": "tiny-untrained",
        "SHA256": hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest(),
    }
    assert document["GeneratedBy"][0]["Version"] == __version__


def test_the_files_are_readable_for_whom_the_user_wants(folder: Path, tiny_checkpoint: Path) -> None:
    if os.name == "nt":
        pytest.skip("POSIX permissions")
    before = os.umask(0o027)
    try:
        synthesize(tiny_checkpoint, "t1.nii.gz", "-o", "t2.nii")
    finally:
        os.umask(before)
    assert [oct((folder / name).stat().st_mode & 0o777) for name in ("t2.nii", "t2.json")] == ["0o640"] * 2


def test_json_for_machines(folder: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", "t2.nrrd", "--cycle", "cycle.mha", "--json") == 0
    out, err = capfd.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["output"] == "t2.nrrd"
    assert document["sidecar"] == "t2.json"
    assert document["cycle"] == "cycle.mha"
    assert document["synthetic"] is True
    assert (document["source_contrast"], document["target_contrast"]) == ("t1", "t2")
    documented = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8").partition("after a success of")[2]
    for key in document:
        assert f"`{key}`" in documented.partition("\n\n")[0], key
    assert document["device_reason"]
    assert names(folder) == ["cycle.mha", "t1.nii.gz", "t2.json", "t2.nrrd"]
    assert read_volume("cycle.mha").shape == read_volume("t1.nii.gz").shape


def test_direction_and_mask_are_taken_as_told(
    folder: Path, tiny_checkpoint: Path, phantom_t1: Volume, phantom_mask: np.ndarray
) -> None:
    # the mask on a grid of its own: every second voxel along k
    half = phantom_t1.ijk_to_ras @ np.diag([1.0, 1.0, 2.0, 1.0])
    write_volume(Volume(phantom_mask[::2].astype(np.uint8), half), folder / "mask.nrrd")
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", "out.nii", "--from", "t1", "--mask", "mask.nrrd") == 0
    document = json.loads((folder / "out.json").read_text())
    assert document["ContrastReason"] == "as told"
    assert document["BrainMask"]["Source"] == "mask.nrrd"
    assert document["BrainMask"]["SHA256"] == hashlib.sha256((folder / "mask.nrrd").read_bytes()).hexdigest()
    voxels = read_volume(folder / "out.nii").voxels
    assert voxels.any()
    assert not voxels[::2][~phantom_mask[::2]].any()


def test_to_alone_says_the_direction(folder: Path, tiny_checkpoint: Path, phantom_t2: Volume) -> None:
    write_volume(phantom_t2, folder / "in.mha")
    assert synthesize(tiny_checkpoint, "in.mha", "-o", "out.mha", "--to", "t1") == 0
    assert json.loads((folder / "out.json").read_text())["TargetContrast"] == "T1w"


def test_force_replaces_other_files(folder: Path, tiny_checkpoint: Path) -> None:
    for name in ("t2.nii", "t2.json", "cycle.nii"):
        (folder / name).write_text("old")
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", "t2.nii", "--cycle", "cycle.nii", "--force") == 0
    assert nibabel.load(folder / "t2.nii").shape == nibabel.load(folder / "cycle.nii").shape
    assert json.loads((folder / "t2.json").read_text())["synthetic"] is True


def appearing(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make somebody write a file while the network is at work."""
    real = synthesize_cli._run

    def run(*arguments: Any) -> Any:
        result = real(*arguments)
        path.write_text("acquired")
        return result

    monkeypatch.setattr(synthesize_cli, "_run", run)


@pytest.mark.parametrize("name", ["t2.nii", "t2.json", "cycle.nii"])
def test_what_appears_during_the_run_is_not_overwritten(
    folder: Path, tiny_checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    appearing(monkeypatch, folder / name)
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", "t2.nii", "--cycle", "cycle.nii") == 5
    assert "[output-exists]" in capfd.readouterr().err
    assert (folder / name).read_text() == "acquired"
    assert names(folder) == sorted(["t1.nii.gz", name])


@pytest.mark.parametrize("links", [True, False])
def test_nor_what_appears_at_the_last_moment(folder: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError) as caught, write_together([folder / "a", folder / "b"]):
        (folder / "b").write_text("acquired")
    assert caught.value.code == "output-exists"
    assert names(folder) == ["b", "t1.nii.gz"]
    assert (folder / "b").read_text() == "acquired"


def no_links(*_: Any, **__: Any) -> None:
    """Stands in for os.link on FAT."""
    raise PermissionError(1, "Operation not permitted")


def test_of_two_commands_with_one_output_one_is_refused(
    folder: Path, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    arguments = ["synthesize", "t1.nii.gz", "-o", "t2.nii.gz", "--model", str(tiny_checkpoint), "--json"]
    commands = [
        subprocess.Popen([*COMMAND, *arguments], env=child_environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [json.loads(command.communicate(timeout=240)[0]) for command in commands]
    assert sorted(command.returncode for command in commands) == [0, 5]
    assert sorted(one.get("error", {}).get("code", "") for one in said) == ["", "output-exists"]
    assert names(folder) == ["t1.nii.gz", "t2.json", "t2.nii.gz"]
    assert json.loads((folder / "t2.json").read_text())["synthetic"] is True


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("busy", ["t2.nii", "t2.json", "cycle.nii"])
def test_what_cannot_be_replaced_leaves_all_as_it_was(
    folder: Path,
    tiny_checkpoint: Path,
    busy: str,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As on Windows, where a program that has a file open keeps others from replacing it."""
    before = {"t2.nii": "old image", "t2.json": "old sidecar"}
    for name, text in before.items():
        (folder / name).write_text(text)
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == busy:
            raise PermissionError(13, "being used by another process", str(target))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    if not links or busy not in before:  # with links, a new file is not renamed
        monkeypatch.setattr(os, "link", no_links)
    arguments = ["t1.nii.gz", "-o", "t2.nii", "--cycle", "cycle.nii", "--overwrite"]
    assert synthesize(tiny_checkpoint, *arguments) == 5
    assert "[output-not-writable]" in capfd.readouterr().err
    assert names(folder) == ["t1.nii.gz", *sorted(before)]
    assert {name: (folder / name).read_text() for name in before} == before
    monkeypatch.setattr(Path, "replace", real)
    assert synthesize(tiny_checkpoint, *arguments) == 0
    assert names(folder) == ["cycle.nii", "t1.nii.gz", "t2.json", "t2.nii"]


def test_a_warning_goes_to_stderr_unless_quiet(
    folder: Path, tiny_checkpoint: Path, phantom_t1: Volume, capfd: pytest.CaptureFixture[str]
) -> None:
    voxels = phantom_t1.voxels.astype(np.float32)
    voxels[0, 0, 0] = np.nan
    write_volume(phantom_t1.replaced(voxels), folder / "holes.nii")
    assert synthesize(tiny_checkpoint, "holes.nii", "-o", "a.nii") == 0
    assert "mrsynth: warning: 1 voxels were not finite" in capfd.readouterr().err
    assert synthesize(tiny_checkpoint, "holes.nii", "-o", "b.nii", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert len(json.loads((folder / "b.json").read_text())["Warnings"]) == 1


def test_all_or_nothing_when_the_disk_takes_the_image_but_not_the_sidecar(
    folder: Path, tiny_checkpoint: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    synthesize(tiny_checkpoint, "t1.nii.gz", "-o", str(small_disk / "t2.nii.gz"))
    page = 4096
    pages = -(-(small_disk / "t2.nii.gz").stat().st_size // page)
    for path in small_disk.iterdir():
        path.unlink()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filling").write_bytes(b"x" * (free - pages * page))
    assert synthesize(tiny_checkpoint, "t1.nii.gz", "-o", str(small_disk / "t2.nii.gz"), "--json") == 5
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "output-full"
    assert names(small_disk) == ["filling"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_limit_on_file_size_leaves_nothing(
    folder: Path, tiny_checkpoint: Path, child_environment: dict[str, str], ending: str
) -> None:
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [*COMMAND, "synthesize", "t1.nii.gz", "-o", f"t2{ending}", "--model", str(tiny_checkpoint), "--json"],
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert done.returncode == 5, done.stderr
    assert json.loads(done.stdout)["error"]["code"] in ("output-full", "output-not-writable")
    assert names(folder) == ["t1.nii.gz"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and terminals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_and_leaves_nothing(
    folder: Path,
    slow_checkpoint: Path,
    tall_phantom: Volume,
    child_environment: dict[str, str],
    number: signal.Signals,
) -> None:
    """On a terminal, where the progress bar says when the network is at work."""
    import pty

    write_volume(tall_phantom, folder / "tall.nii")
    before = names(folder)
    ours, theirs = pty.openpty()
    arguments = [
        "synthesize",
        "tall.nii",
        "-o",
        "t2.nii",
        "--cycle",
        "c.nii",
        "--model",
        str(slow_checkpoint),
    ]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=child_environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup and "&" have it ignored
    ) as command:
        os.close(theirs)
        shown = b""
        while b"synthesize" not in shown:
            shown += os.read(ours, 4096)
        command.send_signal(number)
        shown += drained(ours)
        assert command.wait(60) == 7
    assert b"[####" in shown or b"[###" in shown
    assert b"mrsynth: The run was cancelled." in shown
    assert b"Traceback" not in shown
    assert names(folder) == before


def drained(descriptor: int) -> bytes:
    """Read a terminal to its end, which is an error on Linux."""
    text = b""
    try:
        while block := os.read(descriptor, 4096):
            text += block
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return text


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_a_terminal_sees_progress_and_a_summary(
    folder: Path, tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [*COMMAND, "synthesize", "t1.nii.gz", "-o", "t2.nii", "--model", str(tiny_checkpoint)]
    with subprocess.Popen(command, env=child_environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = drained(ours).decode()
        assert process.wait(60) == 0
    bar, _, summary = shown.rpartition("\r ")
    assert "restore" in bar
    assert "100%" in bar
    assert "SYNTHETIC T2w from T1w" in summary
    assert "t2.nii in " in summary
    assert "1 threads (OMP_NUM_THREADS)" in summary


def test_info_shows_use_and_limits_of_a_model(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tiny_checkpoint)]) == 0
    text = capfd.readouterr().out
    card = checkpoint.read_card(tiny_checkpoint)
    assert text.startswith("tiny-untrained\n==============\n")
    for value in ("T1w <-> T2w", "never trained", "native", "growth=4", "Apache-2.0", card["weights_sha256"]):
        assert value in text
    assert max(map(len, text.replace(str(tiny_checkpoint), "").splitlines())) <= 100


def test_info_as_json_is_the_card(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tiny_checkpoint), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document == {"path": str(tiny_checkpoint), "card": checkpoint.read_card(tiny_checkpoint)}


def test_info_and_models_import_no_torch(tiny_checkpoint: Path, child_environment: dict[str, str]) -> None:
    program = (
        "import sys; from MRSynthLib.engine.cli import main\n"
        f"assert main(['info', {str(tiny_checkpoint)!r}]) == 0 and main(['models', '--verify']) in (0, 4)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=child_environment, check=True, capture_output=True)


def test_models_lists_and_verifies(
    folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    models = folder / "models"
    models.mkdir()
    monkeypatch.setenv(model_folders.USER_MODELS, str(models))
    shutil.copy(tiny_checkpoint, models / "good.safetensors")
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-1] ^= 1
    (models / "spoilt.safetensors").write_bytes(data)

    def listed(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["models", "--json", *arguments])
        found = json.loads(capfd.readouterr().out)["models"]
        return code, {Path(entry["path"]).stem: entry for entry in found}

    code, entries = listed()
    assert code == 0  # the cards are whole; only --verify reads the weights
    assert entries["good"]["status"] == "not verified"
    assert entries["good"]["frame"] == "native"

    code, entries = listed("--verify")
    assert code == 4
    assert entries["good"]["status"] == "verified"
    assert entries["spoilt"]["status"] == "broken"
    assert entries["spoilt"]["error"]["code"] == "model-hash"

    assert main(["models", "--verify"]) == 4
    text = capfd.readouterr().out
    assert "verified" in text
    assert "broken" in text


@pytest.mark.parametrize("before", [True, False])
def test_models_are_added_and_removed(
    folder: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    before: bool,
) -> None:
    monkeypatch.setenv(model_folders.USER_MODELS, str(folder / "models"))
    path = folder / "models" / "tiny-untrained.safetensors"

    def as_json(*arguments: str) -> tuple[int, dict[str, Any]]:
        command = ["models", "--json", *arguments] if before else ["models", *arguments, "--json"]
        return main(command), json.loads(capfd.readouterr().out)

    assert as_json("add", str(tiny_checkpoint)) == (0, {"added": str(path)})
    assert main(["models"]) == 0
    assert str(path) in capfd.readouterr().out
    assert main(["info", "tiny-untrained"]) == 0
    capfd.readouterr()
    assert as_json("remove", "tiny-untrained") == (0, {"removed": str(path)})
    assert not path.exists()
    code, document = as_json("remove", "tiny-untrained")
    assert (code, document["error"]["code"]) == (4, "model-not-found")
    assert main(["models", "add", str(tiny_checkpoint)]) == 0
    assert capfd.readouterr().out == f"tiny-untrained added: {path}\n"


def test_a_shipped_model_is_not_removed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "remove", model_folders.DEFAULT]) == 4
    assert "[model-shipped]" in capfd.readouterr().err
    assert model_folders.find().is_file()


def test_devices_tells_speed_and_reason(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--model", str(tiny_checkpoint), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    cpu = next(one for one in document["devices"] if one["device"] == "cpu")
    assert cpu["seconds_per_megapixel"] > 0
    assert "OMP_NUM_THREADS" in cpu["reason"]
    assert document["model"] == "tiny-untrained"
    assert document["automatic"] in [one["device"] for one in document["devices"]]

    assert main(["devices", "--model", str(tiny_checkpoint)]) == 0
    text = capfd.readouterr().out
    assert f"PyTorch {document['torch_version']}" in text
    assert cpu["reason"] in text
    assert text.count("automatic") == 1


def test_a_model_by_its_installed_name(folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "models").mkdir()
    shutil.copy(tiny_checkpoint, folder / "models" / "mine.safetensors")
    monkeypatch.setenv(model_folders.USER_MODELS, str(folder / "models"))
    assert main(["synthesize", "t1.nii.gz", "-o", "t2.nii", "--model", "mine"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["synthesize"],
        ["synthesize", "t1.nii.gz"],
        ["synthesize", "t1.nii.gz", "-o", "t2.nii", "--from", "pd"],
        ["synthesize", "t1.nii.gz", "-o", "t2.nii", "--from", "t2", "--to", "t2"],
        ["models", "--unknown"],
        ["screen", "t1.nii.gz", "--serie", "4"],
        ["models", "--verif"],
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_usage(
    folder: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("mrsynth: ")
    assert main([*arguments, "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert error["code"] == error["family"] == "usage"
    assert all(error[key] for key in ("message", "seen", "expected", "remedy"))
    assert names(folder) == ["t1.nii.gz"]


@pytest.mark.parametrize("arguments", [["--help"], ["synthesize", "--help"], ["--version"]])
def test_help_and_version_go_to_stdout(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    out, err = capfd.readouterr()
    assert __version__ in out if "--version" in arguments else "exit codes:" in out
    assert err == ""


def test_demo_hands_its_arguments_on(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("slicer")
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--help"])
    assert caught.value.code == 0
    assert "--output" in capfd.readouterr().out


def test_it_starts_without_the_heavy_libraries(child_environment: dict[str, str]) -> None:
    program = (
        "import sys, MRSynthLib.engine.cli\n"
        "sys.exit(', '.join({'torch', 'SimpleITK', 'nibabel', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=child_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_two_runs_write_the_same_bytes(folder: Path, tiny_checkpoint: Path) -> None:
    for name in ("a", "b"):
        synthesize(tiny_checkpoint, "t1.nii.gz", "-o", f"{name}.nii.gz", "--device", "cpu")
        time.sleep(1.1)  # a second later: a time stamp in the file would show
    assert (folder / "a.nii.gz").read_bytes() == (folder / "b.nii.gz").read_bytes()


def test_the_documentation_knows_every_command_option_and_exit_code(
    child_environment: dict[str, str],
) -> None:
    def shown(*command: str) -> str:
        arguments = [*COMMAND, *command, "--help"]
        return subprocess.run(arguments, env=child_environment, capture_output=True, text=True, check=True).stdout

    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in ("synthesize", "info", "models", "devices", "demo"):
        assert command in shown()
        assert f"`mrsynth {command}" in text
    for change in ("add FILE", "remove NAME"):
        name, what = change.split()
        assert what in shown("models", name)
        assert f"`mrsynth models {change}`" in text
    for command in ("synthesize", "info", "models", "devices"):
        for option in set(re.findall(r"(?<![\w-])--[a-z]+", shown(command))):
            assert f"`{option}`" in text or f"{option}`" in text, option
    for family, kind in FAMILIES.items():
        assert f"| {kind.exit_code} | `{family}` |" in text
