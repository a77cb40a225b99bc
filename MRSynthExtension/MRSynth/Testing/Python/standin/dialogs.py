"""Dialogs never wait for a person here: a test says beforehand how they are answered, and reads what they said.

Answers, in the order in which the dialogs come: for a box with buttons a button (``qt.QMessageBox.Yes``, "Yes")
or True / False for the one that agrees / declines; for a file dialog a path ("" when it was cancelled) or a list
of paths; for a text dialog the text, or None when it was cancelled. A function is called with the dialog's
`Dialog` and returns one of those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets

from .complaints import complain

__all__ = ["ANSWERS", "DIALOGS", "Dialog", "UnansweredDialogError", "ask", "install"]

Buttons = QtWidgets.QMessageBox.StandardButton
_AGREE = (Buttons.Yes, Buttons.Ok, Buttons.Retry, Buttons.Save, Buttons.Open, Buttons.YesToAll, Buttons.Apply)
_DECLINE = (Buttons.No, Buttons.Cancel, Buttons.Close, Buttons.Abort, Buttons.Discard, Buttons.Ignore)


@dataclass(frozen=True)
class Dialog:
    """What a dialog showed.

    Parameters
    ----------
    kind : str
        "information", "warning", "critical", "question" or "message" for a box with buttons; "file", "files",
        "save" or "folder"; "text"; "dialog" for any other.
    text, detail, title : str
        What stood in it.
    buttons : tuple of str
        Names or labels of its buttons.
    """

    kind: str
    text: str = ""
    detail: str = ""
    title: str = ""
    buttons: tuple[str, ...] = field(default=())


class UnansweredDialogError(AssertionError):
    """A dialog came for which the test has no answer; in 3D Slicer it would wait for the user."""


ANSWERS: list[Any] = []
DIALOGS: list[Dialog] = []


def ask(kind: str, text: str = "", detail: str = "", title: str = "", buttons: tuple[str, ...] = ()) -> Any:
    """Keep what a dialog shows and return the next answer."""
    dialog = Dialog(kind, text, detail, title, buttons)
    DIALOGS.append(dialog)
    if not ANSWERS:
        message = f"The test has no answer for this dialog: {dialog}"
        complain(message)
        raise UnansweredDialogError(message)
    answer = ANSWERS.pop(0)
    return answer(dialog) if callable(answer) else answer


def _button(box: QtWidgets.QMessageBox, answer: Any) -> QtWidgets.QAbstractButton:
    """Return the button of a box that an answer means."""
    offered = {box.standardButton(button): button for button in box.buttons()}
    if isinstance(answer, bool):
        found = [offered[wanted] for wanted in (_AGREE if answer else _DECLINE) if wanted in offered]
    elif isinstance(answer, str):
        found = [b for s, b in offered.items() if answer == s.name] + [
            button for button in box.buttons() if button.text().replace("&", "") == answer
        ]
    else:
        found = [offered[Buttons(int(answer))]] if Buttons(int(answer)) in offered else []
    if not found:
        message = f"The answer {answer!r} fits no button of the dialog: {DIALOGS[-1]}"
        complain(message)
        raise UnansweredDialogError(message)
    return found[0]


def _run_box(box: QtWidgets.QMessageBox) -> int:
    kind = box.icon().name.lower()
    if not box.buttons():
        box.addButton(Buttons.Ok)
    labels = tuple(
        box.standardButton(button).name
        if box.standardButton(button) != Buttons.NoButton
        else button.text().replace("&", "")
        for button in box.buttons()
    )
    text = "\n".join(filter(None, (box.text(), box.informativeText())))
    answer = ask("message" if kind == "noicon" else kind, text, box.detailedText(), box.windowTitle().strip(), labels)
    chosen = _button(box, answer)
    box.show()
    chosen.click()
    box.hide()
    return int(box.standardButton(chosen).value) if box.standardButton(chosen) != Buttons.NoButton else box.result()


def _run_dialog(dialog: QtWidgets.QDialog) -> int:
    if isinstance(dialog, QtWidgets.QMessageBox):
        return _run_box(dialog)
    labels = "\n".join(label.text() for label in dialog.findChildren(QtWidgets.QLabel))
    answer = ask("dialog", labels, title=dialog.windowTitle())
    dialog.done(int(answer))
    return int(answer)


def _static_box(icon: QtWidgets.QMessageBox.Icon) -> Any:
    usual = Buttons.Yes | Buttons.No if icon == QtWidgets.QMessageBox.Icon.Question else Buttons.Ok

    def show(parent: Any, title: str, text: str, buttons: Any = usual, default: Any = None) -> int:
        box = QtWidgets.QMessageBox(icon, title, text, Buttons(int(buttons)))
        return _run_box(box)

    return show


def _file(kind: str, several: bool = False) -> Any:
    def choose(parent: Any = None, caption: str = "", folder: str = "", filters: str = "", *more: Any) -> Any:
        answer = ask(kind, caption, str(filters))
        return [str(path) for path in answer or ()] if several else str(answer or "")

    return choose


def _text(parent: Any = None, title: str = "", label: str = "", *more: Any) -> str:
    answer = ask("text", label, title=title)
    return "" if answer is None else str(answer)


def install(overrides: dict[tuple[str, str], Any]) -> None:
    """Put the functions of this module in the place of those that would wait for a person."""
    for name in ("exec", "exec_"):
        overrides["QDialog", name] = _run_dialog
    for name in ("information", "warning", "critical", "question"):
        overrides["QMessageBox", name] = _static_box(QtWidgets.QMessageBox.Icon[name.title()])
    overrides["QFileDialog", "getOpenFileName"] = _file("file")
    overrides["QFileDialog", "getOpenFileNames"] = _file("files", several=True)
    overrides["QFileDialog", "getSaveFileName"] = _file("save")
    overrides["QFileDialog", "getExistingDirectory"] = _file("folder")
    overrides["QInputDialog", "getText"] = _text
