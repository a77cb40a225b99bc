"""Who does the work: this process, Dask workers on this machine, or those of a cluster's scheduler."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from . import devices
from .errors import DeviceError, InstallError
from .process import error_document

if TYPE_CHECKING:
    from distributed import Client

    from .devices import Machine

MEMORY_OF_A_WORKER = 3 << 30  # bytes; a volume of 512 x 512 x 400 at 1 mm and less has room in it
MEMORY_OF_A_GPU_WORKER = 8 << 30  # bytes of the GPU
AHEAD = 4  # jobs per worker that the scheduler knows of; the rest waits here
ATTEMPTS = 3  # workers that may die of one job
TOPIC = "mrsynth-batch"
_PATIENCE = 30.0  # seconds to reach a scheduler

Item = tuple[int, Any]
Outcome = dict[str, Any]
Work = Callable[..., Outcome]
Tell = Callable[[int, float, str], None]


class Workers(Protocol):
    """Those who carry out jobs; a context in which they are there."""

    count: int
    about: str

    def __enter__(self) -> Workers: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """Carry out ``work(job)`` for each (number, job), and yield numbers and outcomes as they come."""
        ...


class Inline:
    """The calling process, one job after the other: without Dask, and with progress within a volume."""

    count = 1
    about = "one at a time, in this process"

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """See `Workers`."""
        for number, job in items:
            yield number, work(job, lambda fraction, stage, n=number: tell(n, fraction, stage))


@dataclass(frozen=True)
class Size:
    """Workers on this machine: for each one its device, and its share of CPU threads."""

    devices: tuple[str, ...]
    threads: int
    reason: str


def size(machine: Machine, memory: int, cores: int, *, device: str = "auto", wanted: int | None = None) -> Size:
    """How many workers a machine can feed, by its GPUs, memory and cores.

    Parameters
    ----------
    machine : Machine
    memory : int
        Bytes that are available.
    cores : int
        CPU threads to share.
    device : str
        As asked for by the user.
    wanted : int, optional
        Number of workers as asked for; only their devices and threads are decided then.
    """
    room = max(1, memory // MEMORY_OF_A_WORKER)
    gpus = [gpu for gpu in machine.gpus if device in ("auto", "cuda", f"cuda:{gpu.index}")]
    if gpus and device != "cpu":
        # Several volumes per card: while one is on it, others are read, prepared and written.
        slots = [f"cuda:{gpu.index}" for gpu in gpus for _ in range(max(1, gpu.free // MEMORY_OF_A_GPU_WORKER))]
        slots.sort(key=lambda slot: sum(other == slot for other in slots[: slots.index(slot)]))
        rounds = [slot for n in range(len(slots)) for slot in _nth(slots, n)]
        count = wanted or min(len(rounds), room, max(1, cores // 2))
        chosen = tuple(rounds[n % len(rounds)] for n in range(count))
        why = f"{len(gpus)} GPU, {memory / 2**30:.0f} GiB of memory, {cores} cores"
    else:
        one = "mps" if device == "mps" or (device == "auto" and machine.mps) else "cpu"
        count = wanted or (1 if one == "mps" else min(room, cores))
        chosen = (one,) * count
        why = f"{memory / 2**30:.0f} GiB of memory, {cores} cores"
    return Size(chosen, max(1, cores // len(chosen)), why)


def _nth(slots: Sequence[str], n: int) -> list[str]:
    """The n-th slot of every device, so that devices are filled evenly."""
    return [slot for slot in dict.fromkeys(slots) if slots.count(slot) > n]


class Local:
    """Dask workers on this machine, a process each.

    Parameters
    ----------
    size : Size

    Raises
    ------
    InstallError
        batch-package.
    """

    def __init__(self, size: Size) -> None:
        _need_dask()
        self.size = size
        self.count = len(size.devices)
        self.about = f"{self.count} workers of {size.threads} threads ({size.reason})"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Local:
        import dask
        from distributed import Client, Nanny, Scheduler, SpecCluster

        settings = {  # a job holds its own memory: there is nothing that Dask could spill, and a pause would not end
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.comm.timeouts.connect": "30s",
        }
        self._stack.enter_context(dask.config.set(settings))
        threads = str(self.size.threads)
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        workers = {
            n: {
                "cls": Nanny,
                "options": {
                    "nthreads": 1,
                    "memory_limit": 0,
                    "silence_logs": 50,
                    "env": {**environment, "MRSYNTH_BATCH_DEVICE": device},
                    "dashboard": False,
                    "local_directory": None,
                },
            }
            for n, device in enumerate(self.size.devices)
        }
        scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
        cluster = SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50, name="mrsynth")
        self._stack.enter_context(cluster)
        self._client = self._stack.enter_context(Client(cluster))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """See `Workers`."""
        return _run(self._client, lambda: self.count, work, items, tell)


class Remote:
    """The workers of a Dask scheduler that runs already.

    Parameters
    ----------
    address : str
        "tcp://host:port".

    Raises
    ------
    InstallError
        batch-package.
    """

    def __init__(self, address: str) -> None:
        _need_dask()
        self.address = address
        self.count = 1
        self.about = f"the workers of {address}"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Remote:
        from distributed import Client

        try:
            self._client = self._stack.enter_context(Client(self.address, timeout=_PATIENCE))
        except (OSError, ValueError, TimeoutError) as error:
            seen = f"The scheduler {self.address} does not answer ({error})."
            raise DeviceError("batch-scheduler", seen, "the address of a Dask scheduler.") from error
        self.count = max(1, self._workers())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _workers(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """See `Workers`."""

        def count() -> int:
            self.count = max(1, self._workers())
            return self.count

        return _run(self._client, count, work, items, tell)


def has_dask() -> bool:
    """Whether Dask is installed."""
    return importlib.util.find_spec("distributed") is not None


def _need_dask() -> None:
    if not has_dask():
        raise InstallError("batch-package", "Dask is not installed.", "Dask, or --workers 0 to do without.")


def _run(
    client: Client, count: Callable[[], int], work: Work, items: Iterable[Item], tell: Tell
) -> Iterator[tuple[int, Outcome]]:
    """Keep the scheduler supplied with a few jobs per worker, and yield outcomes as they come."""
    from distributed import CancelledError, as_completed

    waiting = iter(items)
    numbers: dict[str, int] = {}
    run = uuid.uuid4().hex[:8]
    done = as_completed()

    def supply() -> None:
        while len(numbers) < AHEAD * count():
            number, job = next(waiting, (None, None))
            if number is None:
                return
            key = f"mrsynth-{number}-{run}"
            numbers[key] = number
            done.add(client.submit(_on_worker, work, job, number, key=key, pure=False, retries=0))

    def heard(event: tuple[Any, Any]) -> None:
        content = event[1]
        if isinstance(content, dict) and content.get("run") == run:
            tell(content["number"], content["fraction"], content["stage"])

    supply()
    try:
        for future in done:
            number = numbers.pop(future.key)
            try:
                outcome = future.result()
            except (CancelledError, OSError, TimeoutError) as error:
                seen = "The connection to the scheduler was lost."
                raise DeviceError("batch-scheduler", seen, "a scheduler that runs until the end.") from error
            except Exception as error:
                outcome = {"status": "failed", "error": _death(error)}
            future.release()
            supply()
            yield number, outcome
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.cancel(list(done.futures))


def _death(error: Exception) -> dict[str, str]:
    """The error of a job that no worker survived, or that could not be sent to one."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        seen = f"{ATTEMPTS} workers died of it, the last one was {error.last_worker.address}."
        return error_document(DeviceError("worker-died", seen, "a worker that lives to the end.", "See docs/batch.md."))
    return error_document(error)


def _on_worker(work: Work, job: Any, number: int) -> Outcome:
    """Carry out a job on a Dask worker."""
    return work(job)


def device_of_this_worker(asked: str) -> str:
    """The device that this worker was given by `Local`, unless the user asked for a certain one."""
    return os.environ.get("MRSYNTH_BATCH_DEVICE", asked) if asked in ("auto", "cuda") else asked


def machine_size(device: str, wanted: int | None) -> Size:
    """The workers for this machine; see `size`."""
    machine = devices.probe()
    return size(machine, available_memory(), machine.threads, device=device, wanted=wanted)


def available_memory() -> int:
    """Bytes of memory that this process may still take: of the machine, and of its container."""
    import psutil

    return min(psutil.virtual_memory().available, *_limits())


def _limits() -> list[int]:
    """The container's limit (Linux control groups, version 2), where there is one."""
    found = [1 << 62]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return found
