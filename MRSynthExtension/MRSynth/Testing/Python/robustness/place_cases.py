"""Sound volumes with odd names in odd places, and places that go away."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from . import samples
from .case import Asked, Case, ImpossibleError

STEMS = {
    "spaces": "  a  b ",
    "a newline": "a\nb",
    "a carriage return": "a\rb",
    "a tab": "a\tb",
    "quotes": "a'b\"c`d",
    "a backslash": "a\\b",
    "Unicode": "Schädel-頭部-голова-🧠",
    "combining marks": "a\u0301\u0323",
    "right to left": "ראש\u202eiin",
    "zero width": "a\u200b\u2060b",
    "no Unicode": os.fsdecode(b"a\xff\xfeb"),
    "control characters": "a\x01\x1b[31mb\x7f",
    "a dash in front": "-o",
    "a dot in front": ".a",
    "two dots": "..a..",
    "percent signs": "%s%n%d",
    "braces": "{0}{a}",
    "a star": "a*?[b]",
    "a shell's words": "$(touch x);|&<>",
    "a name of Windows": "CON",
    "200 letters": "x" * 200,
    "a tilde": "~root",
    "capitals": "BAD.NII",
}
MOMENTS = 10  # at which a folder goes


def cases() -> Iterator[Case]:
    """All of them."""
    for name, stem in STEMS.items():
        for ending in (".nii.gz", ".nrrd", ".mha"):
            yield Case(f"name/{ending[1:]}/{name}", _named(stem, ending))
        yield Case(f"name/folder/{name}", _in_folder(stem))
        yield Case(f"name/dicom/{name}", _dicom_in(stem))
    for name, make in _odd_places().items():
        yield Case(f"place/odd/{name}", make)
    for n in range(MOMENTS):
        for what in ("output folder", "input file", "input folder", "dicom folder"):
            yield Case(f"place/vanishing/{what} {n}", _vanishing(what))


def _volume(ending: str) -> bytes:
    if ending == ".nii":
        return samples.nifti(1)
    return samples.nifti_gz() if ending == ".nii.gz" else samples.itk(ending)[f"bad{ending}"]


def _named(stem: str, ending: str) -> Callable[[Path, random.Random], Asked]:
    good = ending == ".nii.gz" or stem != STEMS["no Unicode"]  # ITK opens no such name

    def make(folder: Path, rng: random.Random) -> Asked:
        (folder / f"{stem}{ending}").write_bytes(_volume(ending))
        return Asked(f"./{stem}{ending}", f"./{stem} T2{ending}", good=good)

    return make


def _in_folder(stem: str) -> Callable[[Path, random.Random], Asked]:
    def make(folder: Path, rng: random.Random) -> Asked:
        (folder / stem).mkdir()
        (folder / stem / "in.nii").write_bytes(_volume(".nii"))
        return Asked(f"./{stem}/in.nii", f"./{stem}/out.nii", good=True)

    return make


def _dicom_in(stem: str) -> Callable[[Path, random.Random], Asked]:
    def make(folder: Path, rng: random.Random) -> Asked:
        (folder / stem).mkdir()
        for k, data in enumerate(samples.dicom()):
            (folder / stem / f"{stem[:100]}{k}").write_bytes(data)
        return Asked(f"./{stem}", "out.nii.gz", good=True)

    return make


def _vanishing(what: str) -> Callable[[Path, random.Random], Asked]:
    def make(folder: Path, rng: random.Random) -> Asked:
        (folder / "in").mkdir()
        (folder / "out").mkdir()
        (folder / "in" / "a.nii.gz").write_bytes(_volume(".nii.gz"))
        (folder / "series").mkdir()
        for k, data in enumerate(samples.dicom()):
            (folder / "series" / str(k)).write_bytes(data)
        path = {
            "output folder": "out",
            "input file": "in/a.nii.gz",
            "input folder": "in",
            "dicom folder": "series",
        }[what]
        source = "series" if what == "dicom folder" else "in/a.nii.gz"
        return Asked(source, "out/b.nii.gz", vanish=(path, rng.uniform(0, 0.12)))

    return make


def _odd_places() -> dict[str, Callable[[Path, random.Random], Asked]]:
    def plain(asked: Asked, prepare: Callable[[Path], object] = lambda folder: None) -> Callable[..., Asked]:
        def make(folder: Path, rng: random.Random) -> Asked:
            (folder / "a.nii.gz").write_bytes(_volume(".nii.gz"))
            prepare(folder)
            return asked

        return make

    def link(name: str, to: str) -> Callable[[Path], object]:
        return lambda folder: (folder / name).symlink_to(to)

    def two_links(folder: Path) -> None:
        (folder / "x.nii").symlink_to("y.nii")
        (folder / "y.nii").symlink_to("x.nii")

    def folder_loop(folder: Path) -> None:
        (folder / "d").mkdir()
        (folder / "d" / "d").symlink_to("../d")

    deep = "/".join(["d" * 200] * 15)
    return {
        "input is a link to itself": plain(Asked("x.nii"), link("x.nii", "x.nii")),
        "input is a loop of two links": plain(Asked("x.nii"), two_links),
        "input is a link to nowhere": plain(Asked("x.nii"), link("x.nii", "missing.nii")),
        "input is a link": plain(Asked("x.nii.gz", good=True), link("x.nii.gz", "a.nii.gz")),
        "input lies behind a loop": plain(Asked("x.nii/a.nii"), two_links),
        "input folder holds a link to itself": plain(Asked("d"), folder_loop),
        "output is a link to itself": plain(Asked("a.nii.gz", "x.nii"), link("x.nii", "x.nii")),
        "output is a loop of two links": plain(Asked("a.nii.gz", "x.nii"), two_links),
        "output is a link to nowhere": plain(Asked("a.nii.gz", "x.nii"), link("x.nii", "missing/x.nii")),
        "output lies behind a loop": plain(Asked("a.nii.gz", "x.nii/out.nii"), two_links),
        "output lies in a missing folder": plain(Asked("a.nii.gz", "missing/out.nii")),
        "output is a folder": plain(Asked("a.nii.gz", "out.nii"), lambda folder: (folder / "out.nii").mkdir()),
        "output name too long": plain(Asked("a.nii.gz", "x" * 300 + ".nii")),
        "output path too long": plain(Asked("a.nii.gz", f"{deep}/{deep}/out.nii")),
        "output with a NUL": plain(Asked("a.nii.gz", "a\0b.nii")),
        "input with a NUL": plain(Asked("a\0b.nii")),
        "input path too long": plain(Asked(f"{deep}/{deep}/in.nii")),
        "input is empty text": plain(Asked("")),
        "input is a pipe": plain(Asked("pipe.nii"), lambda folder: os.mkfifo(folder / "pipe.nii")),
        "input is a pipe named .nii.gz": plain(Asked("pipe.nii.gz"), lambda folder: os.mkfifo(folder / "pipe.nii.gz")),
        "input is a pipe named .nrrd": plain(Asked("pipe.nrrd"), lambda folder: os.mkfifo(folder / "pipe.nrrd")),
        "input is a pipe named .mha": plain(Asked("pipe.mha"), lambda folder: os.mkfifo(folder / "pipe.mha")),
        "input is /dev/zero": plain(Asked("zero.nii"), link("zero.nii", "/dev/zero")),
        "input is /dev/zero named .nii.gz": plain(Asked("zero.nii.gz"), link("zero.nii.gz", "/dev/zero")),
        "input is /dev/zero named .nrrd": plain(Asked("zero.nrrd"), link("zero.nrrd", "/dev/zero")),
        "input is /dev/zero named .mha": plain(Asked("zero.mha"), link("zero.mha", "/dev/zero")),
        "input is /dev/full": plain(Asked("full.nii"), link("full.nii", "/dev/full")),
        "input may not be read": plain(Asked("a.nii.gz"), _unreadable),
        "output folder is read-only": plain(Asked("a.nii.gz", "locked/out.nii.gz"), _read_only),
        "output folder is read-only, NRRD": plain(Asked("a.nii.gz", "locked/out.nrrd"), _read_only),
        "output disk is full": plain(Asked("a.nii.gz", "small/out.nii.gz"), _full),
        "output disk is full, MetaImage": plain(Asked("a.nii.gz", "small/out.mha"), _full),
        "output in /dev/full": plain(Asked("a.nii.gz", "/dev/full/out.nii")),
        "output in /proc": plain(Asked("a.nii.gz", "/proc/out.nii")),
    }


def _unreadable(folder: Path) -> None:
    if os.geteuid() == 0:
        raise ImpossibleError("root may read everything")
    (folder / "a.nii.gz").chmod(0)


def _read_only(folder: Path) -> None:
    (folder / "locked").mkdir()
    if os.geteuid():
        (folder / "locked").chmod(0o555)
    else:
        _mount(folder / "locked", "ro")


def _full(folder: Path) -> None:
    (folder / "small").mkdir()
    if os.geteuid():
        raise ImpossibleError("only root may mount a small disk")
    _mount(folder / "small", "size=64k")
    free = shutil.disk_usage(folder / "small").free
    (folder / "small" / "filling").write_bytes(bytes(free - 4096))


def _mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True, check=False).returncode:
        raise ImpossibleError("no file system may be mounted here")


def restore(folder: Path) -> None:
    """Undo what would keep a case's folder from being removed."""
    for name in ("locked", "small"):
        path = folder / name
        if path.is_dir():
            if os.path.ismount(path):
                subprocess.run(["umount", "--lazy", str(path)], check=True)
            with contextlib.suppress(OSError):
                path.chmod(0o755)
