"""Named streams: the key is a plain function of seed, name and step, the same in every process."""

import os
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest

from jaxtrain.random import AUGMENT, INIT, MODEL_STREAMS, SHUFFLE, host_stream, stream

NAMES = (SHUFFLE, AUGMENT, INIT, *MODEL_STREAMS)


def data(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


@pytest.mark.parametrize("name", [*NAMES, "Größe", ""])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (7, 123_456), (2**31, 2**31 - 1)])
def test_a_stream_is_two_foldings(name: str, seed: int, step: int):
    word = np.uint32(zlib.crc32(name.encode("utf-8")))
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), step)
    assert data(stream(seed, name, step)) == data(expected)
    assert data(jax.jit(lambda s: stream(seed, name, s))(np.int32(step))) == data(expected)


def test_streams_steps_and_seeds_have_keys_of_their_own():
    drawn = [data(stream(seed, name, step)) for seed in range(4) for name in NAMES for step in range(50)]
    assert len(set(drawn)) == len(drawn)


def test_host_streams_are_their_own_and_start_anew():
    drawn = [
        tuple(host_stream(seed, name, step).permutation(20)) for seed in range(3) for name in NAMES for step in range(5)
    ]
    assert len(set(drawn)) == len(drawn)
    assert tuple(host_stream(2, NAMES[-1], 4).permutation(20)) == drawn[-1]
    # numpy guarantees this stream for ever; a run begun today is to be continued with the numpy of tomorrow
    assert host_stream(0, "shuffle", 0).permutation(8).tolist() == [3, 6, 0, 2, 4, 5, 1, 7]


def test_no_two_names_share_a_hash():
    """Two streams of one CRC-32 would be one stream."""
    assert len({zlib.crc32(name.encode()) for name in NAMES}) == len(NAMES)


def test_another_process_has_the_same_keys():
    """Python's own hash of a text differs between processes; that of a stream must not."""
    code = (
        "import jax; from jaxtrain.random import stream; "
        f"print([jax.random.key_data(stream(5, name, 9)).tolist() for name in {NAMES!r}])"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == str([list(data(stream(5, name, 9))) for name in NAMES])
