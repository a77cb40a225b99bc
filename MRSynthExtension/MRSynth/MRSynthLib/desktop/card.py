"""The card of a checkpoint as a short page: what it is for, where it fails, how good it is, on what it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from MRSynthLib.engine.provenance import DISCLAIMER, weighting

from .words import _

_SCORE_COLUMNS = (_("Direction"), _("Where"), _("PSNR, dB"), _("SSIM"), _("Studies"))


def card_html(card: Mapping[str, Any]) -> str:
    """Return the card as HTML without colours or fonts of its own, so that it follows light and dark themes.

    Parameters
    ----------
    card : mapping
        As `MRSynthLib.engine.checkpoint.read_card` returns it.
    """
    arrow = " → " if len(card.get("directions", ())) == 1 else " ↔ "
    contrasts = arrow.join(weighting(contrast) for contrast in card["contrasts"])
    failures = card["known_failures"] or [_("None are recorded, which does not mean that there are none.")]
    parts = [
        f"<h3>{escape(str(card['name']))}</h3>",
        f"<p>{escape(contrasts)}. {escape(str(card['intended_use']))}</p>",
        _titled(_("Known failures"), _list(failures)),
        *_scores(card["metrics"]),
        _titled(_("Trained on"), _list(_training_data(card["training_data"]))),
        _titled(_("Licence"), f"<p>{escape(str(card['licence']))}</p>"),
        f"<p><i>{escape(DISCLAIMER)}</i></p>",
    ]
    return "\n".join(parts)


def _titled(title: str, body: str) -> str:
    return f"<h4>{escape(title)}</h4>{body}"


def _list(lines: Any) -> str:
    return "<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in lines) + "</ul>"


def _training_data(subjects: list[Mapping[str, Any]]) -> Iterator[str]:
    """One line per source, with how many subjects it gave."""
    counts: dict[tuple[str, str, str], int] = {}
    for subject in subjects:
        key = (str(subject["role"]), str(subject["source"]), str(subject["licence"]))
        counts[key] = counts.get(key, 0) + 1
    for (role, source, licence), count in counts.items():
        yield f"{count} × {role}: {source} ({licence})"


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    """PSNR and SSIM by direction and rule of the scoring protocol, a table for each kind of studies."""
    rows = {kind: list(_score_rows(metrics.get(kind) or {})) for kind in ("validation", "cross_validation")}
    if rows["validation"] or not rows["cross_validation"]:
        yield _titled(_("Scores on studies that it was not trained on"), _table(rows["validation"]))
    if rows["cross_validation"]:
        title = _("Scores of models like it, each on studies that were kept from its training")
        yield _titled(title, _table(rows["cross_validation"]))


def _table(rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return f"<p>{escape(_('None are recorded.'))}</p>"
    head = "".join(f"<th align='left'>{escape(name)}&nbsp;&nbsp;</th>" for name in _SCORE_COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}&nbsp;&nbsp;</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _score_rows(validation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for direction, protocols in validation.items():
        start, _to, end = str(direction).partition("_to_")
        for protocol, scores in protocols.items():
            if {"psnr", "ssim", "subjects"} <= scores.keys():
                arrow = f"{start.upper()} → {end.upper()}"
                yield arrow, protocol, f"{scores['psnr']:.1f}", f"{scores['ssim']:.2f}", f"{scores['subjects']:g}"
