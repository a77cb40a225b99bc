"""Training of MRSynth's self-inverse generator: prepare, train, evaluate, export.

Generators, preprocessing and the checkpoint format come from `MRSynthLib.engine`; nothing here duplicates them.
"""

from mrsynth_training.errors import TrainingError

__all__ = ["TrainingError"]
