"""A finding of the screening: what was seen, and how much it weighs."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("ok", "warn", "refuse")


@dataclass(frozen=True)
class Finding:
    """What speaks against a synthesis from a volume.

    Attributes
    ----------
    level : {'warn', 'refuse'}
    text : str
        A sentence for the user.
    about : str
        'contrast' for what no longer counts where the user says the contrast; else "".
    """

    level: str
    text: str
    about: str = ""


def verdict(findings: list[Finding] | tuple[Finding, ...]) -> str:
    """The gravest level: 'ok' where nothing was found."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
