"""What is in the volume, looked at before anything is computed from it: the one door to all parts of screening."""

from __future__ import annotations

from .screening_contrast import Contrast, contrast_of_tags, guess_contrast
from .screening_head import Look, Mask, look, without_background
from .screening_mask import brain_mask, mask_on_grid

__all__ = [
    "Contrast",
    "Look",
    "Mask",
    "brain_mask",
    "contrast_of_tags",
    "guess_contrast",
    "look",
    "mask_on_grid",
    "without_background",
]
