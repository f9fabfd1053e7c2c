"""The training step of a run, compiled without a run: its memory and FLOPs as XLA counts them."""

import dataclasses
import time
from typing import Any

import jax

from jaxtrain.analysis.memory import abstract_examples, abstract_order, abstract_state
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.run.compiled_run import compile_steps
from jaxtrain.run.out_of_memory import COMPILATION, explain_out_of_memory
from jaxtrain.training.metrics import empty_totals
from jaxtrain.training.plan import Plan, add_training_colors
from jaxtrain.training.state import jit_for_one_call, state_initializer

_MEANINGS = {
    "arguments": "state, metrics, data that a step reads",
    "outputs": "new state and metrics",
    "aliased": "outputs that are written over arguments",
    "temporaries": "activations, gradients, copies",
    "generated code": "the program, where the backend counts it",
}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """The program that a run calls for its training steps.

    Attributes:
      executable: the compiled program, a `jax.stages.Compiled`.
      seconds: time to compile it, or to read it from the compilation cache.
    """

    executable: Any
    seconds: float

    def memory(self) -> dict[str, int] | None:
        """Return the bytes on each device by XLA's `memory_analysis`; None where the backend provides none."""
        analysis = self.executable.memory_analysis()
        if analysis is None:
            return None
        return {
            "arguments": analysis.argument_size_in_bytes,
            "outputs": analysis.output_size_in_bytes,
            "aliased": analysis.alias_size_in_bytes,
            "temporaries": analysis.temp_size_in_bytes,
            "generated code": analysis.generated_code_size_in_bytes,
        }

    def memory_rows(self) -> list[tuple[str, int, str]]:
        """Return rows `(what, bytes on each device, its meaning)`; the last is the total."""
        memory = self.memory()
        if memory is None:
            return []
        rows = [(name, size, _MEANINGS[name]) for name, size in memory.items()]
        return [*rows, ("in all", total_bytes(memory), "at once, with aliased bytes counted once")]

    def lines(self) -> list[str]:
        """Return lines on the compilation and on the FLOPs that XLA counts."""
        directory = jax.config.values["jax_compilation_cache_dir"]
        kept = f"kept in {directory}, where `train` finds it" if directory else "not kept: the compilation cache is off"
        lines = [f"compiled step: ready after {self.seconds:.1f} s, {kept}"]
        if self.memory() is None:
            lines.append("memory: not available, because this backend provides no memory_analysis")
        flops = (self.executable.cost_analysis() or {}).get("flops", 0)
        if flops > 0:
            lines.append(
                f"FLOPs of a step on each device, by XLA's cost_analysis: {flops:,.0f} (elementwise work included, "
                "custom calls such as native convolutions left out)"
            )
        return lines


def total_bytes(memory: dict[str, int]) -> int:
    """Return the peak memory of a step; outputs that are written over arguments count once."""
    return sum(memory.values()) - 2 * memory["aliased"]


def why_unavailable(plan: Plan) -> str:
    """Return the reason why the step of `plan` cannot be compiled without a run, or ""."""
    if plan.config.parallel.backend == "pmap":
        return "not available for parallel.backend=pmap, which compiles at its first call"
    if plan.layout.explicit:
        return "not available for parallel.axis_types=explicit, whose step is compiled at its first call"
    return ""


def compile_step(plan: Plan) -> CompiledStep:
    """Compile the training step of `plan` as a run does, to the same entry of the persistent compilation cache.

    The training split is read, because statistics of its images are constants of the program. Nothing is put on the
    devices.

    Raises:
      JaxtrainError: the data cannot be read, or the memory is not enough (`OutOfMemory`).
    """
    lowered = _lower(plan)
    began = time.perf_counter()
    with explain_out_of_memory(plan.config, COMPILATION):
        executable = lowered.compile()
    return CompiledStep(executable, time.perf_counter() - began)


def compile_initial_state(plan: Plan) -> None:
    """Compile the program that initializes a run's state, unless `initialize` makes it depend on images."""
    if plan.config.initialize is not None:
        return
    make = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, plan.config.seed)
    with explain_out_of_memory(plan.config, COMPILATION):
        jit_for_one_call(make, plan.layout.of_state(plan.abstract)).lower().compile()


def _lower(plan: Plan) -> Any:
    """Lower the step for the shapes and shardings of its arguments.

    The shardings matter: without them jax would deduplicate the program's functions differently, and the program would
    have another key in the compilation cache.
    """
    train = read_splits(plan.splits, ("train",), plan.config.seed)["train"]
    normalization = fit_normalization(plan.splits, train)
    single, several = compile_steps(add_training_colors(plan, train), normalization)
    totals = plan.layout.abstract_arrays(jax.eval_shape(empty_totals), plan.layout.replicated)
    arguments = (abstract_state(plan), totals, abstract_order(plan), abstract_examples(plan))
    if several is None:
        return single.lower(*arguments)  # type: ignore[attr-defined]
    return several.compiled.lower(*arguments, several.count(1))
