"""Checkpoints: written completely or not at all, damage detected, older ones kept until a newer one is complete."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.errors import CheckpointError
from jaxtrain.run import checkpoints
from jaxtrain.run.checkpoints import Checkpointer, MismatchError, Progress
from jaxtrain.training.state import TrainState


def make_state(value: float, width: int = 4) -> TrainState:
    params = {"fc": {"kernel": jnp.full((3, width), value), "bias": jnp.arange(width, dtype=jnp.float32)}}
    return TrainState(step=jnp.int32(value), params=params, variables={}, opt_state=(jnp.float32(value), ()))


def abstract(state: TrainState) -> TrainState:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state)


def save_all(directory: Path, steps: list[int], keep: int = 10, best: int | None = None) -> None:
    saver = Checkpointer(directory, keep)
    for step in steps:
        saver.save(make_state(step), step, Progress(best_step=best, best_value=0.5, seconds=float(step)))
    saver.wait()
    saver.close()


def assert_equal(a: TrainState, b: TrainState) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_a_restored_checkpoint_equals_the_saved_state_and_progress(tmp_path: Path) -> None:
    save_all(tmp_path, [7])
    state, progress = checkpoints.restore(tmp_path, 7, abstract(make_state(0)))
    assert_equal(state, make_state(7))
    assert progress == Progress(best_step=None, best_value=0.5, seconds=7.0)


def test_a_checkpoint_holds_the_state_as_it_was_before_donation(tmp_path: Path) -> None:
    # The loop donates the state to the next step as soon as save returns.
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x + jnp.ones_like(x), s), donate_argnums=0)
    state = jax.device_put(make_state(1, width=200_000))
    expected = jax.tree.map(np.array, state)
    saver = Checkpointer(tmp_path, keep=3)
    saver.save(state, 1, Progress())
    for _ in range(20):
        state = advance(state)
    jax.block_until_ready(state)
    saver.wait()
    saver.close()
    restored, _ = checkpoints.restore(tmp_path, 1, abstract(expected))
    assert_equal(restored, expected)


def test_checkpointer_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    save_all(tmp_path, [1, 2, 3, 4, 5], keep=2, best=2)
    assert checkpoints.steps(tmp_path) == [2, 4, 5]
    assert not list(tmp_path.glob(".*")), "no half-written or half-deleted checkpoint is left"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] or b"x")  # an empty file can only grow


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes() or b"x")
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip_bit, Path.unlink])
def test_damage_to_any_checkpoint_file_is_detected_and_the_previous_checkpoint_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_all(tmp_path, [1])
    names = [str(p.relative_to(tmp_path / "00000001")) for p in (tmp_path / "00000001").rglob("*") if p.is_file()]
    assert len(names) > 5
    for step, name in enumerate(names, 2):
        save_all(tmp_path, [step])
        # Orbax names some files at random, so we find the file by its rank in the new checkpoint.
        files = sorted(p for p in checkpoints.checkpoint_path(tmp_path, step).rglob("*") if p.is_file())
        victim = files[sorted(names).index(name)]
        damage(victim)
        told: list[int] = []
        newest = checkpoints.newest_intact_step(tmp_path, lambda s, e, told=told: told.append(s))
        assert newest == 1
        assert told == [step], f"damage to {victim.name} was not seen"
        assert int(checkpoints.restore(tmp_path, newest, abstract(make_state(0)))[0].step) == 1
        checkpoints.set_aside(tmp_path, step)
    assert checkpoints.steps(tmp_path) == [1]


def test_damage_to_all_checkpoints_is_an_error_but_an_empty_directory_is_not(tmp_path: Path) -> None:
    assert checkpoints.newest_intact_step(tmp_path / "none", lambda s, e: None) is None
    save_all(tmp_path, [1, 2])
    for step in (1, 2):
        flip_bit(checkpoints.checkpoint_path(tmp_path, step) / "manifest.json")
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints .* are damaged"):
        checkpoints.newest_intact_step(tmp_path, lambda s, e: None)


def test_half_written_checkpoints_are_not_listed_and_are_cleaned_up(tmp_path: Path) -> None:
    save_all(tmp_path, [1, 2])
    (tmp_path / "00000002").rename(tmp_path / ".pending-00000002")
    (tmp_path / "00000001").rename(tmp_path / ".deleted-00000001")
    assert checkpoints.steps(tmp_path) == []
    checkpoints.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_model_is_refused_and_kept(tmp_path: Path) -> None:
    save_all(tmp_path, [1])
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(MismatchError, match=r"params/fc/bias is float32\[4\] there and float32\[9\]"):
        checkpoints.restore(tmp_path, 1, abstract(make_state(0, width=9)))
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_failed_save_keeps_the_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_all(tmp_path, [1, 2], keep=1)
    saver = Checkpointer(tmp_path, keep=1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxtrain.run.checkpoints.os.fsync", full)
    saver.save(make_state(3), 3, Progress())
    with pytest.raises(CheckpointError, match=r"step 3 could not be written .*No space left on device"):
        saver.wait()
    saver.close()
    assert checkpoints.steps(tmp_path) == [2]
    assert not list(tmp_path.glob(".pending-*"))


def test_a_checkpoint_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    save_all(tmp_path, [1])
    path = tmp_path / "00000001" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="has format 99"):
        checkpoints.read_manifest(tmp_path, 1)


def test_a_checkpoint_is_restored_with_the_requested_sharding(tmp_path: Path) -> None:
    save_all(tmp_path, [3])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), make_state(0))
    state, _ = checkpoints.restore(tmp_path, 3, wanted)
    assert all(x.sharding == everywhere for x in jax.tree.leaves(state))
    assert_equal(state, make_state(3))
