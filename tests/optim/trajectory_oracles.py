"""First-order rules written out as their papers have them, a numpy loop each: `rule(problem, rate, options) -> path`.

None of this uses the package. `rate` is a function of the step, counted from 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Rate = Callable[[int], float]
STEPS = 100


class Problem:
    """A start and a gradient, by hand; the function itself for oracles that differentiate."""

    def __init__(self, start: Array, gradient: Callable[[Array], Array], value: Callable[[Any, Any], Any]):
        self.start, self.gradient, self.value = start, gradient, value


_rng = np.random.default_rng(0)
_q = np.linalg.qr(_rng.normal(size=(6, 6)))[0]
H = _q @ np.diag([0.5, 1.0, 2.0, 3.0, 5.0, 8.0]) @ _q.T
BOWL = Problem(
    3 * _rng.normal(size=6),
    lambda x: H @ x - np.sin(x),
    lambda x, lib: (x * (lib.asarray(H) @ x)).sum() / 2 + lib.cos(x).sum(),
)
"""x'Hx / 2 + sum cos x."""
_inputs, _targets = _rng.normal(size=(5, 3)), _rng.normal(size=5)


def _net_gradient(x: Array) -> Array:
    weights, out = x[:6].reshape(3, 2), x[6:]
    hidden = np.tanh(_inputs @ weights)
    error = hidden @ out - _targets
    back = error[:, None] * out[None] * (1 - hidden**2)
    return np.concatenate([(_inputs.T @ back).reshape(-1), hidden.T @ error]) / 5


NET = Problem(
    _rng.normal(size=8),
    _net_gradient,
    lambda x, lib: (
        ((lib.tanh(lib.asarray(_inputs) @ x[:6].reshape(3, 2)) @ x[6:] - lib.asarray(_targets)) ** 2).sum() / 10
    ),
)
"""The mean squared error of a tanh network with 3 inputs, 2 hidden units and no biases on 5 examples."""
PROBLEMS = {"bowl": BOWL, "net": NET}


def _path(problem: Problem, step: Callable[[int, Array, Array], Array]) -> Array:
    """The points after each of `x -= step(t, x, gradient)`."""
    x, path = problem.start.copy(), []
    for t in range(STEPS):
        x = x - step(t, x, problem.gradient(x))
        path.append(x)
    return np.array(path)


def _l2(options: dict[str, Any], x: Array, g: Array) -> Array:
    return g + options.get("weight_decay", 0.0) * x


def sgd(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    """torch's SGD: the learning rate multiplies the velocity."""
    v, m = np.zeros_like(problem.start), o.get("momentum", 0.0)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal v
        g = _l2(o, x, g)
        v = m * v + g
        return rate(t) * (g + m * v if o.get("nesterov") else v)

    return _path(problem, step)


def momentum(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    """Inside: v = m v - lr g, x += v. Outside: v = m v + g, x -= lr v."""
    v, m = np.zeros_like(problem.start), o.get("momentum", 0.9)
    inside = o.get("lr_placement", "inside") == "inside"

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal v
        now = m(t) if callable(m) else m
        g = _l2(o, x, g)
        v = now * v + (rate(t) * g if inside else g)
        return v if inside else rate(t) * v

    return _path(problem, step)


def nesterov(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    """The look-ahead form; the path is that of the points at which gradients are taken."""
    m = o.get("momentum", 0.9)

    def at(t: int) -> float:
        return m(t) if callable(m) else m

    x, v, path = problem.start.copy(), np.zeros_like(problem.start), []
    for t in range(STEPS):
        ahead = x + at(t) * v
        v = at(t) * v - rate(t) * _l2(o, ahead, problem.gradient(ahead))
        x = x + v
        path.append(x + at(t + 1) * v)
    return np.array(path)


def adagrad(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    s = np.full_like(problem.start, o.get("initial_accumulator", 0.0))

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal s
        g = _l2(o, x, g)
        s = s + g**2
        return rate(t) * g / (np.sqrt(s) + o.get("eps", 1e-7))

    return _path(problem, step)


def rmsprop(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    s, mean, v = (np.zeros_like(problem.start) for _ in range(3))
    d, inside = o.get("decay", 0.9), o.get("lr_placement", "outside") == "inside"

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal s, mean, v
        g = _l2(o, x, g)
        s, mean = d * s + (1 - d) * g**2, d * mean + (1 - d) * g
        u = g / (np.sqrt(s - mean**2 if o.get("centered") else s) + o.get("eps", 1e-7))
        v = o.get("momentum", 0.0) * v + (rate(t) * u if inside else u)
        return v if inside else rate(t) * v

    return _path(problem, step)


def adadelta(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    s, moved = np.zeros_like(problem.start), np.zeros_like(problem.start)
    rho, eps = o.get("rho", 0.9), o.get("eps", 1e-6)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal s, moved
        g = _l2(o, x, g)
        s = rho * s + (1 - rho) * g**2
        u = np.sqrt(moved + eps) / np.sqrt(s + eps) * g
        moved = rho * moved + (1 - rho) * u**2
        return rate(t) * u

    return _path(problem, step)


def adam(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    """Adam; "decoupled" is adamw's decay, "peak" what its schedule is divided by in the form of the paper."""
    m, s, most = (np.zeros_like(problem.start) for _ in range(3))
    b1, b2, eps = o.get("b1", 0.9), o.get("b2", 0.999), o.get("eps", 1e-8)
    decoupled = o.get("decoupled", False)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal m, s, most
        g = g if decoupled else _l2(o, x, g)
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        first, second = (1.0, 1.0) if o.get("uncorrected") else (1 - b1 ** (t + 1), 1 - b2 ** (t + 1))
        most = np.maximum(most, s)
        hat = (most if o.get("amsgrad") else s) / second
        u = m / first / (np.sqrt(hat + eps) if o.get("eps_inside_sqrt") else np.sqrt(hat) + eps)
        if not decoupled:
            return rate(t) * u
        decay = o.get("weight_decay", 0.01) * x
        share = rate(t) / o["peak"] if o.get("decoupling") == "schedule" else rate(t)
        return rate(t) * u + share * decay

    return _path(problem, step)


def nadam(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    m, s = np.zeros_like(problem.start), np.zeros_like(problem.start)
    b1, b2, eps, psi = o.get("b1", 0.9), o.get("b2", 0.999), o.get("eps", 1e-8), o.get("momentum_decay", 0.0)
    product = 1.0

    def mu(t: int) -> float:
        return b1 * (1 - 0.5 * 0.96 ** (t * psi)) if psi else b1

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal m, s, product
        g = _l2(o, x, g)
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        product *= mu(t + 1)
        lead = (1 - mu(t + 1)) / (1 - product) * g + mu(t + 2) / (1 - product * mu(t + 2)) * m
        return rate(t) * lead / (np.sqrt(s / (1 - b2 ** (t + 1))) + eps)

    return _path(problem, step)


def _agreement(problem: Problem, rate: Rate, o: dict[str, Any], factor: Callable[[Array], Array]) -> Array:
    m, b1, length = np.zeros_like(problem.start), o.get("b1", 0.9), o.get("decay_steps", 0)
    forms = {
        "none": lambda t: 1.0,
        "linear": lambda t: max(1 - t / length, 0.0),
        "cosine": lambda t: 0.5 * (1 + np.cos(np.pi * min(t / length, 1.0))),
    }
    f = forms[o.get("internal_decay", "none")]

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal m
        g = _l2(o, x, g)
        m = b1 * m + (1 - b1) * g
        return rate(t) * factor(f(t) * np.sign(g) * np.sign(m)) * g

    return _path(problem, step)


def powersign(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    return _agreement(problem, rate, o, lambda a: o.get("base", np.e) ** a)


def addsign(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    return _agreement(problem, rate, o, lambda a: o.get("alpha", 1.0) + a)


def lion(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    m, b1, b2 = np.zeros_like(problem.start), o.get("b1", 0.9), o.get("b2", 0.99)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal m
        u = np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        return rate(t) * (u + o.get("weight_decay", 0.0) * x)

    return _path(problem, step)


def _ratio(x: Array, u: Array) -> float:
    a, b = np.linalg.norm(x), np.linalg.norm(u)
    return a / b if a > 0 and b > 0 else 1.0


def lars(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    """LARS for one vector, which is one layer with the trust ratio."""
    v = np.zeros_like(problem.start)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal v
        g = _l2(o, x, g)
        ratio = o.get("trust_coefficient", 0.001) * _ratio(x, g)
        v = o.get("momentum", 0.9) * v + rate(t) * ratio * g
        return v

    return _path(problem, step)


def lamb(problem: Problem, rate: Rate, o: dict[str, Any]) -> Array:
    m, s = np.zeros_like(problem.start), np.zeros_like(problem.start)
    b1, b2, eps = o.get("b1", 0.9), o.get("b2", 0.999), o.get("eps", 1e-6)

    def step(t: int, x: Array, g: Array) -> Array:
        nonlocal m, s
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        u = m / (1 - b1 ** (t + 1)) / (np.sqrt(s / (1 - b2 ** (t + 1))) + eps) + o.get("weight_decay", 0.0) * x
        return rate(t) * _ratio(x, u) * u

    return _path(problem, step)
