"""DenseU-net's form for training on CPUs computes what the plain one does, and its gradients."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from mrsynth_training.dense_training import TrainedDenseUNet, faster
from mrsynth_training.hardware import TrainingFabric
from MRSynthLib.engine.generators import build

SMALL = {"growth": 4, "blocks": [2, 3, 2, 2]}


def both(arguments, name="DenseUNet"):
    """A plain generator in training, whose scales and shifts are of both signs, and its faster copy."""
    torch.manual_seed(0)
    plain = build(name, arguments).train()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(0.2)
                module.bias.normal_(0, 0.5)
                module.running_mean.normal_()
    return plain, faster(copy.deepcopy(plain))


def learnt(module, images, passes=1, dtype=None):
    """Output, gradients by name, and the state, after a module's passes over images, forwards and backwards."""
    images = images.clone().requires_grad_()
    made = images
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        for _ in range(passes):
            made = module(made)
    (made.float() - 0.4 if dtype else made - 0.4).square().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    return made.detach(), {"images": images.grad, **gradients}, module.state_dict()


def compare(plain, fast, images, **options):
    """The forms agree as far as the order of sums in double precision lets them."""
    expected, found = (learnt(module.double(), images.double(), **options) for module in (plain, fast))
    for before, after in zip(expected[1:], found[1:], strict=True):
        assert list(before) == list(after)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_outputs_gradients_and_statistics_are_the_plain_ones(norm, passes):
    plain, fast = both({**SMALL, "norm": norm, "output": "softclip"})
    assert isinstance(fast, TrainedDenseUNet)
    compare(plain, fast, torch.rand(4, 1, 48, 32), passes=passes)


def test_neighbouring_slices_and_auto_context():
    compare(*both({**SMALL, "in_channels": 3, "output": "softclip"}), torch.rand(2, 3, 32, 32))
    stages = {
        stage: {"name": "DenseUNet", "arguments": {**SMALL, "output": "softclip"}} for stage in ("first", "second")
    }
    plain, fast = both(stages, "AutoContext")
    before = copy.deepcopy(fast.first.state_dict())
    compare(plain, fast, torch.rand(2, 1, 32, 32))
    torch.testing.assert_close(fast.first.state_dict(), before, check_dtype=False)  # it stays as it is


def test_in_evaluation_and_without_gradients_it_is_the_plain_one():
    plain, fast = both(SMALL)
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), plain(images))
        torch.testing.assert_close(fast.eval()(images), plain.eval()(images))
    torch.testing.assert_close(fast.state_dict(), plain.state_dict())


def test_bf16_is_as_near_to_double_as_the_plain_form_is():
    plain, fast = both({**SMALL, "output": "softclip"})
    images = torch.rand(4, 1, 64, 64)
    exact = learnt(copy.deepcopy(plain).double(), images.double())
    errors = []
    for module in (plain, fast):
        made, gradients, state = learnt(module, images, dtype=torch.bfloat16)
        norms = sum(float((g.double() - exact[1][name]).square().sum()) for name, g in gradients.items())
        means = [float((v - exact[2][n]).abs().max()) for n, v in state.items() if "running" in n]
        errors.append((float((made - exact[0]).abs().mean()), norms**0.5, max(means)))
    for of_plain, of_fast in zip(*errors, strict=True):
        assert of_fast <= 1.3 * of_plain


def test_training_takes_it_on_a_cpu_and_its_state_is_the_plain_generators():
    fabric = TrainingFabric("32-true", "cpu", "1")
    plain = build("DenseUNet", SMALL)
    wrapped, _ = fabric.setup(copy.deepcopy(plain), torch.optim.Adam(plain.parameters()))
    assert isinstance(wrapped.module, TrainedDenseUNet)
    torch.testing.assert_close(dict(wrapped.state_dict()), dict(plain.state_dict()))
    build("DenseUNet", SMALL).load_state_dict(wrapped.state_dict())


def test_other_upsampling_stays_as_it_is():
    for upsampling in ("bilinear", "transposed"):
        plain, fast = both({**SMALL, "upsampling": upsampling, "output": "softclip"})
        assert type(fast) is type(plain)
        compare(plain, fast, torch.rand(2, 1, 32, 32))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_memory_that_was_freed_stays_with_the_process():
    code = (
        "import torch\n"
        "from MRSynthLib.engine import memory\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1])\n"
        "assert memory.keep()\n"
        "before = resident()\n"
        "blocks = [torch.ones(6 << 20) for _ in range(4)]\n"  # of 24 MiB
        "del blocks\n"
        "print(resident() - before)\n"
    )
    pages = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(pages) > 3 * (24 << 20) / os.sysconf("SC_PAGE_SIZE")
