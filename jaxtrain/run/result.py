"""The result of a run, which is also written to `result.json`."""

import dataclasses
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxtrain.run.files import write_atomically
from jaxtrain.training.state import TrainState

_PACKAGES = ("jaxtrain", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

Metrics = dict[str, dict[str, float]]
"""Values of metrics: `{split: {metric: value}}`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run, as `fit` returns it.

    Example:
      >>> from pathlib import Path
      >>> import jaxtrain
      >>> result = jaxtrain.Result(
      ...     status="finished", workdir=Path("runs/a"), step=10, epochs=5.0, final={"test": {"accuracy": 0.9375}}
      ... )
      >>> result.final["test"]["accuracy"]
      0.9375

    Attributes:
      status: "finished", "interrupted" or "diverged".
      workdir: the run directory.
      step: number of updates.
      epochs: number of passes over the training split.
      final: metrics of the final parameters, by split.
      best: metrics of the parameters of the best evaluation, by split; empty without a validation split.
      best_step: step of the best evaluation; None without a validation split.
      wall_seconds: time of training and evaluation in seconds, over all sessions.
      compile_seconds: time in seconds from the start of the loop to the end of the first dispatch, in the last session.
      params_sha256: digest of the final parameters; equal for bitwise equal parameters.
      versions: versions of Python and of the packages on which the numbers depend.
      devices: kind of each device of the run.
      message: error message of a run that did not finish; "" if it finished.
      state: final state, on the devices; not in result.json.
    """

    status: str
    workdir: Path
    step: int
    epochs: float
    final: Metrics = dataclasses.field(default_factory=dict)
    best: Metrics = dataclasses.field(default_factory=dict)
    best_step: int | None = None
    wall_seconds: float = 0.0
    compile_seconds: float = 0.0
    params_sha256: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    devices: list[str] = dataclasses.field(default_factory=list)
    message: str = ""
    state: TrainState | None = dataclasses.field(default=None, repr=False, compare=False)

    def write(self, path: Path) -> None:
        """Write all fields except `state` and `workdir` as JSON."""
        content = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("state", "workdir")
        }
        write_atomically(path, json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which a result depends."""
    result = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            result[package] = "not installed"
    return result


def device_names(mesh: Any) -> list[str]:
    """Return the kind of each device of a mesh, such as `cpu` or `NVIDIA H200`."""
    return [d.device_kind for d in mesh.devices.flat]
