"""Three-plane synthesis: every plane is cut the right way round, and thick slices are refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_helpers import axes_of, grid, rotated, small_head
from torch import Tensor, nn

from MRSynthLib.engine.errors import InputError
from MRSynthLib.engine.synthesis import Synthesizer


class Ramps(nn.Module):
    """In a generator's place: brighter from row to row (and, a tenth of that, from column to column)."""

    def forward(self, x: Tensor, window: object) -> Tensor:
        rows = torch.arange(x.shape[2], dtype=torch.float32)[:, None] / 200
        columns = torch.arange(x.shape[3], dtype=torch.float32)[None] / 2000
        return (rows + columns).expand(len(x), 1, -1, -1)


@pytest.fixture
def untrained(tiny_checkpoint: Path) -> Synthesizer:
    synthesizer = Synthesizer(tiny_checkpoint, device="cpu")
    synthesizer.device = replace(synthesizer.device, threads=1)
    return synthesizer


@pytest.mark.parametrize("name", ["RAS", "LPS", "ASR", "ILP"])
def test_rows_and_columns_run_as_in_the_planes_of_a_light_box(name: str, untrained: Synthesizer) -> None:
    """Axial rows run to posterior; coronal and sagittal ones downwards; columns to the left, the left, posterior."""
    untrained._generator = Ramps()
    volume = small_head(axes=axes_of(name))
    made = untrained.synthesize(volume, source="t1", planes="three").volume
    k, j, i = (axis.reshape(-1) for axis in np.indices(volume.shape))
    ras = (volume.ijk_to_ras @ np.stack([i, j, k, np.ones_like(i)])).T
    inside = volume.voxels.reshape(-1) > 0
    slopes = np.linalg.lstsq(ras[inside], made.voxels.reshape(-1)[inside].astype(float), rcond=None)[0][:3]
    per_row, per_column = 1000 / 200, 1000 / 2000
    left, posterior, down = 2 * per_column / 3, (per_row + per_column) / 3, 2 * per_row / 3
    np.testing.assert_allclose(slopes, [-left, -posterior, -down], atol=0.05)


def test_the_mean_of_three_identities_is_the_source(untrained: Synthesizer) -> None:
    untrained._generator = _Identity()
    volume = replace(small_head(), ijk_to_ras=grid((12, 30, 26), (1, 1, 1), rotated(axes_of("LPS"), (9, 8, 7))))
    once, thrice = (untrained.synthesize(volume, source="t1", planes=planes) for planes in ("axial", "three"))
    assert np.array_equal(once.volume.voxels, thrice.volume.voxels)
    assert (once.planes, thrice.planes) == ("axial", "three")


def test_the_cycle_difference_is_of_the_mean(untrained: Synthesizer) -> None:
    untrained._generator = _Identity()
    result = untrained.synthesize(small_head(), source="t1", planes="three", cycle=True)
    assert result.cycle is not None
    assert not result.cycle.voxels.any()


def test_what_goes_back_is_the_mean_of_the_three(untrained: Synthesizer) -> None:
    factors = iter((0.0, 0.3, 0.6, 1.0))  # of the axial, coronal and sagittal pass, and of the way back
    whole = untrained._passes

    def one_pass(*arguments: Any) -> Any:
        factor = next(factors)
        untrained.forward = lambda slices, chunk, window: factor * slices[chunk]  # type: ignore[method-assign]
        return whole(*arguments)

    untrained._generator = _Identity()
    source = untrained.synthesize(small_head(), source="t1").volume.voxels
    untrained._passes = one_pass  # type: ignore[method-assign]
    result = untrained.synthesize(small_head(), source="t1", planes="three", cycle=True)
    assert result.cycle is not None
    np.testing.assert_allclose(result.volume.voxels, 0.3 * source, atol=1)
    np.testing.assert_allclose(result.cycle.voxels, 0.7 * source, atol=1)


def test_thick_slices_are_refused_and_cost_nothing(untrained: Synthesizer) -> None:
    untrained._generator = Ramps()
    thick = replace(small_head(), ijk_to_ras=np.diag([1.0, 1.0, 3.0, 1.0]))
    with pytest.raises(InputError) as refused:
        untrained.synthesize(thick, source="t1", planes="three")
    assert refused.value.code == "input-planes"
    assert "1 x 1 x 3 mm" in str(refused.value)
    assert untrained.synthesize(thick, source="t1").volume.voxels.any()


def test_a_plane_that_does_not_exist_is_a_mistake_of_the_caller(untrained: Synthesizer) -> None:
    with pytest.raises(ValueError, match="planes is 'oblique'"):
        untrained.synthesize(small_head(), planes="oblique")


class _Identity(nn.Module):
    def forward(self, x: Tensor, window: object) -> Tensor:
        return x
