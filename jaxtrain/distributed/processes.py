"""Several processes of one run: how they find each other, act as one and end together.

With one process, everything here is as if it were not there.
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
"""Bytes of a text that process 0 broadcasts."""


def join(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None, timeout: float = 300
) -> None:
    """Join the processes of a run, before anything else is asked of jax.

    Without arguments `jax.distributed` finds them where the environment is one of several processes (SLURM, Open MPI,
    Kubernetes with jax's extra "k8s", a TPU pod); elsewhere nothing is done.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: the number of processes.
      process_id: the index of this process, from 0.
      timeout: seconds to wait for the others; after them, this process exits with a sentence.

    Raises:
      ConfigError: the arguments do not fit each other, or jax finds no processes where the environment has several.
    """
    given = (coordinator, processes, process_id)
    several = _environment_has_several()
    if all(x is None for x in given):
        if not (several or importlib.util.find_spec("libtpu") is not None):
            return
    elif coordinator is None or processes is None or process_id is None:
        raise ConfigError("--coordinator, --processes and --process-id belong together: give all three, or none")
    else:
        _check_arguments(coordinator, processes, process_id)
        if processes == 1:
            return
    try:
        with _exit_after(timeout, coordinator):
            jax.distributed.initialize(*given, initialization_timeout=int(timeout) + 60)
    except (RuntimeError, ValueError) as error:
        undetected = isinstance(error, ValueError) and coordinator is None
        if undetected and not several:
            return  # a machine with a TPU, and no pod
        advice = (
            "; the environment says that there are several: give --coordinator, --processes and --process-id (on "
            "Kubernetes jax finds them with `pip install jax[k8s]`), or --coordinator localhost:1 --processes 1 "
            "--process-id 0 for this one alone"
        )
        raise ConfigError(
            f"the processes of the run did not come together: {_first_line(error)}{advice if undetected else ''}"
        ) from error


def _check_arguments(coordinator: str, processes: int, process_id: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ConfigError(f"--coordinator {coordinator} is not HOST:PORT, such as 10.0.0.1:1234")
    if processes < 1:
        raise ConfigError(f"--processes {processes}: there is one at least")
    if not 0 <= process_id < processes:
        raise ConfigError(f"--process-id {process_id}: {processes} processes are called 0 to {processes - 1}")


def _environment_has_several() -> bool:
    """Return whether the environment says that this is one of several processes."""
    variables = os.environ
    many = ("SLURM_NTASKS", "SLURM_STEP_NODELIST"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    for count, proof in many:
        if proof in variables and variables.get(count, "1") != "1":
            return True
    if "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables:
        return True
    return "JAX_COORDINATOR_ADDRESS" in variables


@contextlib.contextmanager
def _exit_after(seconds: float, coordinator: str | None) -> Iterator[None]:
    """Exit with a sentence where the others are not there in time; jax would abort, with a stack trace."""
    error = f"the processes of the run did not come together in {seconds:.0f} s: are all started, and is process 0"
    where = coordinator or "the coordinator that jax has detected"
    timer = threading.Timer(seconds, exit_now, (ConfigError.exit_code, f"{error} reached at {where}?"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_process_0() -> bool:
    """Return whether this is the process that writes what all have in common."""
    return jax.process_index() == 0


def single_process() -> bool:
    """Return whether the run has one process."""
    return jax.process_count() == 1


def wait_for_all(where: str) -> None:
    """Return when every process has come to `where`."""
    if not single_process():
        multihost_utils.sync_global_devices(where)


def broadcast_from_process_0(number: Callable[[], int]) -> int:
    """Return in every process what `number` returns in process 0; it is not called in the others."""
    if single_process():
        return number()
    own = number() if is_process_0() else 0
    return int(multihost_utils.broadcast_one_to_all(np.int32(own)))


@contextlib.contextmanager
def watch_processes() -> Iterator[None]:
    """While it is open, processes watch each other: one that dies or fails ends the others, by its name.

    Raises:
      PeerDied: another process cannot be reached, or a step failed and nobody is known to be dead.
    """
    if single_process():
        yield
        return
    try:
        peers = _connect()
    except JaxtrainError as error:
        _skip_farewell(error.exit_code)
        raise
    try:
        yield
    except (Diverged, Interrupted):
        _leave(peers)  # all processes raise it after the same step
        raise
    except jax.errors.JaxRuntimeError as error:
        failure = PeerDied(
            f"a step failed in process {jax.process_index()}, and no process is known to be dead: {_first_line(error)}"
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
    return Spoke((_coordinator_host(), int(port)), token, jax.process_index(), count, end_process)


def _broadcast_text(text: str) -> str:
    """Return the text of process 0 in every process."""
    padded = np.frombuffer(text.ljust(_TEXT).encode(), np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode().rstrip()


def _coordinator_host() -> str:
    """Return the name or number of process 0's machine, at which jax has reached it.

    jax's public API does not have it where jax detected the processes, and process 0 can only guess its own addresses.
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
    _skip_farewell(exit_code)


def _skip_farewell(exit_code: int) -> None:
    """Have this process end, when it does, without jax's farewell, which waits 300 s for the others."""
    atexit.register(exit_now, exit_code)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
