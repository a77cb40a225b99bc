"""What came of a batch run: report.html for people, report.csv for tables, report.json for programs."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from .batch_cohort import relative
from .batch_plan import FAILED, MEANING, OPEN, Plan, Row, Settings
from .provenance import DISCLAIMER, weighting
from .writing import write_aside

NAMES = ("report.html", "report.csv", "report.json")
COLUMNS = (
    *("subject", "session", "status", "source_contrast", "target_contrast", "source", "output", "sidecar"),
    *("share_above_15_percent", "seconds", "device", "software_version", "warnings", "code", "message", "note"),
)

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } .warn { border-left: 4px solid #c60; padding: .3rem .8rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
tbody tr { content-visibility: auto; contain-intrinsic-size: auto 230px; }
img { width: 336px; background: #000; display: block; }
.failed, .open { color: #c22; font-weight: 600; } .made, .kept { color: #17803d; font-weight: 600; }
code { overflow-wrap: anywhere; } small { opacity: .75; } .counts td { border: 0; padding: .1rem 1rem .1rem 0; }
"""


def write(plan: Plan, settings: Settings, seconds: float, workers: str) -> Path:
    """Write the three reports into the output folder, each whole or not at all.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OutputError
        output-full, output-not-writable.
    """
    entries = [entry(row, settings.output) for row in plan.rows]
    about = _about(plan, settings, seconds, workers)
    page, table, document = (settings.output / name for name in NAMES)
    with write_aside(document) as aside, aside.open("w", encoding="utf-8") as file:
        json.dump({**about, "examinations": entries}, file, indent=1, default=str)
        file.write("\n")
    # A file name may be no Unicode text.
    with write_aside(table) as aside, aside.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in one.items()} for one in entries)
    with write_aside(page) as aside, aside.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(_page(about, entries))
    return page


def _about(plan: Plan, settings: Settings, seconds: float, workers: str) -> dict[str, Any]:
    return {
        "software_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "workers": workers,
        "model": {"name": Path(settings.model).stem, "sha256": settings.model_sha256},
        "settings": {"device": settings.device, **settings.fingerprint()},
        "counts": plan.counts(),
    }


def entry(row: Row, output: Path | None = None) -> dict[str, Any]:
    """A row as it stands in JSON and, but for what is nested, in CSV.

    The path of the source is relative to `output`, if that is given, so that a study can be moved as a whole.
    """
    facts = row.record.get("facts", {})
    outputs = {one["role"]: one["path"] for one in row.record.get("outputs", [])}
    trust = facts.get("trust") or {}
    return {
        "subject": row.subject,
        "session": row.session,
        "status": row.status,
        "source_contrast": facts.get("source_contrast", ""),
        "target_contrast": row.target,
        "source": relative(Path(row.source), output) if output and row.source else row.source,
        "output": outputs.get("image") or outputs.get("dicom") or "",
        "sidecar": outputs.get("sidecar", ""),
        "outputs": outputs,
        "picture": row.record.get("picture", ""),
        "trust": trust,
        "share_above_15_percent": trust.get("share_above_15_percent", ""),
        "seconds": facts.get("seconds", ""),
        "device": facts.get("device", ""),
        "software_version": facts.get("software_version", ""),
        "warnings": facts.get("warnings", []),
        "code": row.error.get("code", ""),
        "message": row.error.get("message", ""),
        "error": row.error or None,
        "note": row.note,
    }


def _cell(value: Any) -> Any:
    """Text for a table; what a spreadsheet would take for a formula is marked as text."""
    text = "; ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@") else text


def _page(about: dict[str, Any], entries: list[dict[str, Any]]) -> Iterator[str]:
    """The page in pieces, row after row."""
    counts = "".join(
        f"<tr><td class={status}>{number}</td><td>{_text(MEANING[status])}</td></tr>"
        for status, number in about["counts"].items()
        if number
    )
    versions = {one["software_version"] for one in entries if one["software_version"]}
    mixed = (
        f"<p class=warn>Made by several versions: {_text(', '.join(sorted(versions)))}.</p>"
        if len(versions) > 1
        else ""
    )
    yield (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>MRSynth batch</title><style>{_STYLE}</style><h1>MRSynth batch</h1>"
        f"<p class=warn>{_text(DISCLAIMER)}</p>{mixed}<table class=counts>{counts}</table>"
        f"<p><small>{_text(about['created'])}, {about['seconds']:.0f} s, {_text(about['workers'])}; MRSynth "
        f"{_text(about['software_version'])}, checkpoint {_text(about['model']['name'])} "
        f"<code>{about['model']['sha256'][:12]}</code></small></p>"
        "<p><small>Pictures: axial, coronal and sagittal plane; source above, synthetic below it, expected error at "
        "the bottom where it was asked for. The patient's right is on the left.</small></p>"
        "<table><thead><tr><th>examination<th>result<th>picture</thead><tbody>\n"
    )
    # What needs attention comes first.
    for one in sorted(entries, key=lambda each: each["status"] not in (FAILED, OPEN)):
        yield _row(one)
    yield "</tbody></table></html>\n"


def _row(one: dict[str, Any]) -> str:
    parts = [f"<span class={one['status']}>{_text(MEANING[one['status']])}</span>"]
    if one["output"]:
        label = f"{weighting(one['source_contrast'])} → synthetic {weighting(one['target_contrast'])}"
        parts.append(f"{_text(label)}: <a href='{_link(one['output'])}'><code>{_text(one['output'])}</code></a>")
    elif one["target_contrast"]:
        parts.append(f"{_text(weighting(one['target_contrast']))} is missing")
    if one["trust"]:
        parts.append(_text(one["trust"].get("summary", "")))
    parts += [f"Warning: {_text(warning)}" for warning in one["warnings"]]
    if one["message"]:
        parts.append(f"{_text(one['message'])} <code>{_text(one['code'])}</code>")
    if one["note"]:
        parts.append(f"<small>{_text(one['note'])}</small>")
    if one["seconds"] != "":
        parts.append(f"<small>{one['seconds']:.1f} s on {_text(one['device'])}</small>")
    picture = f"<img loading=lazy alt='source and result' src='{_link(one['picture'])}'>" if one["picture"] else ""
    source = f"<br><small><code>{_text(one['source'])}</code></small>" if one["source"] else ""
    name = f"<b>{_text(one['subject'])}</b> {_text(one['session'])}{source}"
    return f"<tr><td>{name}<td>{'<br>'.join(parts)}<td>{picture}\n"


def _text(value: object) -> str:
    return html.escape(str(value))


def _link(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"))
