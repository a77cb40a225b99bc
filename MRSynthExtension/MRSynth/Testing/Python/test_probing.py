"""The probe as a child process: what it finds comes back, whatever goes wrong has a name, and nothing stays behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MRSynthLib.desktop.probing import DeviceProbe
from MRSynthLib.engine.errors import Cancelled, DeviceError, InstallError, ModelError


def finished(probe: DeviceProbe) -> DeviceProbe:
    probe.start()
    while not probe.poll(timeout=0.2):
        pass
    return probe


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Whether a process that is not our child ends within some seconds."""
    for _ in range(100):
        if not is_running(pid) or Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def python_that(tmp_path: Path, program: str) -> str:
    """A stand-in for the interpreter, which does something else than it is told."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{program}\n")
    path.chmod(0o755)
    return str(path)


SLEEPER = "import time; print('awake', flush=True); time.sleep(60)"


def test_it_finds_the_cpu_and_its_speed_without_torch_in_this_process(
    tiny_checkpoint: Path, child_environment: dict[str, str]
) -> None:
    program = (
        "import sys\n"
        "from MRSynthLib.desktop.probing import DeviceProbe\n"
        f"probe = DeviceProbe({str(tiny_checkpoint)!r}); probe.start()\n"
        "while not probe.poll(0.2): pass\n"
        "found = probe.result()\n"
        "cpu = next(one for one in found.devices if one.device == 'cpu')\n"
        "print(found.model, cpu.usable, cpu.seconds_per_megapixel > 0, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tiny-untrained", "True", "True", "False"]


def test_a_model_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"text")
    probe = finished(DeviceProbe(tmp_path / "bad.safetensors"))
    with pytest.raises(ModelError) as caught:
        probe.result()
    assert caught.value.code == "model-not-safetensors"


@pytest.mark.parametrize("broken", ["torch", "safetensors"])
def test_a_package_that_cannot_be_imported_is_an_error_of_the_installation(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / broken
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('[WinError 126] fbgemm.dll or one of its dependencies')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe = finished(DeviceProbe())
    with pytest.raises(InstallError, match=r"fbgemm\.dll") as caught:
        probe.result()
    assert caught.value.code == "install-broken"


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("import sys; print('Segmentation', file=sys.stderr); sys.exit(3)", "exit code 3"),
        ("print('hello')", "exit code 0"),
        ("print('{}')", "exit code 0"),
        ("print('[1]')", "exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ('print(\'{"error": {"code": "unexpected", "message": "Oops"}}\'); exit(1)', "Oops"),
        ('print(\'{"error": {"code": "no-such"}}\'); exit(1)', "exit code 1"),
    ],
)
def test_a_child_that_says_nothing_sensible_is_a_dead_one(program: str, seen: str, tmp_path: Path) -> None:
    probe = finished(DeviceProbe(python=python_that(tmp_path, program)))
    with pytest.raises(DeviceError, match=seen) as caught:
        probe.result()
    assert caught.value.code == "worker-died"
    if "Segmentation" in program:
        assert "Segmentation" in caught.value.seen


def test_an_interpreter_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    probe = DeviceProbe(python=str(tmp_path / "no python"))
    with pytest.raises(DeviceError, match="no python"):
        probe.start()
    probe.cancel()


def test_cancel_ends_the_child(tmp_path: Path) -> None:
    probe = DeviceProbe(python=python_that(tmp_path, SLEEPER))
    probe.start()
    assert not probe.poll(timeout=5)
    pid = probe.pid
    assert is_running(pid)
    probe.cancel()
    assert not is_running(pid)
    assert probe.poll()
    with pytest.raises(Cancelled):
        probe.result()
    probe.cancel()  # once more does nothing


def test_a_probe_that_is_forgotten_ends_its_child(tmp_path: Path) -> None:
    probe = DeviceProbe(python=python_that(tmp_path, SLEEPER))
    probe.start()
    assert not probe.poll(timeout=5)
    pid = probe.pid
    del probe
    gc.collect()
    assert not is_running(pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_child_does_not_outlive_a_killed_application(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """The real child, which would need a minute to import torch."""
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    search = os.pathsep.join([str(tmp_path), child_environment["PYTHONPATH"]])
    program = (
        "import os, signal, time\n"
        "from MRSynthLib.desktop.probing import DeviceProbe\n"
        "probe = DeviceProbe(); probe.start()\n"
        "print(probe.pid, flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    surroundings = {**child_environment, "PYTHONPATH": search}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True) as application:
        assert application.stdout is not None
        pid = int(application.stdout.readline())
        time.sleep(1.5)  # until it imports
        assert is_running(pid)
        application.send_signal(signal.SIGKILL)
        application.wait()
    assert gone(pid)


def test_it_is_started_once_and_has_a_result_when_over(tmp_path: Path) -> None:
    probe = DeviceProbe(python=python_that(tmp_path, SLEEPER))
    with pytest.raises(RuntimeError, match="not started"):
        probe.poll()
    with pytest.raises(RuntimeError, match="not over"):
        probe.result()
    probe.start()
    with pytest.raises(RuntimeError, match="once"):
        probe.start()
    probe.cancel()
