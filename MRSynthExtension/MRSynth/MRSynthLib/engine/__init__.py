"""The engine: a volume in, the same volume in the other contrast out. No Slicer, no Qt, no VTK.

>>> from MRSynthLib.engine import Synthesizer, read_volume, write_volume
>>> result = Synthesizer().synthesize(read_volume("t1.nii.gz"))
>>> write_volume(result.volume, "t2.nii.gz")

Names are imported at first use, so that ``mrsynth info`` need not wait for SimpleITK; torch is imported when a
`Synthesizer` is made, not before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import Cancelled, DeviceError, InputError, ModelError, MRSynthError, OutputError
    from .files import read_volume, write_volume
    from .synthesis import Progress, SynthesisResult, Synthesizer
    from .volume import Volume

__all__ = [
    "Cancelled",
    "DeviceError",
    "InputError",
    "MRSynthError",
    "ModelError",
    "OutputError",
    "Progress",
    "SynthesisResult",
    "Synthesizer",
    "Volume",
    "read_volume",
    "write_volume",
]

_HOMES = {
    "files": ("read_volume", "write_volume"),
    "synthesis": ("Progress", "SynthesisResult", "Synthesizer"),
    "volume": ("Volume",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    return getattr(import_module(f".{home}", __name__), name)
