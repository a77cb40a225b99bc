"""The ways into MRSynth, each as something that takes a broken input and tells what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from MRSynthLib.engine.errors import ERRORS, FAMILIES

from .case import Asked, ImpossibleError

HERE = Path(__file__).resolve()
PATIENCE = 20.0  # seconds that a case may take
GUARD = 6 << 30  # bytes of address space that a child may take: it protects the machine that the corpus runs on


@dataclass(frozen=True)
class Answer:
    """What came of an input.

    Attributes
    ----------
    code : int or None
        Exit code; None where the process died or had to be killed.
    error : str
        Code of the error, "" after a success.
    out, err : str
        What was printed.
    seconds : float
        From question to answer, without the time that the process stood in the queue for a processor (on Linux): other
        work of the machine is not its fault.
    memory : int
        Most bytes that were in use, 0 where that is not known.
    wrote : tuple of Path
        The files that belong to a success.
    """

    code: int | None
    error: str
    out: str
    err: str
    seconds: float
    memory: int
    wrote: tuple[Path, ...]


class Door(Protocol):
    """A way in."""

    name: str

    def ask(self, asked: Asked, folder: Path) -> Answer:
        """Let it work on what lies in `folder`."""

    def close(self) -> None:
        """End what was started."""


def environment() -> dict[str, str]:
    """Of children: they find the engine and the tests' helpers, and use one thread and no GPU."""
    search = [str(HERE.parents[1]), str(HERE.parents[3]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, search)), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **own}


def guard() -> None:
    """Limit the address space of this process, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (GUARD, GUARD))


class Watch:
    """Seconds since it was made, less those in which a process wanted to run and other work had the processors."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begin, self._queued = time.monotonic(), self._queue()

    def seconds(self) -> float:
        return max(0.0, time.monotonic() - self._begin - max(0.0, self._queue() - self._queued))

    def _queue(self) -> float:
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self._pid}/schedstat").read_text().split()[1]) / 1e9
        return 0.0


class Child:
    """A process that answers in lines, with an eye on its memory; what it writes to stderr is kept."""

    def __init__(self, command: list[str]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment(),
            cwd=tempfile.gettempdir(),
            preexec_fn=guard if os.name == "posix" else None,
        )
        self._heard = b""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def lines(self, patience: float) -> Iterator[str]:
        """Its lines until `patience` seconds are over (TimeoutError) or it ends (EOFError)."""
        watch = Watch(self.process.pid)
        assert self.process.stdout is not None
        while True:
            while b"\n" in self._heard:  # what nobody asked for stays for the next time
                line, _, self._heard = self._heard.partition(b"\n")
                yield line.decode()
            ready, _, _ = select.select([self.process.stdout], [], [], 1.0)
            if not ready:
                if watch.seconds() > patience:
                    raise TimeoutError
                continue
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                self.process.wait()
                raise EOFError
            self._heard += piece

    def forget(self) -> None:
        """Begin to measure memory anew, and drop what was written to stderr."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        self.errors.seek(0)
        self.errors.truncate()

    def memory(self) -> int:
        """Most bytes in use since `forget`."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
        return 0

    def said(self) -> str:
        """What it has written to stderr since `forget`."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def end(self) -> int:
        self.process.kill()
        code = self.process.wait()
        self.errors.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code


def _cli_arguments(asked: Asked, model: Path) -> list[str]:
    more = ["--from", "t1", "--model", str(model), "--device", "cpu", "--json"]
    return ["synthesize", asked.input, "-o", asked.output, *more]


def _cli_files(asked: Asked, folder: Path) -> tuple[Path, ...]:
    from MRSynthLib.engine.sidecar_tags import sidecar_path

    output = folder / asked.output
    return (output, sidecar_path(output))


def _cli_error(out: str) -> str:
    """The error's code on stdout; "" for a success, a note for anything else."""
    lines = out.splitlines()
    try:
        (only,) = lines
        return str(json.loads(only).get("error", {}).get("code", ""))
    except ValueError:
        return f"no JSON: {out[:200]}"


class ResidentCli:
    """`mrsynth synthesize`, in one process for all."""

    name = "cli"

    def __init__(self, model: Path) -> None:
        self.model = model
        self.child: Child | None = None

    def ask(self, asked: Asked, folder: Path) -> Answer:
        if self.child is None:
            self.child = Child(["-m", "robustness.resident"])
        self.child.forget()
        watch = Watch(self.child.process.pid)
        self.child.say(json.dumps({"argv": _cli_arguments(asked, self.model), "cwd": str(folder)}))
        try:
            told = json.loads(next(self.child.lines(PATIENCE)))
        except (TimeoutError, EOFError) as error:
            seconds, memory = watch.seconds(), self.child.memory()
            died = f"{type(error).__name__}, signal or code {self.child.end()}"
            self.child = None
            return Answer(None, died, "", "", seconds, memory, ())
        seconds = watch.seconds()
        files = _cli_files(asked, folder) if told["code"] == 0 else ()
        error = _cli_error(told["out"])
        return Answer(told["code"], error, told["out"], told["err"], seconds, self.child.memory(), files)

    def close(self) -> None:
        if self.child is not None:
            self.child.end()


class FreshCli:
    """`mrsynth synthesize`, in a process of its own."""

    name = "fresh cli"

    def __init__(self, model: Path) -> None:
        self.model = model

    def ask(self, asked: Asked, folder: Path) -> Answer:
        arguments = [sys.executable, "-m", "MRSynthLib.engine.cli", *_cli_arguments(asked, self.model)]
        if any("\0" in argument for argument in arguments):
            raise ImpossibleError("no process takes an argument with a NUL")
        code, out, err, seconds, memory = _run_once(arguments, folder)
        files = _cli_files(asked, folder) if code == 0 else ()
        return Answer(code, _cli_error(out), out, err, seconds, memory, files)

    def close(self) -> None:
        pass


def _run_once(arguments: list[str], folder: Path) -> tuple[int | None, str, str, float, int]:
    """Exit code (None after `PATIENCE`), stdout, stderr, seconds, memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            arguments,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env=environment(),
            cwd=folder,
            preexec_fn=guard if os.name == "posix" else None,
        )
        memory, watch, seconds = 0, Watch(process.pid), 0.0
        while (code := process.poll()) is None and seconds < PATIENCE:
            seconds = watch.seconds()
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process.pid}/status").read_text()
                found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:")]
                memory = max(memory, int(found[0]) << 10) if found else memory
            time.sleep(0.01)
        if code is None:
            process.kill()
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code if code is not None and code >= 0 else None, texts[0], texts[1], seconds, memory


class Worker:
    """The worker process, kept for all."""

    name = "worker"

    def __init__(self, model: Path) -> None:
        self.model = model
        self.child: Child | None = None
        self.requests = Path(tempfile.mkdtemp(prefix="robustness-"))
        self.count = 0

    def ask(self, asked: Asked, folder: Path) -> Answer:
        request, output = self._request(asked, folder)
        if self.child is None:
            self.child = Child(worker_command(request))
            watch = Watch(self.child.process.pid)
        else:
            self.child.forget()
            watch = Watch(self.child.process.pid)
            self.child.say(json.dumps({"request": str(request)}))
        events: list[dict[str, Any]] = []
        try:
            for line in self.child.lines(PATIENCE):
                events.append(json.loads(line))
                if events[-1]["event"] == "idle":
                    break
        except (TimeoutError, EOFError) as error:
            seconds, memory, said = watch.seconds(), self.child.memory(), self.child.said()
            died = f"{type(error).__name__}, signal or code {self.child.end()}"
            self.child = None
            return Answer(None, died, json.dumps(events[-1:]), said, seconds, memory, ())
        seconds = watch.seconds()
        code, error_code, files = _outcome(events[-2], output)
        return Answer(
            code, error_code, json.dumps(events[-2])[:500], self.child.said(), seconds, self.child.memory(), files
        )

    def _request(self, asked: Asked, folder: Path) -> tuple[Path, Path]:
        """A request file in a folder of its own, and where the result goes: the folder of the case's output."""
        self.count += 1
        output = (folder / asked.output).parent
        request = self.requests / f"{self.count}.json"
        about = {
            "input": os.path.join(folder, asked.input),  # noqa: PTH118 - an empty name stays one
            "output_dir": str(output),
            "model": str(self.model),
            "device": "cpu",
            "source": "t1",
        }
        request.write_text(json.dumps(about))
        return request, output

    def close(self) -> None:
        import shutil

        if self.child is not None:
            self.child.end()
        shutil.rmtree(self.requests)


class FreshWorker(Worker):
    """The worker process, one for each."""

    name = "fresh worker"

    def ask(self, asked: Asked, folder: Path) -> Answer:
        request, output = self._request(asked, folder)
        arguments = [sys.executable, "-m", "MRSynthLib.engine.worker", str(request)]
        code, out, err, seconds, memory = _run_once(arguments, folder)
        lines = out.splitlines()
        _, error_code, files = _outcome(json.loads(lines[-1]), output) if lines else (0, "no last event", ())
        return Answer(code, error_code, out[-500:], err, seconds, memory, files)


def worker_command(request: Path) -> list[str]:
    """A worker that stays."""
    return ["-m", "MRSynthLib.engine.worker", str(request), "--end-with", str(os.getpid()), "--serve", "600"]


def _outcome(event: dict[str, Any], output: Path) -> tuple[int, str, tuple[Path, ...]]:
    """Exit code, error code and files by the worker's last event."""
    if event["event"] == "result":
        return 0, "", (output / event["voxels"],)
    code = str(event.get("code", event))
    return (FAMILIES[ERRORS[code].family].exit_code if code in ERRORS else 1), code, ()
