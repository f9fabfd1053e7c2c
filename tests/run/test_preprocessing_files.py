"""Fitted preprocessing in a run directory: written, read, checked by digest; and a whole run with whitening."""

import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxtrain
from jaxtrain.config import DataConfig, PreprocessingSpec, apply_overrides, difference, digest, dumps, loads
from jaxtrain.data.preprocessing import PREPROCESSING
from jaxtrain.errors import DataError, WorkdirError
from jaxtrain.run import files
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.run.preprocessing_files import read_preprocessing, write_preprocessing
from tests.conftest import tiny_config

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 2, 2), np.uint8)
ARRAYS = ["mean_image", "standardize", "pca", "whiten", "zca"]


def fit_preprocessing(call: str) -> Any:
    return PreprocessingSpec.parse(call).build().fit([IMAGES])


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for left, right in zip(vars(a).values(), vars(b).values(), strict=True):
        assert np.asarray(left).dtype == np.asarray(right).dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("call", [*PREPROCESSING, "pca(3)"])
def test_preprocessing_is_read_as_it_was_written(call: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, fit_preprocessing(call))
    assert_equal(read_preprocessing(path), fit_preprocessing(call))
    names = {"preprocessing.json"} if call in ("scale", "mean", "mean_std") else {path.name, "preprocessing.npz"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_mean_and_std_per_channel_are_stored_as_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text('{"normalization": {"mean": [0.5, 0.25], "std": [0.125, 1.0]}}')
    kept = read_preprocessing(path)
    assert vars(kept) == {"mean": (0.5, 0.25), "std": (0.125, 1.0)}
    write_preprocessing(path, kept)
    assert json.loads(path.read_text()) == {"normalization": {"mean": [0.5, 0.25], "std": [0.125, 1.0]}}


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_in_preprocessing_arrays_is_detected(place: float, tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, fit_preprocessing("zca"))
    data = bytearray((tmp_path / "preprocessing.npz").read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (tmp_path / "preprocessing.npz").write_bytes(data)
    with pytest.raises(WorkdirError, match=r"preprocessing\.npz is damaged: its SHA-256 .*; restore it from a copy"):
        read_preprocessing(path)


def test_a_missing_file_of_preprocessing_arrays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, fit_preprocessing("mean_image"))
    (tmp_path / "preprocessing.npz").unlink()
    with pytest.raises(WorkdirError, match=r"cannot read .*preprocessing\.npz: No such file.*; restore it"):
        read_preprocessing(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"arrays": []}',
        '{"arrays": {"form": "round", "sha256": ""}}',
        '{"arrays": {"form": ["pixels"], "sha256": ""}}',
        '{"normalization": {"mean": 3}}',
        "[" * 100_000,
    ],
)
def test_preprocessing_json_with_other_content_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, fit_preprocessing("zca"))
    path.write_text(text)
    with pytest.raises(WorkdirError, match=r"preprocessing\.json cannot be read"):
        read_preprocessing(path)


def other_arrays(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def pickled_arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, mean=np.array([{}], object), std=np.zeros(1))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("pixels", b"no archive"),
        ("pixels", b""),
        ("pixels", other_arrays(mean=np.zeros((1, 1, 1)))),
        ("pixels", pickled_arrays()),
        ("pixels", other_arrays(mean=np.zeros((1, 1, 1)), std=np.ones((1, 1, 1)))[:-30]),
        ("linear", other_arrays(mean=np.zeros((1, 2, 1)), matrix=np.eye(3), back=np.eye(2))),
        ("linear", other_arrays(mean=np.zeros((1, 2, 1)), matrix=np.eye(2), back=np.float32(1))),
    ],
    ids=["no archive", "empty", "a field missing", "pickled", "cut short", "shapes", "scalar"],
)
def test_preprocessing_arrays_of_other_content_are_refused_despite_a_valid_digest(
    form: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / "p.npz").write_bytes(data)
    content = {"arrays": {"form": form, "sha256": hashlib.sha256(data).hexdigest()}}
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(WorkdirError, match=r"p\.npz does not contain the arrays that .*p\.json describes"):
        read_preprocessing(tmp_path / "p.json")


def test_a_kill_before_the_preprocessing_json_leaves_a_run_that_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays are written first and the JSON last; arrays without JSON are overwritten."""
    path = tmp_path / "preprocessing.json"
    replaced: list[str] = []
    replace = Path.replace

    def replace_or_kill(self: Path, target: Path) -> Path:
        replaced.append(target.name)
        if target == path:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_kill)
        with pytest.raises(KeyboardInterrupt):
            write_preprocessing(path, fit_preprocessing("zca"))
    assert replaced == ["preprocessing.npz", "preprocessing.json"]
    with pytest.raises(WorkdirError, match="did not begin to train"):
        read_preprocessing(path)
    write_preprocessing(path, fit_preprocessing("whiten"))
    assert_equal(read_preprocessing(path), fit_preprocessing("whiten"))


def test_a_full_disk_gives_an_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(WorkdirError, match=r"cannot write .*preprocessing\.npz: No space left on device"):
        write_preprocessing(tmp_path / "preprocessing.json", fit_preprocessing("zca"))
    assert list(tmp_path.iterdir()) == []


def whitening_config(steps: int) -> Any:
    """Return a config of a run that whitens 16 features."""
    plain = tiny_config()
    data = plain.data.replace(normalize="zca(0.02)")
    return tiny_config(data=data, train_for=f"{steps} steps", checkpoint={"every": "4 steps"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(whitening_config(8), tmp_path_factory.mktemp("whitened") / "run")


@pytest.mark.slow
def test_a_run_stores_its_whitening_and_evaluates_with_it(run: jaxtrain.Result) -> None:
    kept = read_preprocessing(run.workdir / "preprocessing.json")
    assert vars(kept)["matrix"].shape == (16, 16)
    for split, metrics in run.final.items():
        record = evaluate_run(run.workdir, split, "last")
        assert record["loss"] == pytest.approx(metrics["loss"], rel=1e-6)


def test_a_resumed_run_uses_the_stored_whitening_and_ends_the_same(
    run: jaxtrain.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise on any machine, because the eigenvectors are read and not computed again."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    shutil.rmtree(run.workdir / "checkpoints" / "00000008")
    monkeypatch.setattr("jaxtrain.run.session.fit_normalization", never)
    again = jaxtrain.fit(whitening_config(8), run.workdir)
    assert again.params_sha256 == run.params_sha256


def test_resuming_a_whitening_run_on_other_images_is_refused(
    run: jaxtrain.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxtrain.run import fit

    load = fit.read_splits

    def read_changed_splits(*arguments: Any) -> Any:
        splits = load(*arguments)
        images = splits["train"].images.copy()
        images[3, 1, 1, 0] ^= 1
        return {**splits, "train": dataclasses.replace(splits["train"], images=images)}

    monkeypatch.setattr(fit, "read_splits", read_changed_splits)
    with pytest.raises(DataError, match="the training images are not those with which the run"):
        jaxtrain.fit(whitening_config(8), run.workdir)


def test_preprocessing_and_its_options_are_config_settings() -> None:
    plain = tiny_config()
    for call, written in (("mean", {"name": "mean"}), ("zca(0.1)", {"name": "zca", "epsilon": 0.1})):
        config = plain.replace(data=plain.data.replace(normalize=call))
        assert json.loads(dumps(config))["data"]["normalize"] == written
        assert loads(dumps(config)) == config
        assert digest(config) != digest(plain)
    changed = apply_overrides(config, ["data.normalize.epsilon=0.2"])
    assert changed.data.normalize == PreprocessingSpec("zca", epsilon=0.2)
    assert digest(changed) != digest(config)
    assert difference(config, changed) == [("data.normalize.epsilon", 0.1, 0.2)]


def test_a_preprocessing_name_stands_for_its_spec() -> None:
    data = DataConfig(dataset="digits", batch_size=4)
    assert data.normalize == PreprocessingSpec("mean_std")
    assert data.replace(normalize="mean").normalize == PreprocessingSpec("mean")
    with pytest.raises(jaxtrain.JaxtrainError, match=r"data\.normalize: unknown preprocessing 'zcaa'; did you mean"):
        data.replace(normalize="zcaa")
