"""Where a training runs: a CPU, a GPU, or processes that share every batch; and how its modules are compiled."""

from __future__ import annotations

import atexit
import copy
import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from mrsynth_training.dense_training import faster
from mrsynth_training.errors import TrainingError
from MRSynthLib.engine import memory

OPTIONS = {"default": {"mode": "default"}, "cuda-graphs": {"mode": "reduce-overhead"}}  # of torch.compile
# Largest difference of compiled modules: of outputs, absolute, and of gradients, relative to their norm.
TOLERANCES = {"32-true": (1e-4, 1e-3), "bf16-mixed": (3e-2, 1e-1), "16-mixed": (1e-2, 3e-2)}


class TrainingFabric(Fabric):
    """Fabric as this training needs it.

    Several processes (`torchrun`, or `devices` above 1) share every batch: their gradients are averaged, and batch norm
    takes its statistics over all of them, so that a run learns the same on one device as on several.

    Parameters
    ----------
    precision : str
    accelerator, devices : str
        As Fabric takes them; under `torchrun` the number of devices and nodes is its.
    compiled : {"off", "default", "cuda-graphs"}
        Modules are compiled by `torch.compile`, with CUDA graphs where wanted.
    """

    def __init__(self, precision: str, accelerator: str, devices: str, compiled: str = "off") -> None:
        local, nodes = _of_torchrun()
        count = local or (int(devices) if devices.lstrip("-").isdigit() else devices)
        if compiled == "cuda-graphs" and not torch.cuda.is_available():
            raise TrainingError("CUDA graphs without an NVIDIA GPU", "--compile off or default", "Leave them out")
        # All processes have the same running statistics: none need be sent. And a buffer that is written between G(x)
        # and G(G(x)) could not be differentiated through.
        strategy: Any = "auto" if count == 1 and nodes == 1 else DDPStrategy(broadcast_buffers=False)
        super().__init__(
            accelerator=accelerator, devices=count, num_nodes=nodes, strategy=strategy, precision=precision
        )
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
        if self.device.type == "cpu":
            memory.keep()
        self.precision_name, self.compiled = precision, compiled
        self._pairs: list[tuple[nn.Module, nn.Module]] = []

    def launch(self, *arguments: Any, **options: Any) -> Any:
        """Fabric's; the group of processes is left before Python ends."""
        launched = super().launch(*arguments, **options)
        if self.world_size > 1:
            atexit.register(leave_group)
        return launched

    def setup(self, module: nn.Module, *optimizers: Any, **options: Any) -> Any:
        """Fabric's, of a module with joint batch statistics and, where wanted, compiled; else faster on a CPU."""
        if self.world_size > 1:
            module = with_joint_statistics(module, self.device)
        if self.compiled != "off":
            self._pairs.append((copy.deepcopy(module), module))
            module.compile(**OPTIONS[self.compiled])
        elif self.device.type == "cpu":
            module = faster(module)
        return super().setup(module, *optimizers, **options)

    def precision_state(self) -> dict[str, Any]:
        """What an exact resume needs of the precision: in 16-mixed the loss scale; else nothing."""
        state: dict[str, Any] = self._precision.state_dict()
        return state

    def load_precision_state(self, state: dict[str, Any] | None) -> None:
        """Restore what `precision_state` gave; of an earlier run, which did not save it, the scale begins anew."""
        if state:
            self._precision.load_state_dict(state)

    def check_compiled(self, images: Tensor) -> list[str]:
        """Run every compiled module beside its uncompiled copy on images (N,1,S,S), forwards and backwards.

        Returns
        -------
        list of str
            One line per module: how far they agree.

        Raises
        ------
        TrainingError
            If the difference is larger than the precision explains, or compiling fails.
        """
        return [self._compare(plain.to(self.device), compiled, images) for plain, compiled in self._pairs]

    def _compare(self, plain: nn.Module, compiled: nn.Module, images: Tensor) -> str:
        state = copy.deepcopy(compiled.state_dict())
        plain.load_state_dict(state)
        channels = next(m.in_channels for m in plain.modules() if isinstance(m, nn.Conv2d))
        found = []
        for module in (plain, compiled):
            try:
                with self.autocast():
                    made = module(images.expand(-1, channels, -1, -1))
                outputs = torch.cat([o.float().flatten() for o in (made if isinstance(made, list | tuple) else [made])])
                outputs.square().mean().backward()
            except Exception as error:  # the compilers raise their own
                raise TrainingError(
                    f"{type(plain).__name__} cannot be compiled here ({str(error)[:300]})",
                    "a compiler that torch.compile can use",
                    "Train with --compile off",
                ) from error
            gradients = torch.cat([p.grad.flatten().float() for p in module.parameters() if p.grad is not None])
            found.append((outputs.detach(), gradients))
            module.zero_grad(set_to_none=True)
        compiled.load_state_dict(state)  # what the batch left in the running statistics
        (output, gradient), (other, other_gradient) = found
        apart = float((output - other).abs().max())
        turned = float((gradient - other_gradient).norm() / gradient.norm().clamp(min=1e-12))
        allowed = TOLERANCES[self.precision_name]
        line = f"compiled {type(plain).__name__}: outputs within {apart:.1e}, gradients within {100 * turned:.2g} %"
        if not (apart <= allowed[0] and turned <= allowed[1]):
            raise TrainingError(line, f"{allowed[0]:g} and {100 * allowed[1]:g} %", "Train with --compile off")
        return line

    def agreed(self, flag: bool) -> bool:
        """True in every process where it is in any of them."""
        if self.world_size == 1:
            return flag
        return bool(self.all_reduce(torch.tensor(float(flag), device=self.device), reduce_op="sum") > 0)


def leave_group() -> None:
    """End the group of processes and its worker threads.

    A thread of gloo's that lets go of a tensor needs Python for it, and aborts the process if Python is ending. It is
    joined only when nothing holds the group: modules that were set up must be out of use.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()


def _of_torchrun() -> tuple[int | None, int]:
    """Processes on this node and number of nodes, as `torchrun` set them; (None, 1) without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None, 1
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def with_joint_statistics(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with batch norms over all processes: torch's own on GPUs, `JointBatchNorm2d` elsewhere."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = JointBatchNorm2d  # same parameters, same buffers, same names
    return module


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all processes, each of which holds equally many (`SyncBatchNorm` needs a GPU)."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N,C,H,W); differentiated through the statistics, across processes."""
        if not self.training:
            return super().forward(images)
        with torch.autocast(images.device.type, enabled=False):
            x = images.float()
            count = x.numel() // x.shape[1] * dist.get_world_size()
            mean = _SumOverProcesses.apply(x.sum((0, 2, 3))) / count
            centred = x - mean[:, None, None]
            variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
            self._keep(mean.detach(), variance.detach() * count / (count - 1))
            scale = self.weight * torch.rsqrt(variance + self.eps)
            return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(context, gradient)
