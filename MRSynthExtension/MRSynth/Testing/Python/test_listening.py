"""What an installer prints is heard while it prints, and still printed."""

from __future__ import annotations

import os

import pytest

from MRSynthLib.desktop.listening import listening


class Heard:
    def __init__(self) -> None:
        self.told: list[tuple[str, float | None]] = []

    def __call__(self, text: str, fraction: float | None) -> None:
        self.told.append((text, fraction))


def test_lines_are_heard_at_once_and_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    with listening(heard, (25, 1)) as lines:
        print("Collecting torch")
        assert heard.told == [("Collecting torch", None)]
        print("  a ", end="")
        print("b\r")
        assert lines == ["Collecting torch", "  a b"]
    print("not heard")
    assert heard.told[-1] == ("a b", None)
    assert capsys.readouterr().out == "Collecting torch\n  a b\nnot heard\n"


def test_whoever_is_told_may_print(capsys: pytest.CaptureFixture[str]) -> None:
    """As 3D Slicer does, which handles events meanwhile."""
    told: list[str] = []

    def print_too(text: str, fraction: float | None) -> None:
        told.append(text)
        print(f"told: {text}")

    with listening(print_too, (25, 1)) as lines:
        print("Collecting torch")
        print("Progress 1 of 2")
    assert told == ["Collecting torch", ": 0 / 0 MB"]
    assert lines == ["Collecting torch"]
    assert capsys.readouterr().out == "Collecting torch\ntold: Collecting torch\ntold: : 0 / 0 MB\n"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("  Downloading torch-2.15.0-cp312-cp312-win_amd64.whl (126.7 MB)", "torch-2.15.0"),
        ("  Downloading https://index.example/whl/torch-2.6.0-cp312-cp312-linux_x86_64.whl (178.7 MB)", "torch-2.6.0"),
        ("Downloading mpmath-1.3.0-py3-none-any.whl (536 kB)", "mpmath-1.3.0"),
    ],
)
def test_the_progress_of_a_download_is_a_fraction_and_does_not_fill_the_console(
    line: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Heard()
    with listening(heard, (25, 1)) as lines:
        print(line)
        print("Progress 0 of 200000000")
        print("Progress 50000000 of 200000000")
    assert heard.told[1:] == [(f"{name}: 0 / 200 MB", 0.0), (f"{name}: 50 / 200 MB", 0.25)]
    assert lines == [line]
    assert "Progress" not in capsys.readouterr().out


@pytest.mark.parametrize("before", [None, "off"])
def test_pip_is_asked_to_count_only_where_it_can_and_only_meanwhile(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_PROGRESS_BAR", raising=False)
    if before:
        monkeypatch.setenv("PIP_PROGRESS_BAR", before)
    with listening(Heard(), (24, 1)):
        assert os.environ["PIP_PROGRESS_BAR"] == "raw"
    assert os.environ.get("PIP_PROGRESS_BAR") == before
    with pytest.raises(OSError, match="gone"), listening(Heard(), (24, 1)):
        raise OSError("gone")
    assert os.environ.get("PIP_PROGRESS_BAR") == before
    with listening(Heard(), (24, 0)):  # would end with "invalid choice"
        assert os.environ.get("PIP_PROGRESS_BAR") == before


def test_where_there_is_no_console_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a program without a console has no stdout."""
    monkeypatch.setattr("sys.stdout", None)
    heard = Heard()
    with listening(heard, (25, 1)):
        print("Collecting torch", flush=True)
    assert heard.told == [("Collecting torch", None)]
