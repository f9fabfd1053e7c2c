"""Kill training runs with SIGKILL at random moments, restart them, and compare them with an undisturbed run.

`python -m tests.kill_and_resume --runs 20` uses the digits recipe; the test suite kills a few shorter runs.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Command:
    """A training command that runs repeatedly on one directory."""

    arguments: tuple[str, ...]
    workdir: Path

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jaxtrain", "train", *self.arguments, "--workdir", str(self.workdir)]
        # keep stderr: a warning about a skipped checkpoint or a traceback explains a failure
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment
        )

    def finish(self) -> str:
        """Run to the end and return the output."""
        process = self.start()
        output, _ = process.communicate(timeout=600)
        if process.returncode != 0:
            raise AssertionError(f"exit code {process.returncode}:\n{output}")
        return output

    def pending(self) -> bool:
        """Return whether a checkpoint is being written now."""
        try:
            return any(name.startswith(".pending-") for name in os.listdir(self.workdir / "checkpoints"))
        except FileNotFoundError:
            return False


def kill_after(command: Command, seconds: float) -> str:
    """Start, wait and kill; return what the kill interrupted."""
    process = command.start()
    try:
        process.wait(seconds)
        struck = "nothing: it had finished"
    except subprocess.TimeoutExpired:
        struck = "a save" if command.pending() else "a step"
    return _kill(process, f"{struck} after {seconds:.2f} s")


def kill_during_save(command: Command, saves: int = 1, timeout: float = 120) -> str:
    """Start, and kill when the run begins to write the `saves`-th checkpoint."""
    process = command.start()
    seen, last, deadline = 0, False, time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        now = command.pending()
        seen += now and not last
        last = now
        if seen == saves:
            return _kill(process, f"save {saves}")
        time.sleep(0.001)  # a save takes longer, and the run needs the core
    return _kill(process, "nothing: no save was seen")


def _kill(process: subprocess.Popen[str], struck: str) -> str:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return struck


def outcome(workdir: Path) -> dict[str, object]:
    """Return everything that must not depend on kills: the parameters and all metrics of the result and the log."""
    result = json.loads((workdir / "result.json").read_text())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for clock in ("images_per_second", "data_wait"):  # depends on the clock, not on training
            line.pop(clock, None)
    kept = {k: result[k] for k in ("status", "step", "params_sha256", "final", "best", "best_step")}
    return {**kept, "metrics": lines}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3, help="at most, for each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("arguments", nargs="*", default=["digits_lenet5"], help="CONFIG and overrides")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        base = Command(tuple(args.arguments), Path(folder, "undisturbed"))
        began = time.monotonic()
        base.finish()
        seconds = time.monotonic() - began
        expected = outcome(base.workdir)
        print(f"undisturbed: {seconds:.1f} s, parameters {expected['params_sha256']}", flush=True)
        different = 0
        for run in range(args.runs):
            command = dataclasses.replace(base, workdir=Path(folder, f"run{run}"))
            struck = []
            for _ in range(draw.randint(2, args.kills)):
                during_save = draw.random() < 0.25
                struck.append(
                    kill_during_save(command, draw.randint(1, 4))
                    if during_save
                    else kill_after(command, draw.uniform(0.5, seconds * 0.8))
                )
            command.finish()
            same = outcome(command.workdir) == expected
            different += not same
            print(f"run {run}: {'equal' if same else 'DIFFERENT'}; killed during {', '.join(struck)}", flush=True)
        print(f"{args.runs - different} of {args.runs} equal the undisturbed run")
        return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
