"""The commands of `mrsynth` that look after checkpoints and devices: `info`, `models`, `devices`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, TextIO

from .errors import ModelError
from .process import error_document
from .terminal import card_text


def add_commands(commands: Any) -> None:
    """Add them to the commands of `mrsynth`."""
    info = commands.add_parser("info", help="show the card of a checkpoint")
    info.set_defaults(run=_info)
    info.add_argument("model", metavar="MODEL", nargs="?", help="path or installed name (default: the shipped one)")
    info.add_argument("--json", action="store_true", help="print the card as JSON")

    models = commands.add_parser("models", help="list the installed checkpoints; add or remove one")
    models.set_defaults(run=_list)
    models.add_argument("--verify", action="store_true", help="also check weights against their SHA-256")
    models.add_argument("--json", action="store_true", help="print JSON")
    changes = models.add_subparsers(metavar="COMMAND")
    add = changes.add_parser("add", help="copy a checkpoint into the user's folder")
    add.set_defaults(run=_add)
    add.add_argument("file", type=Path, metavar="FILE", help="a checkpoint (.safetensors with a card)")
    remove = changes.add_parser("remove", help="delete a checkpoint that was added")
    remove.set_defaults(run=_remove)
    remove.add_argument("name", metavar="NAME", help="its installed name or path")
    for change in (add, remove):  # only where it is said, lest it undo the one before it
        change.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")

    devices = commands.add_parser("devices", help="show the devices, which is taken and why, and how fast each is")
    devices.set_defaults(run=_devices)
    devices.add_argument("--model", metavar="MODEL", help="checkpoint to measure with (default: the shipped one)")
    devices.add_argument("--json", action="store_true", help="print JSON")


def _info(arguments: argparse.Namespace, out: TextIO) -> int:
    from .checkpoint import read_card
    from .model_folders import find

    path = find(arguments.model)
    card = read_card(path)
    if arguments.json:
        out.write(json.dumps({"path": str(path), "card": card}) + "\n")
    else:
        out.write(card_text(card, str(path)))
    return 0


def _list(arguments: argparse.Namespace, out: TextIO) -> int:
    from .checkpoint import load, read_card
    from .model_folders import installed, is_shipped

    listed: list[dict[str, Any]] = []
    code = 0
    for path in installed():
        entry: dict[str, Any] = {"path": str(path), "bytes": path.stat().st_size, "shipped": is_shipped(path)}
        try:
            card = load(path).card if arguments.verify else read_card(path)
            entry |= {"name": card["name"], "frame": card["frame"], "contrasts": card["contrasts"]}
            entry["status"] = "verified" if arguments.verify else "not verified"
        except ModelError as error:
            code = error.exit_code
            entry |= {"name": path.stem, "status": "broken", "error": error_document(error)}
        listed.append(entry)
    if arguments.json:
        out.write(json.dumps({"models": listed}) + "\n")
        return code
    for entry in listed:
        size = f"{entry['bytes'] / 1e6:.1f} MB"
        about = f"{entry['name']:<24} {entry.get('frame', '?'):<8} {size:>9}"
        out.write(f"{about}  {entry['status']}  {entry['path']}\n")
        if "error" in entry:
            out.write(f"    {entry['error']['message']}\n")
    if not listed:
        out.write("No checkpoint is installed.\n")
    return code


def _add(arguments: argparse.Namespace, out: TextIO) -> int:
    from .library import add

    return _changed(arguments, out, "added", add(arguments.file))


def _remove(arguments: argparse.Namespace, out: TextIO) -> int:
    from .library import remove

    return _changed(arguments, out, "removed", remove(arguments.name))


def _changed(arguments: argparse.Namespace, out: TextIO, what: str, path: Path) -> int:
    out.write(json.dumps({what: str(path)}) + "\n" if arguments.json else f"{path.stem} {what}: {path}\n")
    return 0


def _devices(arguments: argparse.Namespace, out: TextIO) -> int:
    from .probe import probe

    found = probe(arguments.model)
    if arguments.json:
        out.write(found.to_json() + "\n")
        return 0
    for one in found.devices:
        taken = "automatic" if one.device == found.automatic else ""
        speed = f"{one.seconds_per_megapixel:.3g} s/Mpx" if one.usable else "not usable"
        out.write(f"{one.device:<8} {one.name}, {one.precision or '-'}  {speed}  {taken}\n    {one.reason}\n")
    driver = f", NVIDIA driver {found.driver}" if found.driver else ""
    out.write(f"PyTorch {found.torch_version}{driver}; start-up {found.start_seconds:.1f} s; with {found.model}\n")
    return 0
