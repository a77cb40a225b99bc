"""The figures as text, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import batch
from .networks import OURS
from .whole_job import LARGE, SHAPE, STAGES

Report = dict[str, Any]


def text(report: Report) -> str:
    """Everything, as lines to read."""
    lines = [f"{report['processor']}, {report['threads']} threads, PyTorch {report['torch']}"]
    need = report["needs"]
    for name, label in (("as defined", "as defined"), ("as run", "as run")):
        operations, size = need[name]["operations"] / 1e9, need[name]["bytes"] / 1e6
        lines.append(f"A slice of 128 x 128, {label}: {operations:.2f} G operations; steps move {size:.0f} MB in fp32")
    for precision, found in report["precisions"].items():
        operations, copied = (found["peaks"][kind] / 1e9 for kind in ("operations", "bytes"))
        lines.append(
            f"\n{precision}: peak of matrix products {operations:.0f} G operations/s, of copies {copied:.0f} GB/s"
        )
        for size, measured in found["networks"].items():
            lines.append(f"  {size} x {size}")
            lines += [_network(name, measured) for name in measured["seconds"]]
        lines += _job(f"{_shape(SHAPE)} at 1 mm", found["job"])
    lines += _job(f"{_shape(LARGE)}, fp32", report["large"])
    lines.append("\nScaling, fp32:")
    for label, key in (("threads", "by_threads"), ("height and width", "by_size")):
        each = ", ".join(f"{n}: {1e3 * seconds:.1f}" for n, seconds in report[key].items())
        lines.append(f"  ms per slice by {label:<17} {each}")
    each = ", ".join(f"{n}: {seconds:.2f}" for n, seconds in report["by_slices"].items())
    lines.append(f"  s per volume by {'slices':<17} {each}")
    lines.append("\n" + batch.text(report["batch"]))
    return "\n".join(lines)


def _network(name: str, measured: Report) -> str:
    line = f"    {name:<22}{1 / measured['seconds'][name]:8.1f} slices/s   "
    if name == OURS:
        shares = measured["share_of_peak"]
        return line + f"{shares['as run']:.0%} of the peak, {shares['as defined']:.0%} by operations as defined"
    low, middle, high = measured["ratio"][name]
    return line + f"ours is {middle:.2f} x as fast ({low:.2f} to {high:.2f})"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[::-1]))


def _job(label: str, job: Report) -> list[str]:
    lines = [f"\n  Whole job, {label}, .nii.gz to .nii.gz, from start to end of the process:"]
    lines.append(
        f"    {job['seconds']:.2f} s ({job['lowest']:.2f} to {job['highest']:.2f}), "
        f"peak memory {job['peak_bytes'] / 1e9:.2f} GB"
    )
    lines.append("    " + ", ".join(f"{stage} {job['stages'][stage]:.2f}" for stage in STAGES))
    return lines


def picture(report: Report, path: Path) -> None:
    """Draw speeds, the job by stage, and scaling."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    precisions = list(report["precisions"])
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    names = list(report["precisions"][precisions[0]]["networks"]["128"]["seconds"])
    for n, precision in enumerate(precisions):
        seconds = report["precisions"][precision]["networks"]["128"]["seconds"]
        rows = [row + 0.4 * n for row in range(len(names))]
        bars = left.barh(rows, [1 / seconds[name] for name in names], 0.38, label=precision)
        left.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    left.set_yticks([row + 0.2 for row in range(len(names))], names)
    left.invert_yaxis()
    left.set_xscale("log")
    left.set(title="slices per second, 128 x 128", xlim=(None, left.get_xlim()[1] * 2))
    left.legend(loc="lower right")
    colours = pyplot.get_cmap("tab10")
    for row, precision in enumerate(precisions):
        begin = 0.0
        for n, stage in enumerate(STAGES):
            seconds = report["precisions"][precision]["job"]["stages"][stage]
            middle.barh(row, seconds, left=begin, color=colours(n), label=stage if row == 0 else None)
            begin += seconds
        middle.text(begin, row, f" {begin:.1f} s", va="center")
    middle.set_yticks(range(len(precisions)), precisions)
    middle.invert_yaxis()
    middle.set(title=f"{_shape(SHAPE)}, file to file", xlabel="seconds")
    middle.set_xlim(0, middle.get_xlim()[1] * 1.15)
    middle.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    sizes = {int(size): seconds for size, seconds in report["by_size"].items()}
    right.plot([size**2 / 1e6 for size in sizes], [1e3 * seconds for seconds in sizes.values()], "o-")
    right.set(title="one slice, fp32", xlabel="megapixels", ylabel="milliseconds", xlim=(0, None), ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
