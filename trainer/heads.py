"""The last layers of specialists: how they begin as the generalist's, and what is left of them afterwards.

It knows layers and their weights, not training.
Legend: M specialists of one task, K classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.groups import Group

DUSTBIN = 0
"""The column of the classes that are not special."""
NEVER = -1e4
"""The bias of a column that a smaller group has no class for: its probability, and so its gradient, is 0."""


def start_of(
    generalist: nn.Module, network: str, groups: Sequence[Group], classes: int, columns: int, *, full: bool = False
) -> dict[str, Tensor]:
    """The state in which specialists begin: the generalist's, with a new last layer, or with `full` its very own.

    A special class has the generalist's row. The dustbin has the mean of the other classes' rows, and log of their
    number on top of the mean of their biases: what the logarithm of their summed exponentials is where they are equal.
    Raises TrainerError where the generalist's last layer is not linear, or of other classes.
    """
    state = {name: tensor.detach().cpu() for name, tensor in generalist.state_dict().items()}
    last = _last_linear(generalist)
    outputs = len(state[f"{last}.weight"]) if last else 0
    if last is None or outputs != classes:
        found = f"ends in {outputs} outputs" if last else "has no linear layer"
        raise TrainerError(
            f"network {network!r} {found}: specialists start from a generalist whose last layer is a torch.nn.Linear "
            f"of {classes} outputs, one for each class"
        )
    weight_KD, bias_K = state[f"{last}.weight"], state.get(f"{last}.bias")
    bias_or_0 = torch.zeros(classes) if bias_K is None else bias_K
    heads = [(weight_KD, bias_or_0) if full else _head(weight_KD, bias_or_0, group, columns) for group in groups]
    if network != "mlp":
        (head,) = heads
        state[f"{last}.weight"] = head[0]
        if bias_K is not None:
            state[f"{last}.bias"] = head[1]
        return {_in_module(name): tensor for name, tensor in state.items()}
    start = {name.replace("0.", "normalise.", 1): state[name] for name in state if name.startswith("0.")}
    layers = [name for name, module in generalist.named_modules() if isinstance(module, nn.Linear)]
    for index, layer in enumerate(layers):
        pairs = heads if layer == last else [(state[f"{layer}.weight"], state[f"{layer}.bias"])] * len(groups)
        start[f"weights.{index}"] = torch.stack([weight.T for weight, _ in pairs])
        start[f"biases.{index}"] = torch.stack([bias[None] for _, bias in pairs])
    return start


def _in_module(name: str) -> str:
    """`0.mean` and `1.0.weight` of a member are `normalise.mean` and `network.0.weight` of a Module."""
    part, _, rest = name.partition(".")
    return f"{'normalise' if part == '0' else 'network'}.{rest}"


def _last_linear(network: nn.Module) -> str | None:
    return next((name for name, m in reversed(list(network.named_modules())) if isinstance(m, nn.Linear)), None)


def _head(weight_KD: Tensor, bias_K: Tensor, group: Group, columns: int) -> tuple[Tensor, Tensor]:
    """Weights [columns, D] and biases [columns]: the dustbin, the special classes, and columns that never are."""
    rest = [label for label in range(len(weight_KD)) if label not in set(group)]
    spare = columns - 1 - len(group)
    dustbin = bias_K[rest].mean(dim=0, keepdim=True) + math.log(len(rest))
    weights = [
        weight_KD[rest].mean(dim=0, keepdim=True),
        weight_KD[list(group)],
        weight_KD.new_zeros(spare, weight_KD.shape[1]),
    ]
    return torch.cat(weights), torch.cat([dustbin, bias_K[list(group)], bias_K.new_full((spare,), NEVER)])


def cut(network: nn.Module, outputs: int) -> nn.Module:
    """The same network with the first columns alone, without those that never are."""
    linear = network.get_submodule(_last_linear(network) or "")
    if isinstance(linear, nn.Linear):
        linear.out_features = outputs
        linear.weight = nn.Parameter(linear.weight.detach()[:outputs].clone())
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias.detach()[:outputs].clone())
    return network
