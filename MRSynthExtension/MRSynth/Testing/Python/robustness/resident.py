"""A process that runs the command line again and again: a thousand inputs need not start Python a thousand times.

One JSON line in, ``{"argv": [...], "cwd": ...}``, one out, ``{"code", "out", "err"}``. What a call prints, also from
C++, goes into files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    from MRSynthLib.engine.cli import main as mrsynth

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        for line in sys.stdin:
            asked = json.loads(line)
            for file in (out, err):
                file.seek(0)
                file.truncate()
            os.chdir(asked["cwd"])
            try:
                code = mrsynth(asked["argv"])
            except SystemExit as end:  # argparse's --help
                code = end.code
            sys.stdout.flush()
            sys.stderr.flush()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            os.chdir("/")
            answers.write(json.dumps({"code": code, "out": texts[0], "err": texts[1]}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
