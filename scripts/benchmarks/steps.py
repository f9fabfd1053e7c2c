"""Training steps of LeNet-5 and ResNet-20 on a batch of 128 that is ready: our convolutions, XLA's and PyTorch's.

SGD with momentum, in turns in one process. `--of resnet20` chooses a net. On one core: `taskset -c 1 python ...`, which
is what a neighbor costs least.
"""

import argparse
import dataclasses
import os
from typing import Any

from benchmarks import measuring
from benchmarks.nets import NETS, Net

_NETS = {"lenet5": dataclasses.replace(NETS["lenet5"], shape=(28, 28, 1)), "resnet20": NETS["resnet20"]}
_BATCH = 128
_PROCESSORS = measuring.Unit("ms of processors a step", more_is_better=False, decimals=1)


def run(args: argparse.Namespace) -> list[str]:
    """Prints the tables of each net when they are complete."""
    for name in args.of or _NETS:
        net = _NETS[name]
        runs = {"jaxtrain": _jax_step(net, native=True), "plain XLA": _jax_step(net, native=False)}
        if package := measuring.missing("torch"):
            print(f"PyTorch: left out, {package} is not installed")
        else:
            runs["PyTorch NCHW"] = _torch_step(net, name, channels_last=False)
            runs["PyTorch channels_last"] = _torch_step(net, name, channels_last=True)
        clock, processors = measuring.wall_and_cpu_times(runs, args.rounds, 10 if name == "lenet5" else 1)
        speeds = {name: [1 / seconds for seconds in values] for name, values in clock.items()}
        used = {name: [1000 * seconds for seconds in values] for name, values in processors.items()}
        unit = measuring.Unit("steps/s", decimals=2)
        lines = [*measuring.report(name, speeds, "jaxtrain", unit), ""]
        lines += [*measuring.report(f"{name}, by processors", used, "jaxtrain", _PROCESSORS), ""]
        print("\n".join(lines), flush=True)
    return []


def _jax_step(net: Net, *, native: bool) -> measuring.Advance:
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    import jaxtrain.nn.layers
    from jaxtrain.config import ModelSpec
    from jaxtrain.xla_cpu.convolutions import conv_general_dilated

    model = ModelSpec.parse(net.model).build(num_classes=net.classes)
    images = jax.random.normal(jax.random.key(0), (_BATCH, *net.shape))
    labels = jnp.arange(_BATCH) % net.classes
    # a model takes the function when it is traced
    jaxtrain.nn.layers.conv_general_dilated = conv_general_dilated if native else lax.conv_general_dilated  # type: ignore[attr-defined]
    variables: Any = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    params, tx = variables.pop("params"), optax.sgd(0.01, momentum=0.9)

    def step(state: Any, images: Any, labels: Any) -> Any:
        params, variables, opt_state = state

        def objective(params: Any) -> Any:
            logits, new = model.apply({"params": params, **variables}, images, train=True, mutable=list(variables))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

        (loss, new), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), new, opt_state), loss

    state = (params, variables, tx.init(params))
    call = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, loss = call(state, images, labels)
        loss.block_until_ready()

    return advance


def _torch_step(net: Net, name: str, *, channels_last: bool) -> measuring.Advance:
    import torch
    from torch.nn import functional

    from benchmarks.torch_nets import torch_net

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    height, width, channels = net.shape
    model: Any = torch_net(name, height)
    images, labels = torch.randn(_BATCH, channels, height, width), torch.arange(_BATCH) % net.classes
    if channels_last:
        model, images = (x.to(memory_format=torch.channels_last) for x in (model, images))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def advance(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()

    return advance
