"""Rigid registration of a pair of contrasts, and a brain mask for whole heads (SimpleITK)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from mrsynth_training.errors import TrainingError
from MRSynthLib.engine import screening
from MRSynthLib.engine.volume import Volume

SEED = 1
LARGEST_SHIFT = 40.0  # mm; more between two contrasts of one session is a failed registration
LARGEST_TURN = 25.0  # degrees
RIM = 3.0  # mm
SCALP_KEPT = 4.0  # mm around the rough brain
BRAIN_LITRES = (0.7, 2.2)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def to_image(volume: Volume) -> sitk.Image:
    """Volume as a float32 SimpleITK image at the same place (LPS mm); sheared grids cannot be represented."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels, dtype=np.float32))
    axes = RAS_TO_LPS @ volume.ijk_to_ras[:3, :3]
    image.SetSpacing(volume.spacing)
    image.SetDirection((axes / volume.spacing).ravel())
    image.SetOrigin(RAS_TO_LPS @ volume.ijk_to_ras[:3, 3])
    return image


def register_rigid(fixed: Volume, moving: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Move one contrast of a subject onto the other's grid.

    Mattes mutual information, rigid, from the scanner's own coordinates, at 4, 2 and 1 times the spacing in plane.

    Parameters
    ----------
    fixed, moving : Volume
        Of the same head.

    Returns
    -------
    voxels : ndarray, float32 (k, j, i)
        `moving` on the grid of `fixed`, cubic B-spline, not below 0.
    covered : ndarray, bool (k, j, i)
        Where `moving` was measured.

    Raises
    ------
    TrainingError
        If the result moved or turned implausibly far, or did not improve the mutual information.
    """
    target, source = to_image(fixed), to_image(moving)
    start = sitk.VersorRigid3DTransform()
    start.SetCenter(target.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in target.GetSize()]))
    method = _method(start, shrink=(4, 2, 1), smooth=(2, 1, 0))
    before = method.MetricEvaluate(target, source)
    result = method.Execute(target, source)
    transform = _last(result, sitk.VersorRigid3DTransform)
    shift = float(np.linalg.norm(transform.GetTranslation()))
    turn = float(np.degrees(2 * np.arcsin(min(1.0, float(np.linalg.norm(transform.GetVersor()[:3]))))))
    after = method.GetMetricValue()
    if shift > LARGEST_SHIFT or turn > LARGEST_TURN or after > before + 0.01:
        raise TrainingError(
            f"registering {moving.name} to {fixed.name} moved it by {shift:.1f} mm and {turn:.1f} degrees "
            f"(mutual information {-before:.3f} before, {-after:.3f} after)",
            f"at most {LARGEST_SHIFT:g} mm and {LARGEST_TURN:g} degrees, and more mutual information",
            "Check that both are of the same head, or register them by hand",
        )
    moved = sitk.Resample(source, target, transform, sitk.sitkBSpline, 0.0)
    ones = sitk.Image(source.GetSize(), sitk.sitkUInt8)
    ones.CopyInformation(source)
    covered = sitk.Resample(ones + 1, target, transform, sitk.sitkNearestNeighbor, 0)
    inside = sitk.GetArrayFromImage(covered).astype(bool)
    return np.where(inside, np.maximum(sitk.GetArrayFromImage(moved), 0), 0).astype(np.float32), inside


def brain_of_head(head: Volume) -> np.ndarray:
    """Brain mask of a whole-head T1, bool (k, j, i): the MNI152 template that nilearn bundles, registered by affinity.

    Good to a few millimetres: enough for an intensity percentile and for a region to score in.

    Raises
    ------
    TrainingError
        If the mask's volume is not a brain's.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    template, mask = (_from_nifti(load(resolution=2)) for load in (load_mni152_template, load_mni152_brain_mask))
    # The template has no skull: without the scalp, whose fat is the brightest of a T1, it fits the brain, not the skin.
    rough = screening.look(head).brain
    inside = sitk.GetArrayFromImage(_widened(to_image(head.replaced(rough)), SCALP_KEPT)) > 0
    target = to_image(head.replaced(np.where(inside, head.voxels, 0)))
    around = _widened(mask, 6.0)
    start = sitk.Euler3DTransform()
    start.SetCenter(_centre(mask))
    start.SetTranslation(_centre(to_image(head.replaced(rough))) - _centre(mask))
    rigid = _method(start, shrink=(4, 2), smooth=(2, 1))
    rigid.SetMetricFixedMask(around)
    found = _last(rigid.Execute(template, target), sitk.Euler3DTransform)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(found.GetMatrix())
    affine.SetCenter(found.GetCenter())
    affine.SetTranslation(found.GetTranslation())
    fine = _method(affine, shrink=(2, 1), smooth=(1, 0))
    fine.SetMetricFixedMask(around)
    result = _last(fine.Execute(template, target), sitk.AffineTransform)
    on_head = sitk.Resample(mask, to_image(head), result.GetInverse(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    brain = sitk.GetArrayFromImage(on_head) > 0.5
    litres = float(np.count_nonzero(brain) * np.prod(head.spacing) / 1e6)
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise TrainingError(
            f"the brain found in {head.name} has {litres:.2f} litres",
            f"{BRAIN_LITRES[0]} to {BRAIN_LITRES[1]}",
            "Give a brain mask with the subject (brain.nii.gz)",
        )
    return brain


def brain_in_head(head: Volume, own: Volume | None, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brain of a whole head, and what of it tells the intensity scale.

    Parameters
    ----------
    head : Volume
        The T1, with the skull.
    own : Volume or None
        The brain mask that came with the subject: it is exact, and all of it counts. Without one the template's is
        registered, of which the core counts.
    covered : ndarray of bool, shape (k, j, i)
        Where both contrasts were measured.

    Returns
    -------
    brain, tissue : ndarray of bool, shape (k, j, i)
    """
    if own is not None:
        brain = screening.brain_mask(own, head) & covered
        return brain, brain
    brain = brain_of_head(head) & covered
    return brain, core_of_brain(brain, head)


def core_of_brain(brain: np.ndarray, head: Volume) -> np.ndarray:
    """Brain mask without its outermost 3 mm, where a registered mask lets in orbital fat, brighter than any brain."""
    return sitk.GetArrayFromImage(_widened(to_image(head.replaced(brain)), -RIM)) > 0


def _method(start: sitk.Transform, shrink: tuple[int, ...], smooth: tuple[float, ...]) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(48)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, SEED)  # without one, every call would sample and so register differently
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smooth)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    # Sums over threads differ from call to call and end in another optimum: up to 0.6 dB in a whole head's score.
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    return method


def _last(transform: sitk.Transform, kind: type) -> sitk.Transform:
    """The one transform inside the composite that an optimiser returns, as its own kind."""
    if transform.GetName() == "CompositeTransform":
        transform = sitk.CompositeTransform(transform).GetNthTransform(0)
    return kind(transform)


def _widened(mask: sitk.Image, margin: float) -> sitk.Image:
    """Mask dilated by so many mm, as uint8."""
    distance = sitk.SignedMaurerDistanceMap(mask > 0, squaredDistance=False, useImageSpacing=True)
    return sitk.Cast(distance < margin, sitk.sitkUInt8)


def _centre(mask: sitk.Image) -> np.ndarray:
    """Centre of gravity, LPS mm."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(mask > 0)
    return np.array(shape.GetCentroid(1))


def _from_nifti(nifti) -> sitk.Image:  # type: ignore[no-untyped-def]  # nibabel's images are not typed
    voxels = np.asarray(nifti.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return to_image(Volume(voxels, nifti.affine))
