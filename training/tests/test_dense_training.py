"""DenseU-net's form for training on CPUs computes what the plain one does, and its gradients."""

from __future__ import annotations

import copy

import pytest
import torch

from mrsynth_training.dense_training import TrainedDenseUNet, faster
from MRSynthLib.engine.generators import build

SMALL = {"growth": 4, "blocks": [2, 3, 2, 2]}


def both(arguments, name="DenseUNet"):
    """A plain generator whose scales and shifts are of both signs, and its faster copy, in training."""
    torch.manual_seed(0)
    plain = build(name, arguments).train()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.normal_(0.2)
                module.bias.normal_(0, 0.5)
    return plain, faster(copy.deepcopy(plain))


def learnt(module, images, dtype=None, passes=1):
    """Output, gradients of images and of weights, and the state after a step's forward and backward passes."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        made = module(images)
        for _ in range(passes - 1):
            made = module(made)
    (made.float() - 0.4).square().sum().backward()
    return made.detach().float(), [images.grad, *(p.grad for p in module.parameters())], module.state_dict()


def relative(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-6))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_outputs_gradients_and_statistics_are_the_plain_ones(norm, passes):
    plain, fast = both({**SMALL, "norm": norm, "output": "softclip"})
    assert type(fast) is TrainedDenseUNet
    images = torch.rand(4, 1, 48, 32)
    expected, found = (learnt(module.double(), images.double(), passes=passes) for module in (plain, fast))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    for gradient, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-9)
    assert list(found[2]) == list(expected[2])
    for name, value in expected[2].items():
        torch.testing.assert_close(found[2][name], value, rtol=1e-9, atol=1e-12)


def test_upsampling_that_has_no_such_form_stays_as_it_is():
    for upsampling in ("bilinear", "transposed"):
        plain, fast = both({**SMALL, "upsampling": upsampling})
        assert type(fast) is type(plain)
