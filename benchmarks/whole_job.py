"""The whole job in a process of its own: file in, file out; prints one line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path


def main(source: str, target: str, precision: str, threads: str) -> None:
    """Synthesize `source` into `target` and print seconds by stage and the peak memory in bytes."""
    begin = time.perf_counter()
    import dataclasses

    from MRSynthLib.engine import Synthesizer, read_volume, write_volume

    synthesizer = Synthesizer(device="cpu", precision=precision)
    synthesizer.device = dataclasses.replace(synthesizer.device, threads=int(threads))
    started = time.perf_counter()
    volume = read_volume(source)
    read = time.perf_counter()
    result = synthesizer.synthesize(volume)
    made = time.perf_counter()
    write_volume(result.volume, Path(target))
    written = time.perf_counter()
    stages = {"read": read - started, **result.stage_seconds, "write": written - made}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    report = {"start_up": started - begin, "seconds": written - started, "stages": stages, "peak_bytes": peak}
    report["device"] = synthesizer.device.reason
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
