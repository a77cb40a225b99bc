"""Who does the work: this process, Dask workers on this machine, or those of a cluster's scheduler."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from . import devices
from .batch_size import available_memory, size
from .errors import DeviceError, InstallError
from .process import error_document

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 16  # jobs per worker that the scheduler knows of; the rest waits here
ATTEMPTS = 3  # workers that may die of one job
TOPIC = "mrsynth-batch"
_PATIENCE = 30.0  # seconds to reach a scheduler
_TOLD_EVERY = 1.0  # seconds between two messages of a worker

Item = tuple[int, Any]
Outcome = dict[str, Any]
Work = Callable[..., Outcome]
Tell = Callable[[int, float, str], None]


class Workers(Protocol):
    """Those who carry out jobs; a context in which they are there.

    Attributes
    ----------
    count : int
        How many there are.
    about : str
        The same for people, for the report.
    notice : str
        What the user should know at once, or "".
    """

    count: int
    about: str
    notice: str

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
    about = "one at a time, in one process"
    notice = ""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """See `Workers`."""
        for number, job in items:
            yield number, work(job, lambda fraction, stage, n=number: tell(n, fraction, stage))


class Local:
    """Dask workers on this machine, a process each.

    Parameters
    ----------
    device : str
        As asked for by the user.
    wanted : int, optional
        How many; by default as many as the machine can feed, see `size`.

    Raises
    ------
    InstallError
        batch-package.
    """

    count = 0
    about = "no worker was needed"
    notice = ""

    def __init__(self, device: str = "auto", wanted: int | None = None) -> None:
        _need_dask()
        self._asked = device, wanted
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Local:
        import dask
        from distributed import Client, Nanny, Scheduler, SpecCluster

        device, wanted = self._asked
        self.size = size(devices.probe(), available_memory(), device=device, wanted=wanted)
        self.count = len(self.size.devices)
        self.about = f"{self.count} workers of {self.size.threads} threads ({self.size.reason})"

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
                    "preload": [__name__],
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
        self.notice = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Remote:
        from distributed import Client

        try:
            self._client = self._stack.enter_context(Client(self.address, timeout=_PATIENCE))
        except (OSError, ValueError, TimeoutError) as error:
            seen = f"The scheduler {self.address} does not answer ({error})."
            raise DeviceError("batch-scheduler", seen, "the address of a Dask scheduler.") from error
        self.count = self._workers()
        if not self.count:
            self.notice = f"the scheduler {self.address} has no workers yet; the run begins with the first one"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _workers(self) -> int:
        return len(self._client.nthreads())

    def run(self, work: Work, items: Iterable[Item], tell: Tell) -> Iterator[tuple[int, Outcome]]:
        """See `Workers`."""

        def count() -> int:
            self.count = self._workers()
            return max(1, self.count)

        return _run(self._client, count, work, items, tell)


def dask_setup(worker: object) -> None:
    """Leave it to the command how Ctrl-C ends the run; Dask calls this in each worker process that names us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
        room = AHEAD * count() - len(numbers)
        if 2 * room < AHEAD * count():  # many at a time: each message to the scheduler has its price
            return
        items = list(itertools.islice(waiting, room))
        if items:
            keys = [f"mrsynth-{number}-{run}" for number, _ in items]
            numbers.update(zip(keys, (number for number, _ in items), strict=True))
            jobs, marks = [job for _, job in items], [(run, number) for number, _ in items]
            done.update(client.map(_on_worker, [work] * len(items), jobs, marks, key=keys, pure=False, retries=0))

    def heard(event: tuple[Any, Any]) -> None:
        content = event[1]
        if isinstance(content, dict) and content.get("run") == run:
            tell(content["number"], content["fraction"], content["stage"])

    client.subscribe_topic(TOPIC, heard)
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
            client.unsubscribe_topic(TOPIC)
            client.cancel(list(done.futures))


def _death(error: Exception) -> dict[str, str]:
    """The error of a job that no worker survived, or that could not be sent to one."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        seen = f"{ATTEMPTS} workers died of it, the last one was {error.last_worker.address}."
        return error_document(DeviceError("worker-died", seen, "a worker that lives to the end.", "See docs/batch.md."))
    return error_document(error)


def _on_worker(work: Work, job: Any, mark: tuple[str, int]) -> Outcome:
    """Carry out a job on a Dask worker; tell how far it is from time to time."""
    from distributed import get_worker

    worker, (run, number) = get_worker(), mark
    told = time.monotonic()

    def tell(fraction: float, stage: str) -> None:
        nonlocal told
        if time.monotonic() >= told + _TOLD_EVERY:
            told = time.monotonic()
            worker.log_event(TOPIC, {"run": run, "number": number, "fraction": fraction, "stage": stage})

    return work(job, tell)


def device_of_this_worker(asked: str) -> str:
    """The device that this worker was given by `Local`, unless the user asked for a certain one."""
    return os.environ.get("MRSYNTH_BATCH_DEVICE", asked) if asked in ("auto", "cuda") else asked
