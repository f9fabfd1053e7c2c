"""Several processes of one run: joining, synchronization, broadcasts and a common end.

With one process, these functions do nothing.
"""

import atexit
import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxtrain.distributed.peers import Hub, Peers, Spoke, end_process, exit_now
from jaxtrain.errors import ConfigError, Diverged, Interrupted, JaxtrainError, PeerDied

_TEXT = 64
"""The number of bytes of a text that process 0 broadcasts."""


def join(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None, timeout: float = 300
) -> None:
    """Join the processes of a run; call this before any other use of jax.

    Without arguments, `jax.distributed` finds the processes in an environment with several of them: SLURM, Open MPI,
    Kubernetes with jax's extra "k8s", or a TPU pod. In other environments this does nothing.

    Args:
      coordinator: the address of process 0, HOST:PORT.
      processes: the number of processes.
      process_id: the index of this process, from 0.
      timeout: the number of seconds to wait for the others; then this process exits with an error message.

    Raises:
      ConfigError: the arguments do not fit each other, or jax does not find the processes of the environment.
    """
    arguments = (coordinator, processes, process_id)
    several = _environment_has_several()
    if all(x is None for x in arguments):
        if not (several or importlib.util.find_spec("libtpu") is not None):
            return
    elif coordinator is None or processes is None or process_id is None:
        raise ConfigError("--coordinator, --processes and --process-id must be set together: set all three, or none")
    else:
        _check_arguments(coordinator, processes, process_id)
        if processes == 1:
            return
    try:
        with _exit_after(timeout, coordinator):
            jax.distributed.initialize(*arguments, initialization_timeout=int(timeout) + 60)
    except (RuntimeError, ValueError) as error:
        undetected = isinstance(error, ValueError) and coordinator is None
        if undetected and not several:
            return  # a machine with a TPU that is not part of a pod
        advice = (
            "; the environment indicates several processes: set --coordinator, --processes and --process-id (on "
            "Kubernetes jax finds them with `pip install jax[k8s]`), or --coordinator localhost:1 --processes 1 "
            "--process-id 0 for a single process"
        )
        raise ConfigError(
            f"the processes of the run could not connect: {_first_line(error)}{advice if undetected else ''}"
        ) from error


def _check_arguments(coordinator: str, processes: int, process_id: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ConfigError(f"--coordinator {coordinator} is not HOST:PORT, such as 10.0.0.1:1234")
    if processes < 1:
        raise ConfigError(f"--processes {processes}: it must be at least 1")
    if not 0 <= process_id < processes:
        raise ConfigError(f"--process-id {process_id}: with {processes} processes it must be from 0 to {processes - 1}")


def _environment_has_several() -> bool:
    """Return whether environment variables indicate that this is one of several processes."""
    variables = os.environ
    launchers = ("SLURM_NTASKS", "SLURM_STEP_NODELIST"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    for count, marker in launchers:
        if marker in variables and variables.get(count, "1") != "1":
            return True
    if "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables:
        return True
    return "JAX_COORDINATOR_ADDRESS" in variables


@contextlib.contextmanager
def _exit_after(seconds: float, coordinator: str | None) -> Iterator[None]:
    """Exit with an error message after `seconds` in the `with` block; jax would abort with a stack trace."""
    address = coordinator or "the coordinator that jax has detected"
    error = (
        f"the processes of the run did not connect within {seconds:.0f} s; check that all of them are started, and "
        f"that they reach process 0 at {address}"
    )
    timer = threading.Timer(seconds, exit_now, (ConfigError.exit_code, error))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_process_0() -> bool:
    """Return whether this is process 0, which writes the files of the run."""
    return jax.process_index() == 0


def single_process() -> bool:
    """Return whether the run has one process."""
    return jax.process_count() == 1


def wait_for_all(where: str) -> None:
    """Wait until all processes have reached this point, named `where`."""
    if not single_process():
        multihost_utils.sync_global_devices(where)


def broadcast_from_process_0(number: Callable[[], int]) -> int:
    """Call `number` in process 0, and return its result in every process."""
    if single_process():
        return number()
    own = number() if is_process_0() else 0
    return int(multihost_utils.broadcast_one_to_all(np.int32(own)))


@contextlib.contextmanager
def watch_processes() -> Iterator[None]:
    """Connect the processes during a `with` block: if one dies or fails, the others end with a message that names it.

    Raises:
      PeerDied: another process cannot be reached, or a step failed although no process is known to be dead.
    """
    if single_process():
        yield
        return
    try:
        peers = _connect()
    except JaxtrainError as error:
        _skip_jax_shutdown(error.exit_code)
        raise
    try:
        yield
    except (Diverged, Interrupted):
        _leave(peers)  # all processes raise this after the same step
        raise
    except jax.errors.JaxRuntimeError as error:
        failure = PeerDied(
            f"a step failed in process {jax.process_index()}, but no process is known to be dead: {_first_line(error)}"
        )
        _fail(peers, str(failure), failure.exit_code)
        raise failure from error
    except JaxtrainError as error:
        _fail(peers, str(error), error.exit_code)
        raise
    except BaseException as error:
        _fail(peers, f"{type(error).__name__}: {_first_line(error)}", 1)
        raise
    else:
        _leave(peers)


def _connect() -> Peers:
    count = jax.process_count()
    if is_process_0():
        hub = Hub(count, end_process)
        _broadcast_text(f"{hub.token} {hub.port}")
        hub.accept_all()
        return hub
    token, port = _broadcast_text("").split()
    return Spoke((find_coordinator_host(), int(port)), token, jax.process_index(), count, end_process)


def _broadcast_text(text: str) -> str:
    """Return the text of process 0 in every process."""
    padded = np.frombuffer(text.ljust(_TEXT).encode(), np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode().rstrip()


def find_coordinator_host() -> str:
    """Return the host name or address of process 0 at which jax has reached it.

    jax's public API does not give it if jax detected the processes. Process 0 does not know which of its addresses the
    others can reach.
    """
    from jax._src import distributed

    address = distributed.global_state.coordinator_address
    assert address is not None
    return address.rpartition(":")[0].strip("[]")


def _leave(peers: Peers) -> None:
    peers.leave()
    wait_for_all("end")


def _fail(peers: Peers, text: str, exit_code: int) -> None:
    peers.fail(text)
    _skip_jax_shutdown(exit_code)


def _skip_jax_shutdown(exit_code: int) -> None:
    """Skip jax's shutdown at the exit of this process, since it would wait 300 s for the others."""
    atexit.register(exit_now, exit_code)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
