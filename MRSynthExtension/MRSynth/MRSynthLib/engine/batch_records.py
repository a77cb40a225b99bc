"""What a batch run remembers in its output folder: which results are there, from which bits they were made.

A record is written by whoever made the result, right before and right after the files get their names. So nothing that
was finished is lost with the process that asked for it, and nothing is done twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Cancelled, OutputError
from .locks import only_one
from .writing import sha256_of, write_aside, write_error

STATE = ".mrsynth"
VERSION = 1
GO_ON = "Run the same command again to go on; what is done is kept."

Record = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """A file, or a folder of DICOM images, that a run wrote: its role, its path below the output folder, its bits."""

    role: str
    path: str
    sha256: str
    stamp: str


class Records:
    """The records of one output folder.

    Parameters
    ----------
    output : Path
        It need not exist before something is written.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / STATE / "records"
        self.partial = output / STATE / "partial"
        self.looks = output / STATE / "looks.json"
        self.run = output / STATE / "run"

    def prepare(self) -> None:
        """Make the folders, and clear what a run that was cut short has left half-written.

        Raises
        ------
        OutputError
            output-not-writable, output-full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(exist_ok=True)
            for aside in self.folder.glob(".mrsynth-*"):
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the output folder; the lock ends with this process, however it ends.

        Raises
        ------
        OutputError
            batch-running, output-not-writable, output-full.
        """
        with only_one(self.output / STATE / "lock") as alone:
            if not alone:
                raise OutputError("batch-running", f"Another run works in '{self.output}'.", "one run at a time.")
            yield

    @contextlib.contextmanager
    def wanted(self, run: str) -> Iterator[None]:
        """Have the jobs of a run go on meanwhile.

        A worker of a cluster may outlive the command that asked for the work, and see no more of it than this folder.

        Raises
        ------
        OutputError
            output-not-writable, output-full.
        """
        try:
            self.run.write_text(run, encoding="ascii")
        except OSError as error:
            raise write_error(self.run, error) from error
        try:
            yield
        finally:
            # Emptied, not removed: nobody can remove a file on Windows while a worker reads it. It may be
            # another run's by now, where there are no locks.
            with contextlib.suppress(OSError):
                if self.run.read_text(encoding="ascii") == run:
                    self.run.write_text("", encoding="ascii")

    def check_wanted(self, run: str) -> None:
        """End a job whose run has ended, or was followed by another one; "" is a run that does not end.

        Raises
        ------
        Cancelled
        """
        try:
            ended = bool(run) and self.run.read_text(encoding="ascii") != run
        except FileNotFoundError:
            ended = True
        except OSError:  # a file system in trouble says nothing about the run
            ended = False
        if ended:
            raise Cancelled("The run that this was done for has ended.", GO_ON)

    def read(self, name: str) -> Record | None:
        """A record; None where there is none, or none that can be read."""
        try:
            record = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        sound = (
            isinstance(record, dict) and record.get("version") == VERSION and isinstance(record.get("outputs"), list)
        )
        return record if sound else None

    def write(self, name: str, record: Record) -> None:
        """Write a record, whole or not at all.

        Raises
        ------
        OutputError
            output-not-writable, output-full, output-folder-missing.
        """
        write_json(self.folder / f"{name}.json", {"version": VERSION, **record})

    def outputs(self, record: Record | None) -> list[Output]:
        """The outputs that a record names."""
        found = (record or {}).get("outputs", [])
        return [Output(**{key: str(one.get(key, "")) for key in ("role", "path", "sha256", "stamp")}) for one in found]

    def intact(self, record: Record | None, *, by_content: bool) -> bool:
        """Whether all outputs of a finished record are there as they were written.

        Parameters
        ----------
        record : dict
        by_content : bool
            By their SHA-256; else by size and time, which is quick.
        """
        outputs = self.outputs(record)
        if record is None or record.get("state") != "done" or not outputs:
            return False
        for one in outputs:
            path = self.output / one.path
            try:
                same = sha256_of(path) == one.sha256 if by_content else stamp([path]) == one.stamp
            except OSError:
                return False
            if not same:
                return False
        return True

    @contextlib.contextmanager
    def workplace(self, name: str) -> Iterator[Path]:
        """A folder for half-written files on the disk of the results; removed in the end.

        Raises
        ------
        OutputError
            output-not-writable, output-full.
        """
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.partial))
        except OSError as error:
            raise write_error(self.partial / name, error) from error
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def write_json(path: Path, document: Any) -> None:
    """Write JSON for people and machines, whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


def stamp(paths: Sequence[Path]) -> str:
    """What changes when files change, without reading them: size and time of each; a folder stands for its files.

    Raises
    ------
    OSError
        Where one is not there.
    """
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            found = file.stat()
            digest.update(f"{file.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
