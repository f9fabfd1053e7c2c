"""Runs that decode images on the host: bitwise resume with any number of threads; and errors that end a run."""

import contextlib
import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import jaxtrain
from jaxtrain.cli.main import main
from jaxtrain.config import CheckpointConfig, Config, DataConfig, EvaluationConfig, LoggingConfig, digest, dumps
from jaxtrain.data.splits import fit_normalization, load_splits, stream_splits
from jaxtrain.errors import ConfigError, DataError, Interrupted
from jaxtrain.evaluation.averaged import make_evaluation_variables
from jaxtrain.reporting.display import SilentDisplay
from jaxtrain.reporting.reporter import Reporter
from jaxtrain.run.compiled_run import compile_run
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.training.inputs import place_splits
from jaxtrain.training.plan import make_plan
from jaxtrain.training.state import state_initializer
from tests.conftest import tiny_config
from tests.kill_and_resume import outcome


class At(SilentDisplay):
    """A display that calls a function after a step."""

    def __init__(self, step: int, what: Any):
        self._at, self._what = step, what

    def update_step(self, step: int) -> None:
        if step == self._at:
            self._what()


def write_images(root: Path, train: int = 14) -> Path:
    """Write images of different sizes in two classes that differ in color."""
    rng = np.random.RandomState(0)
    for split, count in (("train", train), ("val", 5)):
        for label, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.randint(0, 200, (9 + i % 4, 8 + i % 5, 3))
                pixels[..., label] += 55
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i:02}.jpg")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures"))


def config(workers: int | None = 0, devices: int = 1, **data: Any) -> Config:
    """Return a config of 12 steps of 8 of 24 images: logged every 2, evaluated every 4, saved every 5."""
    settings: dict[str, Any] = {
        "dataset": "image_folder(size=[6, 6])",
        "batch_size": 8,
        "validation": "4 examples",
        "decode": "random_resized_crop(6)|flip_lr",
        "augment": "flip_lr",
        "workers": workers,
    }
    return tiny_config(
        data=DataConfig(**{**settings, **data}),
        devices=devices,
        logging=LoggingConfig(every="2 steps", tensorboard=False),
        evaluation=EvaluationConfig(every="4 steps", batch_size=6, best="loss"),
        checkpoint=CheckpointConfig(every="5 steps"),
    )


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> jaxtrain.Result:
    return jaxtrain.fit(config(), tmp_path_factory.mktemp("fit") / "run", data_dir=folder)


@pytest.mark.slow
def test_a_decoding_run_interrupted_twice_ends_the_same_with_other_threads(
    finished: jaxtrain.Result, folder: Path, tmp_path: Path
) -> None:
    for step, workers in ((3, 1), (8, 3)):
        stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"after step {step} of 12"):
            jaxtrain.fit(config(workers), tmp_path / "run", data_dir=folder, reporter=Reporter(stop))
    jaxtrain.fit(config(2), tmp_path / "run", data_dir=folder)
    found, expected = outcome(tmp_path / "run"), outcome(finished.workdir)
    del found["metrics"], expected["metrics"]  # an interruption ends an interval of the log
    assert found == expected


def test_a_run_evaluates_every_example_once(finished: jaxtrain.Result, folder: Path) -> None:
    """Compare with the model applied to the whole split in memory, preprocessed by the same function."""
    plan = make_plan(config(), folder)
    held = make_plan(config(None, decode="", resize=[6, 6]), folder)
    split = stream_splits(plan.splits, ("test",), 0)["test"]
    assert len(split) == held.splits.sizes["test"] == 10
    assert finished.state is not None
    chunks = list(split.chunks(3))  # another chunk size than the run's
    images = np.concatenate([c.images for c in chunks])
    labels = np.concatenate([c.labels for c in chunks])
    normalization = fit_normalization(plan.splits, stream_splits(plan.splits, ("train",), 0)["train"])
    logits: Any = plan.model.apply({"params": finished.state.params}, normalization.apply(images), train=False)
    losses = plan.loss(logits, labels)  # type: ignore[arg-type]
    assert finished.final["test"]["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert finished.final["test"]["accuracy"] == pytest.approx(float((logits.argmax(-1) == labels).mean()))


def test_evaluate_run_gives_the_metrics_of_the_decoding_run(finished: jaxtrain.Result, folder: Path) -> None:
    record = evaluate_run(finished.workdir, "validation", "last", folder)
    assert {k: record[k] for k in ("loss", "accuracy")} == finished.final["validation"]
    assert record["examples"] == 4


@pytest.mark.slow
def test_a_decoding_step_on_two_devices_equals_one_on_one(folder: Path) -> None:
    params = []
    for devices in (1, 2):
        plan = make_plan(config(2, devices), folder)
        splits = stream_splits(plan.splits, ("train",), 0)
        run = compile_run(plan, fit_normalization(plan.splits, splits["train"]), splits)
        begin = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0)
        state = jax.jit(begin, out_shardings=plan.layout.replicated)()
        with contextlib.closing(run.batches) as examples:
            assert examples(0).images.sharding == plan.layout.batch
            state, _, _ = run.dispatch(state, run.empty(), run.order.order(0), examples(0))
        params.append(jax.tree.leaves(jax.device_get(state.params)))
    for a, b in zip(*params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_deterministic_decoding_gives_the_batches_of_a_run_in_memory(folder: Path) -> None:
    streamed, held = make_plan(config(2, decode="fit(6, 6)"), folder), make_plan(config(None, decode=""), folder)
    splits = stream_splits(streamed.splits, ("train",), 0), load_splits(held.splits, ("train",), 0)
    runs = [
        compile_run(plan, fit_normalization(plan.splits, split["train"]), split)
        for plan, split in zip((streamed, held), splits, strict=True)
    ]
    for step in range(4):
        order = np.asarray(runs[1].order.order(step).indices)
        start = step * 8 - int(runs[1].order.order(step).first_step) * 8 + int(runs[1].order.order(step).offset)
        wanted = order[start : start + 8]
        images, labels = runs[0].batches(step)
        np.testing.assert_array_equal(images, np.asarray(runs[1].batches(step).images)[wanted])
        np.testing.assert_array_equal(labels, np.asarray(runs[1].batches(step).labels)[wanted])
    runs[0].batches.close()


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train, name="bn")(images)
        return nn.Dense(2, name="logits")(x.reshape(x.shape[0], -1))


@pytest.mark.slow
def test_batch_statistics_of_averaged_parameters_are_equal_streamed_and_in_memory(folder: Path) -> None:
    found = []
    for data, read in (({"decode": "fit(6, 6)"}, stream_splits), ({"decode": "", "workers": None}, load_splits)):
        plan = make_plan(config(**data).replace(average="polyak(0.5)"), folder)  # type: ignore[arg-type]
        begin = state_initializer(Normed(), plan.optimizer.tx, plan.splits.image_shape, 0)
        state = jax.jit(begin)()
        plan = dataclasses.replace(plan, model=Normed(), abstract=jax.eval_shape(begin))
        splits = read(plan.splits, ("train",), 0)
        normalization = fit_normalization(plan.splits, splits["train"])
        _, variables = make_evaluation_variables(plan, normalization, place_splits(plan.splits, plan.layout, splits))(
            state
        )
        found.append(jax.tree.leaves(variables["batch_stats"]))
        assert not np.allclose(found[-1][0], 0)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_or_missing_image_ends_the_run_with_an_error(finished: jaxtrain.Result, tmp_path: Path) -> None:
    root = write_images(tmp_path / "pictures")
    victims = sorted((root / "train").rglob("*.jpg"))

    def destroy() -> None:
        for path in victims[::2]:
            path.write_bytes(path.read_bytes()[:100])
        for path in victims[1::2]:
            path.unlink()

    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"train.(ant|bee).\d\d\.jpg cannot be (decoded|read): .*; (it is|check)"):
        jaxtrain.fit(config(2), run, data_dir=root, reporter=Reporter(At(5, destroy)))
    shutil.rmtree(root)
    write_images(root)  # restore the images: the same command resumes
    assert jaxtrain.fit(config(2), run, data_dir=root).params_sha256 == finished.params_sha256


def test_check_and_train_commands_report_decoding(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streamed.json"
    path.write_text(dumps(config()))
    assert main(["check", str(path), "--data-dir", str(folder), "data.decode=random_crop(6)"]) == 0
    printed = capsys.readouterr().out
    assert "24 train, 4 validation, 10 test; 6x6x3 images decoded ahead of each step, 2 classes" in printed
    assert f"{3 * 8 * (6 * 6 * 3 + 4) / 1024:.1f} KiB" in printed  # one batch in use, two ahead
    code = main(
        ["train", str(path), "--data-dir", str(folder), "data.decode=flip_lr", "--workdir", str(tmp_path / "r")]
    )
    assert code == 2
    assert "data.decode: the resulting images would differ in size; end the transforms with" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_config_digest_depends_on_decoding_but_not_on_workers() -> None:
    assert digest(config(0)) == digest(config(7)) != digest(config(0, decode="random_crop(6)"))
    assert digest(config(0)) != digest(config(0, decode_eval="fit(6, 6)"))


def test_lbfgs_refuses_random_decoding(folder: Path) -> None:
    wanted = config(batch_size=24, augment="").replace(optimizer="lbfgs", model="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data\.decode decodes different images at every step") as error:
        make_plan(wanted, folder)
    assert error.value.path == "data.decode"
