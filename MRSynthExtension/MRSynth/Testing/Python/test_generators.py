"""The generators against Table 1 of Fu et al., and what every generator promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from MRSynthLib.engine.generators import UPSAMPLING, AutoContext, DenseUNet, Output, ResNet, UNet, build

SMALL: dict[str, dict[str, Any]] = {
    "DenseUNet": {"growth": 2, "blocks": [1, 2, 1, 1]},
    "UNet": {"base": 4},
    "ResNet": {"base": 4, "blocks": 1},
}
NORMS = ("batch", "instance", "none")
OUTPUTS = ("relu_clip", "sigmoid", "softclip")


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def outputs_of(modules: dict[str, nn.Module], run: nn.Module, x: torch.Tensor) -> dict[str, list[tuple[int, ...]]]:
    """(channels, height, width) of every output of `modules` while `run` works on `x`."""
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _x, out, name=name: seen[name].append(tuple(out.shape[1:])))
    with torch.inference_mode():
        run(x)
    return seen


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- DenseU-net is Table 1 --------------------------------------------------------------------------------


def test_every_layer_has_the_size_of_table_1() -> None:
    net = DenseUNet().eval()
    layers = {
        "Convolution 1": net.convolution1,
        "Pooling": net.pooling,
        "Upsampling": net.upsampling,
        "Convolution 2": net.convolution2,
        **{f"Dense block {n}": block for n, block in enumerate(net.dense_blocks, 1)},
        **{f"Transition {n}": transition for n, transition in enumerate(net.transitions, 1)},
        "Output": net.output,
    }
    seen = outputs_of(layers, net, torch.rand(1, 1, 128, 128))
    assert {name: [size[1:] for size in sizes] for name, sizes in seen.items()} == {
        "Convolution 1": [(128, 128)],
        "Pooling": [(64, 64)],
        "Dense block 1": [(64, 64)],
        "Transition 1": [(32, 32)],
        "Dense block 2": [(32, 32)],
        "Transition 2": [(16, 16)],
        "Dense block 3": [(16, 16)],
        "Transition 3": [(8, 8)],
        "Dense block 4": [(8, 8)],
        "Upsampling": [(16, 16), (32, 32), (64, 64), (128, 128)],
        "Convolution 2": [(128, 128)],
        "Output": [(128, 128)],
    }
    # k = 10: a stem of 2k, each layer adds k, each transition halves
    channels = {name: sizes[0][0] for name, sizes in seen.items()}
    assert [channels[f"Dense block {n}"] for n in (1, 2, 3, 4)] == [80, 160, 320, 320]
    assert [channels[f"Transition {n}"] for n in (1, 2, 3)] == [40, 80, 160]
    assert (channels["Convolution 1"], channels["Convolution 2"]) == (20, 1)


def test_kernels_and_strides_are_those_of_table_1() -> None:
    net = DenseUNet()
    first = net.convolution1[0]
    assert (first.kernel_size, first.stride) == ((7, 7), (1, 1))
    assert isinstance(net.pooling, nn.MaxPool2d)
    assert (net.pooling.kernel_size, net.pooling.stride) == (3, 2)
    assert [len(block) for block in net.dense_blocks] == [6, 12, 24, 16]
    for block in net.dense_blocks:
        for layer in block:
            assert (layer.conv1.kernel_size, layer.conv2.kernel_size) == ((1, 1), (3, 3))
    for transition in net.transitions:
        convolution, pool = list(transition)[-2:]
        assert (convolution.kernel_size, type(pool), pool.kernel_size) == ((1, 1), nn.AvgPool2d, 2)
    assert net.upsampling.scale_factor == 2
    assert (net.convolution2.kernel_size, net.convolution2.stride) == ((1, 1), (1, 1))


def test_upsampling_is_joined_with_the_layers_that_table_1_names() -> None:
    net = DenseUNet().eval()
    joined: list[int] = []
    for stage in net.decoder:
        stage.register_forward_hook(lambda _m, inputs, _out: joined.append(inputs[0].shape[1]))
    with torch.inference_mode():
        net(torch.rand(1, 1, 32, 32))
    before = [320, *(stage[0].out_channels for stage in net.decoder[:-1])]
    skips = [total - own for total, own in zip(joined, before, strict=True)]
    assert skips == [320, 160, 80, 20]  # dense blocks 3, 2, 1 and convolution 1


@pytest.mark.parametrize(("generator", "count"), [(DenseUNet, 1_929_001), (UNet, 6_167_553), (ResNet, 11_376_129)])
def test_number_of_parameters(generator: type[nn.Module], count: int) -> None:
    assert parameters(generator()) == count


def test_a_slice_takes_1_42_gmac() -> None:
    net = DenseUNet().eval()
    macs = 0

    def count(layer: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        nonlocal macs
        macs += out.numel() * layer.weight[0].numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        net(torch.rand(1, 1, 128, 128))
    assert round(macs / 1e9, 2) == 1.42


# --- what every generator promises --------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize(("height", "width"), [(32, 16), (16, 48), (48, 80), (112, 64)])
def test_any_height_and_width_that_are_multiples_of_16(name: str, height: int, width: int) -> None:
    net = build(name, SMALL[name]).eval()
    with torch.inference_mode():
        out = net(torch.rand(2, 1, height, width))
    assert out.shape == (2, 1, height, width)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_output_lies_between_0_and_1_in_every_variant(name: str, norm: str, output: str) -> None:
    net = build(name, {**SMALL[name], "norm": norm, "output": output})
    for mode in (net.train(), net.eval()):
        with torch.inference_mode():
            out = mode(torch.randn(2, 1, 32, 32) * 50)  # far outside of what a slice holds
        assert torch.isfinite(out).all()
        assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_way_of_upsampling_keeps_the_size_and_learns(name: str, upsampling: str) -> None:
    net = build(name, {**SMALL[name], "upsampling": upsampling})
    out = net(torch.rand(2, 1, 48, 32))
    assert out.shape == (2, 1, 48, 32)
    out.square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    resized = [m for m in net.modules() if isinstance(m, nn.Upsample)]
    assert {m.mode for m in resized} == (set() if upsampling == "transposed" else {upsampling})
    learned = any(isinstance(m, nn.ConvTranspose2d) for m in net.modules())
    assert learned == (upsampling == "transposed")


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_generator_starts_within_the_clip(name: str, output: str) -> None:
    """Where all pixels of a fresh generator lie beyond it, nothing is ever learnt."""
    with torch.inference_mode():
        out = build(name, {"output": output})(torch.rand(2, 1, 32, 32))
    assert ((out > 0.01) & (out < 0.99)).float().mean() > 0.99


@pytest.mark.parametrize("name", sorted(SMALL))
def test_neighbouring_slices_as_channels(name: str) -> None:
    net = build(name, {**SMALL[name], "in_channels": 3}).eval()
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_slices_of_a_batch_do_not_see_each_other(name: str) -> None:
    net = build(name, SMALL[name]).eval()
    x = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_state_dict_round_trip(name: str) -> None:
    net, other = build(name, SMALL[name]), build(name, SMALL[name])
    net(torch.rand(2, 1, 32, 32))  # moves the running statistics of batch norm
    other.load_state_dict(net.state_dict())
    x = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net.eval()(x), other.eval()(x))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_parameter_of_a_fresh_generator_learns(name: str) -> None:
    net = build(name, SMALL[name])
    net(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    last = list(net.parameters())[-1]
    assert last.grad is not None
    assert last.grad.abs().sum() > 0  # not all pixels are born beyond the clip


def test_the_output_of_the_paper_is_relu_then_values_above_1_set_to_1() -> None:
    x = torch.tensor([-2.0, 0.0, 0.25, 1.0, 3.0])
    assert Output("relu_clip")(x).tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]


def test_softclip_is_linear_in_between_and_smooth_at_the_ends() -> None:
    x = torch.tensor([-0.5, 0.0, 0.4, 0.5, 0.6, 1.5], requires_grad=True)
    y = Output("softclip")(x)
    torch.testing.assert_close(y[2:5], x[2:5], rtol=0, atol=1e-4)
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad > 0).all()


# --- two in a row ---------------------------------------------------------------------------------------------


def in_a_row(in_channels: int = 1) -> AutoContext:
    stages = ({"name": "DenseUNet", "arguments": SMALL["DenseUNet"]}, {"name": "UNet", "arguments": SMALL["UNet"]})
    net = build("AutoContext", dict(zip(("first", "second"), stages, strict=True)) | {"in_channels": in_channels})
    assert isinstance(net, AutoContext)
    return net


def test_auto_context_shows_the_second_generator_the_input_and_the_firsts_output() -> None:
    net, x = in_a_row(3).eval(), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(x), net.second(torch.cat([x, net.first(x)], dim=1)))


def test_auto_context_trains_the_second_generator_alone() -> None:
    net = in_a_row()
    before = {name: tensor.clone() for name, tensor in net.first.state_dict().items()}
    net(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert not net.first.training and net.second.training
    assert not net.train().first.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.first.state_dict().items())
    assert all(parameter.grad is None for parameter in net.first.parameters())
    assert all(parameter.grad is not None for parameter in net.second.parameters())


def test_a_cycle_through_auto_context_has_a_gradient_through_its_first_generator() -> None:
    net, x = in_a_row().eval(), torch.rand(1, 1, 32, 32, requires_grad=True)
    net.second.down[0][0].weight.data[:, :1] = 0  # the second generator sees nothing but the first one's output
    net(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


# --- what a card may ask for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("os.system", {}, "os.system"),
        ("Linear", {"in_features": 1, "out_features": 1}, "Linear"),
        ("DenseUNet", {"colour": "blue"}, "colour"),
        ("DenseUNet", {"growth": "ten"}, "DenseUNet"),
        ("DenseUNet", {"blocks": [6, 12, 24]}, "four"),
        ("DenseUNet", {"norm": "layer"}, "layer"),
        ("UNet", {"output": "tanh"}, "tanh"),
        ("ResNet", {"norm": "layer"}, "layer"),
        *((name, {"upsampling": "cubic"}, "cubic") for name in SMALL),
        ("AutoContext", {}, "AutoContext"),
        ("AutoContext", {"first": {}, "second": {}}, "AutoContext"),
        ("AutoContext", {"first": {"name": "Linear"}, "second": {"name": "UNet"}}, "Linear"),
    ],
)
def test_unknown_names_and_arguments_are_refused_by_name(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(name, arguments)
