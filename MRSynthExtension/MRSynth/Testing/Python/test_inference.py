"""What runs gives what the definition gives: every generator, norm, output, size, precision and way of convolving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from conftest import phantom
from torch import Tensor, nn

from MRSynthLib.engine import checkpoint, convolutions, inference, model_folders
from MRSynthLib.engine.convolutions import Convolution, PackedConvolution, Place
from MRSynthLib.engine.generators import UPSAMPLING, build
from MRSynthLib.engine.inference import AsDefined, FusedDenseUNet, InARow, ready

SMALL: dict[str, dict[str, Any]] = {
    "DenseUNet": {"growth": 6, "blocks": [1, 2, 3, 2]},
    "UNet": {"base": 4},
    "ResNet": {"base": 4, "blocks": 1},
}
CPU = torch.device("cpu")
KINDS: list[type[Convolution]] = [Convolution, PackedConvolution]


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Convolution]]:
    """Each way of convolving in turn."""
    if request.param is PackedConvolution and not PackedConvolution.usable(Place(CPU, torch.float32)):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(inference, "fastest", lambda place: request.param)
    yield request.param


def trained(name: str, **arguments: Any) -> nn.Module:
    """A generator whose norms have seen data, and have scales of both signs and a scale of 0."""
    net = build(name, {**SMALL[name], **arguments})
    for _ in range(3):
        net(torch.rand(2, arguments.get("in_channels", 1), 32, 32))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(0.5, 0.5)
                module.weight[0] = 0
                module.bias.normal_(0.1, 0.3)
        *_, last = (module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d))
        last.weight.normal_(0, 0.1)  # a fresh one is nearly constant
    return net.eval()


def slices(n: int = 2, height: int = 32, width: int = 48, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, height, width)


def as_defined(net: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net(x)


def psnr(a: Tensor, b: Tensor) -> float:
    return decibels(a - b)


def decibels(error: Tensor) -> float:
    """PSNR, of a range of 1."""
    return float(-10 * torch.log10(error.square().mean()))


# --- the same function --------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["relu_clip", "sigmoid", "softclip"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_variant_is_the_function_of_its_definition(
    name: str, norm: str, output: str, kind: type[Convolution]
) -> None:
    net, x = trained(name, norm=norm, output=output), slices()
    expected = as_defined(net, x)
    assert expected.std() > 1e-3  # something is there to be compared
    torch.testing.assert_close(ready(net)(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_way_of_upsampling_is_the_function_of_its_definition(name: str, upsampling: str) -> None:
    net, x = trained(name, upsampling=upsampling), slices()
    torch.testing.assert_close(ready(net)(x), as_defined(net, x), rtol=0, atol=1e-5)


def test_two_generators_in_a_row_are_the_function_of_their_definition(kind: type[Convolution]) -> None:
    stage = {"name": "DenseUNet", "arguments": SMALL["DenseUNet"]}
    net, x = build("AutoContext", {"first": stage, "second": stage, "in_channels": 3}).eval(), slices(2, 80, 96, 3)
    with torch.no_grad():
        for part in (net.first, net.second):
            part.convolution2.weight.normal_(0, 0.1)
    network, expected = ready(net), as_defined(net, x)
    assert isinstance(network, InARow) and type(network.first) is type(network.second) is FusedDenseUNet
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)
    part = network(x, ((31, 48), (17, 60)))[:, :, 31:48, 17:60]
    torch.testing.assert_close(part, expected[:, :, 31:48, 17:60], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 64), (80, 48)])
def test_every_size_after_another(height: int, width: int, kind: type[Convolution]) -> None:
    """Weights are packed for the first size that comes."""
    net = trained("DenseUNet", in_channels=3)
    network = ready(net)
    for x in (slices(2, 32, 32, 3), slices(1, height, width, 3), slices(5, height, width, 3)):
        torch.testing.assert_close(network(x), as_defined(net, x), rtol=0, atol=1e-5)


def test_the_memory_layout_of_the_input_does_not_matter(kind: type[Convolution]) -> None:
    network, x = ready(trained("DenseUNet", in_channels=3)), slices(channels=3)
    last = x.contiguous(memory_format=torch.channels_last)
    crop = torch.rand(2, 3, 40, 60)[:, :, 4:36, 6:54]
    assert torch.equal(network(x), network(last))
    assert torch.equal(network(crop), network(crop.clone()))


def test_the_same_bits_in_every_run_and_the_input_is_left_alone(kind: type[Convolution]) -> None:
    net, x = trained("DenseUNet"), slices()
    before = x.clone()
    network = ready(net)
    first = network(x)
    assert torch.equal(network(x), first)
    assert torch.equal(ready(net)(x), first)
    assert torch.equal(x, before)


@pytest.mark.parametrize("fill", [0.0, 1.0, 1000.0])
def test_no_input_makes_it_leave_0_to_1(fill: float, kind: type[Convolution]) -> None:
    out = ready(trained("DenseUNet"))(torch.full((1, 1, 32, 32), fill))
    assert torch.isfinite(out).all()
    assert 0 <= out.min() <= out.max() <= 1


def test_a_norm_without_scale_leaves_a_constant(kind: type[Convolution]) -> None:
    """relu(0 x + t) is relu(t): there is no corner c = -t / 0 to compare with."""
    net = trained("DenseUNet")
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[::2] = 0
                module.weight[1] = 1e-38
    x = slices()
    torch.testing.assert_close(ready(net)(x), as_defined(net, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "window",
    [((0, 80), (0, 96)), ((31, 48), (17, 60)), ((0, 1), (95, 96)), ((5, 6), (0, 96)), ((40, 80), (50, 51))],
    ids=str,
)
def test_the_wanted_window_is_as_if_all_were_wanted(window: inference.Window, kind: type[Convolution]) -> None:
    network, x = ready(trained("DenseUNet")), slices(2, 80, 96)
    rows, columns = (slice(*span) for span in window)
    whole, part = network(x, None)[:, :, rows, columns], network(x, window)
    assert part.shape == x.shape
    torch.testing.assert_close(part[:, :, rows, columns], whole, rtol=0, atol=1e-5)


# --- reduced precision ------------------------------------------------------------------------------------


def usable(precision: str) -> bool:
    """Whether this CPU and torch convolve in `precision` at all."""
    try:
        ready(trained("DenseUNet"), precision=precision)(slices())
    except RuntimeError:
        return False
    return True


def rounding(name: str, precision: str, size: tuple[int, int], air: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A phantom's slices of `size` in a frame of air: error of `precision` by every kind, and where the head is."""
    if not usable(precision):
        pytest.skip(f"no {precision} here")
    voxels = torch.from_numpy(phantom("t1", skull=False).voxels[12:28].astype("float32")) / 800
    x = nn.functional.interpolate(voxels[None, None, :, :, 4:36].clamp(0, 1), (6, *size), mode="trilinear")[0, 0]
    x = nn.functional.pad(x, [air] * 4)[:, None]
    net = checkpoint.load(name).generator()
    expected = ready(net)(x)
    for kind in {Convolution, convolutions.fastest(Place(CPU, inference.DTYPES[precision]))}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "fastest", lambda place, kind=kind: kind)
            result = ready(net, precision=precision)(x)
        assert result.dtype == torch.float32
        yield result - expected, x > 0.05


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", [path.stem for path in model_folders.installed()])
def test_shipped_checkpoints_keep_58_db_and_their_mean_in_half_precision(name: str, precision: str) -> None:
    """By the operations that GPUs use, too. With all weights rounded it would be 54 to 57 dB, and a shift of 0.0009."""
    for error, _ in rounding(name, precision, (128, 96), air=0):
        assert decibels(error) > 58
        assert abs(float(error.mean())) < 3e-4


@pytest.mark.parametrize("name", [path.stem for path in model_folders.installed()])
def test_a_small_head_in_much_air_keeps_its_values_in_bf16(name: str) -> None:
    """Features of air, rounded, would all err in one direction: 46 dB and a shift of 0.004 for `mrsynth-native`."""
    for error, head in rounding(name, "bf16", (32, 32), air=64):
        assert decibels(error[head]) > 55
        assert abs(float(error[head].mean())) < 1.5e-3


@pytest.mark.parametrize("name", ["UNet", "ResNet"])
def test_the_baselines_run_in_bf16_by_mixed_precision(name: str) -> None:
    net, x = trained(name), slices()
    result = ready(net, precision="bf16")(x)
    assert result.dtype == torch.float32
    assert psnr(result, as_defined(net, x)) > 35
    assert not torch.equal(result, as_defined(net, x))


# --- which form is taken -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "form"),
    [
        ("DenseUNet", {}, FusedDenseUNet),
        ("DenseUNet", {"norm": "none"}, FusedDenseUNet),
        ("DenseUNet", {"norm": "instance"}, AsDefined),
        ("DenseUNet", {"blocks": [1, 0, 1, 1]}, AsDefined),
        ("DenseUNet", {"upsampling": "bilinear"}, AsDefined),
        ("DenseUNet", {"upsampling": "transposed"}, AsDefined),
        ("UNet", {"norm": "batch"}, AsDefined),
        ("ResNet", {}, AsDefined),
    ],
)
def test_what_is_covered_is_fused_and_all_else_runs_as_defined(
    name: str, arguments: dict[str, Any], form: type
) -> None:
    assert type(ready(build(name, {**SMALL[name], **arguments}).eval())) is form


def test_a_generator_in_training_and_an_apple_gpu_get_the_definition() -> None:
    net = build("DenseUNet", SMALL["DenseUNet"])
    assert not FusedDenseUNet.covers(net.train(), Place(CPU, torch.float32))
    assert FusedDenseUNet.covers(net.eval(), Place(CPU, torch.float32))
    assert FusedDenseUNet.covers(net.eval(), Place(torch.device("cuda"), torch.bfloat16))
    assert not FusedDenseUNet.covers(net.eval(), Place(torch.device("mps"), torch.float32))


def gone(*_: object, **__: object) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")


def zeros(x: Tensor, *_: object, **__: object) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("instead", [gone, zeros])
@pytest.mark.parametrize("name", ["_convolution_pointwise", "_convolution_transpose_pointwise"])
def test_without_working_operations_of_onednn_plain_ones_are_taken(
    name: str, instead: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(CPU, torch.float32)
    if not PackedConvolution.usable(place):
        pytest.skip("this torch has no oneDNN")
    assert convolutions.fastest(place) is PackedConvolution
    monkeypatch.setattr(torch.ops.mkldnn, name, instead)
    assert convolutions.fastest(place) is Convolution


def test_gpus_get_plain_operations() -> None:
    assert convolutions.fastest(Place(torch.device("cuda"), torch.float16)) is Convolution
