"""The engine: a volume in, the same volume in the other contrast out. No Slicer, no Qt, no VTK.

>>> from MRSynthLib.engine import Synthesizer, read_volume, write_volume
>>> result = Synthesizer().synthesize(read_volume("t1.nii.gz"))
>>> write_volume(result.volume, "t2.nii.gz")

torch is imported when a `Synthesizer` is made, not before.
"""

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
