"""Weight decay, learning-rate multipliers and freezing by the path of a parameter.

A rule is `(regex, value)`; rules are tried in order, the first whose regex is found in the path decides, and every
parameter must be decided. Paths join the names of a tree with "/": `conv1/kernel`.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import ByPath, NonNegativeFloat
from jaxtrain.errors import ConfigError
from jaxtrain.optim.trees import is_masked

WeightDecay = NonNegativeFloat | ByPath
"""One decay for every parameter, or rules by path."""


@dataclasses.dataclass(frozen=True)
class ParameterInfo:
    """A parameter, and what the rules say of it.

    Attributes:
      path: such as `conv1/kernel`.
      shape: of the array.
      dtype: its name.
      count: elements.
      decay: weight decay.
      learning_rate: multiplier of the learning rate.
      frozen: whether it stays as initialized.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    decay: float
    learning_rate: float
    frozen: bool


def path_name(path: tuple[Any, ...]) -> str:
    """The path of a leaf as text: `conv1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def values_by_path(rules: float | ByPath, tree: Any, where: str, *, all_used: bool = False) -> Any:
    """A tree like `tree` with the value of the first rule that matches at each leaf; a number is for every leaf.

    Raises `ConfigError` naming `where` when a regex is malformed or a parameter is not covered, and, where
    `all_used` is asked for, when a rule decides nothing. That is for a whole model: a transform may see a part of it.
    """
    if not isinstance(rules, tuple | list):
        return jax.tree.map(lambda _: rules, tree)
    patterns = [(compiled(pattern, where), float(value)) for pattern, value in rules]
    used = set()

    def decide(path: tuple[Any, ...], _: Any) -> float:
        name = path_name(path)
        for index, (pattern, value) in enumerate(patterns):
            if pattern.search(name):
                used.add(index)
                return value
        raise ConfigError(f"no rule covers the parameter {name!r}; end the rules with ('.*', VALUE)", where)

    values = jax.tree_util.tree_map_with_path(decide, tree)
    for index, (text, _) in enumerate(rules):
        if all_used and index not in used and text != ".*":  # a closing catch-all may be left with nothing to catch
            names = ", ".join(path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)[:4])
            raise ConfigError(f"the rule {text!r} decides no parameter; they are called {names}, ...", where)
    return values


def compiled(pattern: str, where: str) -> re.Pattern[str]:
    """The regex, or a `ConfigError` that names `where`."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{pattern!r} is not a regular expression: {error}", where) from error


def add_weight_decay(rules: float | ByPath) -> optax.GradientTransformation:
    """Adds `decay * parameter` to each update, with the decay that `rules` give; a decay of 0 adds nothing."""

    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None) -> Any:
        if params is None:
            raise ValueError("weight decay needs the parameters: call update(grads, state, params)")
        decay = values_by_path(rules, params, "optimizer.weight_decay")
        return jax.tree.map(lambda u, p, d: u if is_zero(d) else u + d * p, updates, params, decay), state

    if is_zero(rules):
        return optax.identity()
    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def is_zero(value: Any) -> bool:
    """Whether a hyperparameter is 0 for good; under `optax.inject_hyperparams` it is an array, and may change."""
    return isinstance(value, int | float) and value == 0


def with_rules(
    tx: optax.GradientTransformationExtraArgs, learning_rate: ByPath, frozen: ByPath
) -> optax.GradientTransformationExtraArgs:
    """`tx` with its updates multiplied by path, and none at all, nor any optimizer state, for frozen parameters."""
    if any(value != 1 for _, value in learning_rate):
        tx = optax.chain(tx, _multiply(learning_rate))
    if any(value != 0 for _, value in frozen):
        tx = _freeze(tx, frozen)
    return optax.with_extra_args_support(tx)


def _multiply(rules: ByPath) -> optax.GradientTransformation:
    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None) -> Any:
        del params
        factors = values_by_path(rules, updates, "parameters.learning_rate")
        return jax.tree.map(lambda u, f: u if f == 1 else u * f, updates, factors), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _freeze(tx: optax.GradientTransformationExtraArgs, rules: ByPath) -> optax.GradientTransformationExtraArgs:
    """`tx` on the parameters for which `rules` give 0; those with 1 are frozen.

    Unlike `optax.partition` it completes what `tx` asks the objective about: `value_fn` and the functions of
    `objective`, which take whole trees of parameters, may be called with the trained ones alone.
    """
    tx = optax.with_extra_args_support(tx)

    def trained(tree: Any) -> Any:
        frozen = values_by_path(rules, tree, "parameters.frozen")
        return jax.tree.map(lambda x, f: optax.MaskedNode() if f else x, tree, frozen)

    def init(params: optax.Params) -> Any:
        return tx.init(trained(params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        def complete(part: Any) -> Any:
            return _complete(part, params)

        if (value_fn := extra.get("value_fn")) is not None:
            extra["value_fn"] = lambda part: value_fn(complete(part))
        if (objective := extra.get("objective")) is not None:
            extra["objective"] = objective.complete_params(complete)
        if extra.get("grad") is not None:
            extra["grad"] = trained(extra["grad"])
        part = None if params is None else trained(params)
        new, state = tx.update(trained(updates), state, part, **extra)
        return _complete(new, jax.tree.map(jnp.zeros_like, updates)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _complete(part: Any, whole: Any) -> Any:
    """`part` with what `whole` has where it has `optax.MaskedNode`.

    Where the leaves of `part` have one more axis in front than those of `whole`, as the parameters of several workers
    have, the leaves that are filled in are repeated along it.
    """
    rows: set[int] = set()

    def look(x: Any, y: Any) -> None:
        if not is_masked(x) and jnp.ndim(x) == jnp.ndim(y) + 1:
            rows.add(x.shape[0])

    def fill(x: Any, y: Any) -> Any:
        if not is_masked(x):
            return x
        return y if is_masked(y) or not rows else jnp.broadcast_to(y, (*rows, *jnp.shape(y)))

    jax.tree.map(look, part, whole, is_leaf=is_masked)
    return jax.tree.map(fill, part, whole, is_leaf=is_masked)
