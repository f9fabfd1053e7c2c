"""What a run comes to: `result.json`, and the same as an object."""

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
"""By split, by metric."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended.

    Attributes:
      status: "finished", "interrupted" or "diverged".
      workdir: the run directory.
      step: updates made.
      epochs: passes over the training split.
      final: metrics by split with the final parameters.
      best: the same with the parameters of the best evaluation; empty without a validation split.
      best_step: the step of that evaluation.
      wall_seconds: time of training and evaluation, over all sessions.
      compile_seconds: from the start of the loop to the first step dispatched, in the last session.
      params_sha256: digest of the final parameters in path order; equal for bitwise equal parameters.
      versions: of Python and the packages the numbers depend on.
      devices: what it ran on.
      state: the final state, on the device; not in result.json.
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
        """Writes everything but the state and the directory's own name as JSON."""
        content = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("state", "workdir")
        }
        write_atomically(path, json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def device_names(mesh: Any) -> list[str]:
    """The kinds of the devices of a mesh, such as `cpu` or `NVIDIA H200`."""
    return [d.device_kind for d in mesh.devices.flat]
