"""Several processes of one run: how they find each other, and what each may do alone.

With one process, everything here is as if it were not there.
"""

import atexit
import contextlib
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from jaxtrain.distributed.peers import Hub, Peers, call, end_process, new_token
from jaxtrain.errors import ConfigError, Diverged, Interrupted, JaxtrainError

T = TypeVar("T")
_TEXT = 1024
_VERDICT = 30.0
"""Seconds in which the watch finds out who is dead, after a collective has failed."""


def join(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None, timeout: int = 300
) -> None:
    """Joins the processes of a run, before anything else is asked of jax.

    With nothing given they are found by `jax.distributed`'s own detection where the environment is one of several
    processes (SLURM, Open MPI, Kubernetes with jax's extra "k8s", a TPU pod), and it does nothing elsewhere.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process_id: which this is, from 0.
      timeout: seconds to wait for the others.

    Raises:
      ConfigError: where the arguments do not fit each other, or the others are not found.
    """
    given = (coordinator, processes, process_id)
    if all(x is None for x in given):
        if not (_is_told_of_others() or importlib.util.find_spec("libtpu") is not None):
            return
    elif None in given:
        raise ConfigError("--coordinator, --processes and --process-id belong together: give all three, or none")
    elif processes is not None and process_id is not None:
        _check(str(coordinator), processes, process_id)
        if processes == 1:
            return
    try:
        jax.distributed.initialize(coordinator, processes, process_id, initialization_timeout=timeout)
    except (RuntimeError, ValueError) as error:
        found_none = isinstance(error, ValueError) and coordinator is None
        if found_none and not _is_told_of_others():
            return  # a machine with a TPU, and no pod
        told = (
            "; the environment says that there are several: give --coordinator, --processes and --process-id (on "
            "Kubernetes jax finds them with `pip install jax[k8s]`), or --coordinator localhost:1 --processes 1 "
            "--process-id 0 for this one alone"
        )
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"the processes of the run did not come together: {first}{told if found_none else ''}"
        ) from error


def _check(coordinator: str, processes: int, process_id: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ConfigError(f"--coordinator {coordinator} is not HOST:PORT, such as 10.0.0.1:1234")
    if processes < 1:
        raise ConfigError(f"--processes {processes}: there is one at least")
    if not 0 <= process_id < processes:
        raise ConfigError(f"--process-id {process_id}: {processes} processes are called 0 to {processes - 1}")


def _is_told_of_others() -> bool:
    """Whether the environment says that this is one of several processes."""
    variables = os.environ
    many = ("SLURM_NTASKS", "SLURM_STEP_NODELIST"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    for count, proof in many:
        if proof in variables and variables.get(count, "1") != "1":
            return True
    if "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables:
        return True
    return "JAX_COORDINATOR_ADDRESS" in variables


def is_primary() -> bool:
    """Whether this is the process that writes what all have in common."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether the run has one process."""
    return jax.process_count() == 1


def wait_for_all(where: str) -> None:
    """Returns when every process has come to `where`."""
    if not is_alone():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def said_by_primary(number: Callable[[], int]) -> int:
    """What `number` gives in process 0, in all of them; it is not called in the others."""
    if is_alone():
        return number()
    from jax.experimental import multihost_utils

    own = number() if is_primary() else 0
    return int(multihost_utils.broadcast_one_to_all(np.int32(own)))


@contextlib.contextmanager
def watched() -> Iterator[Peers | None]:
    """While it is open, processes watch each other: where one dies, the others end with a message naming it.

    None where there is one process. An error of this one is told to the others.

    Raises:
      PeerDied: where another process cannot be reached.
    """
    if is_alone():
        yield None
        return
    try:
        peers = _connected()
    except JaxtrainError as error:
        _end_alone(error.exit_code)
        raise
    try:
        yield peers
    except (Diverged, Interrupted):
        _leave(peers)  # which all of them found at the same step
        raise
    except jax.errors.JaxRuntimeError as error:
        verdict = peers.verdict(_VERDICT, _first_line(error))
        _fail(peers, str(verdict), verdict.exit_code)
        raise verdict from error
    except JaxtrainError as error:
        _fail(peers, str(error), error.exit_code)
        raise
    except BaseException as error:
        _fail(peers, f"{type(error).__name__}: {_first_line(error)}", 1)
        raise
    else:
        _leave(peers)


def _fail(peers: Peers, text: str, exit_code: int) -> None:
    peers.fail(text)
    _end_alone(exit_code)


def _end_alone(exit_code: int) -> None:
    """Has this process end, when it does, without jax's farewell, which would wait for the others."""
    atexit.register(_end_here, exit_code)


def _end_here(exit_code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _leave(peers: Peers) -> None:
    peers.close()
    wait_for_all("end")


def _connected() -> Peers:
    peers = Peers(jax.process_index(), end_process)
    count = jax.process_count()
    if is_primary():
        token = new_token()
        hub = Hub(count, peers, token)
        _told(" ".join([token, str(hub.port), *_own_addresses()]))
        hub.accept_all()
    else:
        token, port, *addresses = _told("").split()
        call(addresses, int(port), token, peers, count)
    return peers


def _told(text: str) -> str:
    """The text of process 0, in all of them."""
    from jax.experimental import multihost_utils

    own = np.zeros(_TEXT, np.uint8)
    own[: len(text)] = np.frombuffer(text.encode(), np.uint8)
    told: Any = multihost_utils.broadcast_one_to_all(own)
    return bytes(np.asarray(told)).rstrip(b"\0").decode()


def _own_addresses() -> list[str]:
    """Names and numbers under which this machine may be reached."""
    name = socket.gethostname()
    found = [name]
    with contextlib.suppress(OSError):
        found += [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: it tells which address routes outwards
        found.append(str(probe.getsockname()[0]))
    found.append("127.0.0.1")
    return list(dict.fromkeys(found))[:12]
