"""The command line: `python MRSynthExtension/MRSynth/Testing/Python/robustness inputs | headers | kills`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the folder's own is that of its parts

from robustness.command import main  # noqa: E402 - only now it is found

sys.exit(main())
