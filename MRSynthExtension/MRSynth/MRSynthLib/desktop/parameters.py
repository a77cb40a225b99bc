"""The panel's choices as a parameter node, so that a scene brings them back. Loaded in 3D Slicer only."""

from typing import Annotated, Union

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

AUTOMATIC = "auto"
DIRECTIONS = {AUTOMATIC: None, "t1-to-t2": "t2", "t2-to-t1": "t1"}  # the contrast to make; None: the other one


@parameterNodeWrapper
class MRSynthParameterNode:
    """What the panel remembers.

    Attributes
    ----------
    source, synthetic, acquired : vtkMRMLScalarVolumeNode or None
        What is there, what takes the result (None: a new volume), and what the result is compared with.
    like : vtkMRMLScalarVolumeNode or None
        Of the wanted contrast, from the same scanner or patient: the result gets its brightness.
    mask : vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode or None
        Brain mask.
    direction : str
        A key of `DIRECTIONS`.
    model : str
        Name of a checkpoint; "" for the shipped default.
    device : str
        As `devices.choose` takes it.
    planes : {'axial', 'three'}
        In which the generator goes through the volume.
    reliability : bool
        Whether a run also gives the reliability map, where the model can.
    batch_input, batch_output : str
        Folders of the batch; "" for none.
    fade : float
        Opacity of the synthetic volume over its source, 0 to 1.
    """

    source: vtkMRMLScalarVolumeNode
    synthetic: vtkMRMLScalarVolumeNode
    acquired: vtkMRMLScalarVolumeNode
    like: vtkMRMLScalarVolumeNode
    mask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - read at run time by 5.10
    direction: str = AUTOMATIC
    model: str = ""
    device: str = AUTOMATIC
    planes: str = "axial"
    reliability: bool = True
    batch_input: str = ""
    batch_output: str = ""
    fade: Annotated[float, WithinRange(0.0, 1.0)] = 1.0
