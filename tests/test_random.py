"""Named random streams: the key depends on seed, name and step only, and is the same in every process."""

import functools
import os
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.random import AUGMENT, INIT, MODEL_STREAMS, SHUFFLE, host_generator, stream_key

NAMES = (SHUFFLE, AUGMENT, INIT, *MODEL_STREAMS)


def data(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_stream_key_folds_in_the_name_and_the_step():
    names = (*NAMES, "Größe", "")

    @functools.partial(jax.jit, static_argnums=0)
    def in_a_step(seed: int, step: jax.Array) -> list[jax.Array]:
        return [stream_key(seed, name, step) for name in names]

    for seed, step in ((0, 0), (7, 123_456), (2**31, 2**31 - 1)):
        for name, key in zip(names, in_a_step(seed, np.int32(step)), strict=True):
            word = np.uint32(zlib.crc32(name.encode("utf-8")))
            expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), step)
            assert data(stream_key(seed, name, step)) == data(expected), (name, seed, step)
            assert data(key) == data(expected), (name, seed, step)


def test_streams_steps_and_seeds_have_different_keys():
    @jax.jit
    def keys(steps: jax.Array) -> list[jax.Array]:
        each = [(seed, name) for seed in range(4) for name in NAMES]
        return [jax.vmap(lambda t, s=s, n=n: jax.random.key_data(stream_key(s, n, t)))(steps) for s, n in each]

    drawn = np.concatenate(keys(jnp.arange(50, dtype=jnp.int32)))
    assert len(np.unique(drawn, axis=0)) == len(drawn) == 4 * len(NAMES) * 50


def test_host_generators_differ_by_stream_and_are_reproducible():
    drawn = [
        tuple(host_generator(seed, name, step).permutation(20))
        for seed in range(3)
        for name in NAMES
        for step in range(5)
    ]
    assert len(set(drawn)) == len(drawn)
    assert tuple(host_generator(2, NAMES[-1], 4).permutation(20)) == drawn[-1]
    # numpy guarantees this stream, so a run can be resumed with a later version of numpy
    assert host_generator(0, "shuffle", 0).permutation(8).tolist() == [3, 6, 0, 2, 4, 5, 1, 7]


def test_stream_names_have_different_hashes():
    """Two names with the same CRC-32 would share one stream."""
    assert len({zlib.crc32(name.encode()) for name in NAMES}) == len(NAMES)


def test_stream_keys_are_the_same_in_another_process():
    """Python's own hash of a string differs between processes; the hash of a stream must not."""
    code = (
        "import jax; from jaxtrain.random import stream_key; "
        f"print([jax.random.key_data(stream_key(5, name, 9)).tolist() for name in {NAMES!r}])"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == str([list(data(stream_key(5, name, 9))) for name in NAMES])
