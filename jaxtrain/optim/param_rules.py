"""Weight decay, learning-rate multipliers and freezing by parameter path.

A rule is `(regex, value)`. Rules are tried in order, and the first whose regex is found in the path gives the value.
Every parameter must match a rule. Paths join the names of a tree with "/": `conv1/kernel`.
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
"""A decay for every parameter, or rules by path."""


@dataclasses.dataclass(frozen=True)
class ParameterInfo:
    """Parameter with the values that the rules give it.

    Attributes:
      path: the path, such as `conv1/kernel`.
      shape: the shape of the array.
      dtype: the name of the dtype.
      count: the number of elements.
      decay: the weight decay.
      learning_rate: the multiplier of the learning rate.
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
    """Return the path of a leaf as text, such as `conv1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def values_by_path(rules: float | ByPath, tree: Any, where: str, *, all_used: bool = False) -> Any:
    """Return a tree like `tree` with the value of the first matching rule at each leaf; a number applies to every leaf.

    Args:
      rules: a number, or rules `(regex, value)`.
      tree: a tree of parameters or of arrays like them.
      where: the config path that errors name.
      all_used: whether a rule without a parameter is an error. Use it for a whole model; a transformation may get a
        part.

    Raises:
      ConfigError: if a regex is malformed, a parameter matches no rule, or, with `all_used`, a rule matches no
        parameter.
    """
    if not isinstance(rules, tuple | list):
        return jax.tree.map(lambda _: rules, tree)
    patterns = [(compile_regex(pattern, where), float(value)) for pattern, value in rules]
    used = set()

    def find_value(path: tuple[Any, ...], _: Any) -> float:
        name = path_name(path)
        for index, (pattern, value) in enumerate(patterns):
            if pattern.search(name):
                used.add(index)
                return value
        raise ConfigError(f"no rule covers the parameter {name!r}; add ('.*', VALUE) as the last rule", where)

    values = jax.tree_util.tree_map_with_path(find_value, tree)
    for index, (text, _) in enumerate(rules):
        if all_used and index not in used and text != ".*":  # a final catch-all may match nothing
            names = ", ".join(path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)[:4])
            raise ConfigError(f"the rule {text!r} matches no parameter; parameters are {names}, ...", where)
    return values


def compile_regex(pattern: str, where: str) -> re.Pattern[str]:
    """Compile a regex; raise a `ConfigError` that names `where` if it is malformed."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{pattern!r} is not a regular expression: {error}", where) from error


def add_weight_decay(rules: float | ByPath) -> optax.GradientTransformation:
    """Return a transformation that adds `decay * parameter` to each update, with the decays that `rules` give."""

    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None) -> Any:
        if params is None:
            raise ValueError("weight decay needs the parameters: call update(grads, state, params)")
        decay = values_by_path(rules, params, "optimizer.weight_decay")
        return jax.tree.map(lambda u, p, d: u if is_zero(d) else u + d * p, updates, params, decay), state

    if is_zero(rules):
        return optax.identity()
    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def is_zero(value: Any) -> bool:
    """Return whether a hyperparameter is always 0; under `optax.inject_hyperparams` it is an array that may change."""
    return isinstance(value, int | float) and value == 0


def with_rules(
    tx: optax.GradientTransformationExtraArgs, learning_rate: ByPath, frozen: ByPath
) -> optax.GradientTransformationExtraArgs:
    """Return `tx` with its updates multiplied by path; frozen parameters get no updates and no optimizer state."""
    if any(value != 1 for _, value in learning_rate):
        tx = optax.chain(tx, _multiply_by_path(learning_rate))
    if any(value != 0 for _, value in frozen):
        tx = _freeze(tx, frozen)
    return optax.with_extra_args_support(tx)


def _multiply_by_path(rules: ByPath) -> optax.GradientTransformation:
    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None) -> Any:
        del params
        factors = values_by_path(rules, updates, "parameters.learning_rate")
        return jax.tree.map(lambda u, f: u if f == 1 else u * f, updates, factors), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _freeze(tx: optax.GradientTransformationExtraArgs, rules: ByPath) -> optax.GradientTransformationExtraArgs:
    """Return `tx` on the parameters to which `rules` give 0; those with 1 are frozen.

    Unlike `optax.partition`, it completes the functions that `tx` evaluates. `value_fn` and the functions of
    `objective` take whole parameter trees; `tx` may call them with the trained parameters only.
    """
    tx = optax.with_extra_args_support(tx)

    def mask_frozen(tree: Any) -> Any:
        frozen = values_by_path(rules, tree, "parameters.frozen")
        return jax.tree.map(lambda x, f: optax.MaskedNode() if f else x, tree, frozen)

    def init(params: optax.Params) -> Any:
        return tx.init(mask_frozen(params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        def complete(part: Any) -> Any:
            return _fill_masked(part, params)

        if (value_fn := extra.get("value_fn")) is not None:
            extra["value_fn"] = lambda part: value_fn(complete(part))
        if (objective := extra.get("objective")) is not None:
            extra["objective"] = objective.complete_params(complete)
        if extra.get("grad") is not None:
            extra["grad"] = mask_frozen(extra["grad"])
        part = None if params is None else mask_frozen(params)
        new, state = tx.update(mask_frozen(updates), state, part, **extra)
        return _fill_masked(new, jax.tree.map(jnp.zeros_like, updates)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _fill_masked(part: Any, whole: Any) -> Any:
    """Return `part` with the leaves of `whole` in place of each `optax.MaskedNode`.

    The leaves of `part` may have one more leading axis than those of `whole`, as the parameters of several workers do.
    Then the filled leaves are repeated along it.
    """
    rows: set[int] = set()

    def record_rows(x: Any, y: Any) -> None:
        if not is_masked(x) and jnp.ndim(x) == jnp.ndim(y) + 1:
            rows.add(x.shape[0])

    def fill(x: Any, y: Any) -> Any:
        if not is_masked(x):
            return x
        return y if is_masked(y) or not rows else jnp.broadcast_to(y, (*rows, *jnp.shape(y)))

    jax.tree.map(record_rows, part, whole, is_leaf=is_masked)
    return jax.tree.map(fill, part, whole, is_leaf=is_masked)
