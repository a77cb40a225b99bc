"""MRSynth: the missing T1- or T2-weighted brain MR volume.

`MRSynthLib.engine` is the product's heart (NumPy and torch, no Slicer); `MRSynthLib.desktop` brings it to
MRML.
"""

__version__ = "0.1.0"
