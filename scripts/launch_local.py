"""Starts N processes of one training run on this machine, to try out what a cluster would do.

    python scripts/launch_local.py 2 --devices-per-process 2 -- digits_lenet5 train_for="2 epochs"

What follows `--` are the arguments of `jaxtrain train`. On CPUs each process has `--devices-per-process` emulated
devices. Lines of a process begin with its number. A signal is passed on to all; the exit code is that of the process
that ended first in failure.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType

_GRACE = 90.0
"""Seconds that the others are given to end by themselves once one has failed."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(arguments: list[str], processes: int, devices: int) -> list[subprocess.Popen[str]]:
    """The processes, of which none has been waited for."""
    coordinator = f"127.0.0.1:{free_port()}"
    # emulated devices need threads of their own for their collectives
    threads = max(2 * devices * processes, os.cpu_count() or 1)
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "NPROC": str(threads)}
    command = [sys.executable, "-m", "jaxtrain", "train", *arguments]
    return [
        subprocess.Popen(
            [*command, "--coordinator", coordinator, "--processes", str(processes), "--process-id", str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for index in range(processes)
    ]


def show(index: int, process: subprocess.Popen[str]) -> None:
    """Copies what a process says, under its number."""
    assert process.stdout is not None
    for line in process.stdout:
        print(f"[{index}] {line}", end="", flush=True)


def wait(running: list[subprocess.Popen[str]]) -> int:
    """The exit code of the first that fails, or 0 when all have ended well."""
    first, deadline = 0, 0.0
    while any(process.poll() is None for process in running):
        codes = [process.poll() for process in running]
        if first == 0 and any(codes):
            first = next(code for code in codes if code)
            deadline = time.monotonic() + _GRACE
        if first and time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(0.05)
    return first or next((process.returncode for process in running if process.returncode), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processes", type=int, metavar="N")
    parser.add_argument("--devices-per-process", type=int, default=1, metavar="D")
    parser.add_argument("arguments", nargs="+", help="CONFIG and what else `jaxtrain train` takes")
    args = parser.parse_args()
    if args.processes < 1 or args.devices_per_process < 1:
        parser.error("there is one process at least, and one device in it")
    running = start(args.arguments, args.processes, args.devices_per_process)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        for process in running:
            if process.poll() is None:
                process.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, pass_on)
    readers = [threading.Thread(target=show, args=(i, p), daemon=True) for i, p in enumerate(running)]
    for reader in readers:
        reader.start()
    code = wait(running)
    for reader in readers:
        reader.join()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
