"""A table of wrong inputs as users make them: in overrides, in config files, in JSON, on the command line.

Each is refused with exit code 2 and one message that names the place, and leaves no run directory behind.
What is wrong with files that a run reads is in `test_bad_data.py` and `test_bad_runs.py`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from jaxtrain.config import dumps
from tests.conftest import tiny_config
from tests.refusals import assert_refused, run_alone, run_here, tree

TRAIN = ("train", "{config}", "--workdir", "run")


@dataclasses.dataclass(frozen=True)
class Row:
    """The command line, the parts of the message, and the file for `{config}` if it is not the tiny recipe."""

    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    file: str = "tiny.json"
    content: str | bytes | None = None
    alone: bool = False


def override(id: str, text: str, *says: str, alone: bool = False) -> Row:
    """Return a row of the tiny recipe with an override; by default, the message begins with the path."""
    path = text.partition("=")[0]
    return Row(id, (*TRAIN, text), says or (f"error: {path}: ",), alone=alone)


def recipe(id: str, body: str | bytes, *says: str, alone: bool = False) -> Row:
    """Return a row of a config file with this content."""
    return Row(id, TRAIN, ("recipe.py", *says), "recipe.py", body, alone)


def function(id: str, body: str, *says: str) -> Row:
    """Return a row of a config file whose `get_config` has the body `body`, which starts in line 3."""
    return recipe(id, f"from jaxtrain.config import *\ndef get_config():\n    {body}\n", *says)


def dumped(id: str, path: str, value: Any, *says: str) -> Row:
    """Return a row of the tiny recipe as JSON with one value replaced."""
    content = json.loads(dumps(tiny_config()))
    *parents, last = path.split(".")
    node = content
    for key in parents:
        node = node[key]
    node[last] = value
    return Row(id, TRAIN, (f"error: {path}: ", *says), "hand.json", json.dumps(content))


def command(id: str, *arguments: str, says: tuple[str, ...], alone: bool = False) -> Row:
    """Return a row of a whole command line."""
    return Row(id, arguments, says, alone=alone)


TYPOS = (
    command("recipe", "train", "digits_lenet", says=("'digits_lenet'", "did you mean 'digits_lenet5'"), alone=True),
    command("recipe-of-diff", "diff", "digits_lenet5", "digit_lenet5", says=("'digit_lenet5'", "'digits_lenet5'")),
    command("variant", "train", "fashion_comparison:adm", says=("no variant 'adm'", "did you mean 'adam'")),
    command("variant-as-recipe", "check", "fashion_comparison_adam", says=("did you mean 'fashion_comparison:adam'",)),
    command("argument-of-a-recipe-without", "check", "digits_mlp:adam", says=("takes no argument", "':adam'")),
    override("section", "optimiser.momentum=0.9", "optimiser.momentum: ", "did you mean 'optimizer'"),
    override("field", "train_fro=5 epochs", "train_fro: ", "did you mean 'train_for'", alone=True),
    override("field-of-section", "data.bach_size=8", "data.bach_size: ", "did you mean 'batch_size'"),
    override("component", "model=lenet", "error: model: ", "did you mean 'lenet5'"),
    override("nested-component", "optimizer.learning_rate=cosin(0.1)", "optimizer.learning_rate: ", "'cosine'"),
    override("listed-component", "data.augment=flip_lr|pad_crp(2)", "data.augment.1: ", "did you mean 'pad_crop'"),
    override("view", "evaluation.tta=flip", "evaluation.tta: ", "did you mean 'flips'"),
    override("option-of-view", "evaluation.tta=ten_crop(sise=3)", "evaluation.tta.sise: ", "did you mean 'size'"),
    override(
        "augmentation-of-view", "evaluation.tta=augmented(2, 'flip_l')", "evaluation.tta.augment.0: ", "'flip_lr'"
    ),
    override("option", "optimizer.momentm=0.9", "optimizer.momentm: ", "did you mean 'momentum'"),
    override("option-in-spec", "model=mlp(width=[3])", "error: model.width: ", "did you mean 'widths'"),
    override("nested-option", "optimizer.learning_rate.warmpu=2 steps", ".learning_rate.warmpu: ", "'warmup'?"),
    override("nested-option-in-spec", "optimizer=sgd(cosine(0.1, ned=0))", "optimizer.learning_rate.ned: ", "'end'?"),
    override("listed-option", "data.augment.0.probabilty=0.1", "data.augment.0.probabilty: ", "'probability'?"),
    override("choice", "data.normalize=meanstd", "data.normalize: ", "did you mean 'mean_std'"),
    override("choice-in-spec", "data.augment=pad_crop(2, refelct)", "data.augment.0.mode: ", "'reflect'?"),
    override("like", "data.dataset=synthetic(like='mnits')", "like='mnits'", "did you mean 'mnist'"),
    function("in-file", "return Config(modle='mlp')", "modle: ", "did you mean 'model'", "line 3"),
    function("in-file-section", "return DataConfig(augmnt='flip_lr')", "data.augmnt: ", "'augment' or", "line 3"),
    function("in-file-component", "return ModelSpec('lenet')", "error: model: ", "'lenet5' or 'alexnet'", "line 3"),
    function("in-file-option", "return OptimizerSpec('sgd', 0.1, momentun=0.9)", "optimizer.momentun: ", "'momentum'?"),
    dumped("in-json", "chekpoint", {}, "did you mean 'checkpoint'"),
    dumped("in-json-section", "checkpoint.kepe", 3, "did you mean 'keep'"),
    dumped("in-json-component", "model", {"name": "mlpp"}, "did you mean 'mlp'"),
    dumped("in-json-option", "model.widhts", [8], "did you mean 'widths'"),
    dumped("in-json-nested", "optimizer.learning_rate.pesk", 0.1, "did you mean 'peak'"),
)

TYPES = (
    override("text-for-number", "optimizer.momentum=high"),
    override("number-in-quotes", "data.batch_size='16'"),
    override("fraction-for-count", "data.batch_size=16.5"),
    override("exponent-for-count", "data.batch_size=1e3"),
    override("true-for-number", "loss.label_smoothing=true", "loss.label_smoothing: ", "True (bool)"),
    override("true-for-count", "devices=True", "error: devices: ", "True (bool)"),
    override("one-for-true", "logging.tensorboard=1", "logging.tensorboard: ", "1 (int)"),
    override("no-for-false", "logging.tensorboard=no"),
    override("number-for-list", "model.widths=8", "model.widths: ", "a list"),
    override("list-for-number", "seed=[1]"),
    override("text-in-list", "model.widths=[8, wide]"),
    override("pair-of-one", "data.resize=(32,)", "data.resize: ", "2 values"),
    override("number-for-component", "model=5"),
    override("list-for-component", "optimizer=[sgd]"),
    override("nothing-for-value", "seed="),
    override("nothing-for-component", "model="),
    override("none-for-number", "data.batch_size=none"),
    override("none-for-duration", "train_for=none"),
    override("none-for-component", "model=none"),
    override("none-for-nested-component", "optimizer.learning_rate=none"),
    override("none-for-section", "checkpoint=none"),
    override("none-in-list", "data.augment.0=none"),
    override("unhashable", "seed={[1]: 2}"),
    override("unhashable-component", "model={{}}"),
    override("unhashable-option", "model=mlp(widths={[]: 1})"),
    override("brackets-too-deep", "seed=" + "[" * 300),
    override("minus-too-deep", "model=" + "-" * 20_000 + "1"),
    override("directory-of-source", "data.dataset=mnist(directory='x')", "data.dataset.directory: ", "data.directory"),
    dumped("json-text-for-number", "seed", "1"),
    dumped("json-true-for-number", "optimizer.momentum", True, "True (bool)"),
    dumped("json-null-for-number", "data.batch_size", None, "none"),
    dumped("json-list-for-section", "data", [1]),
    dumped("json-component-without-name", "model", {"widths": [8]}),
)

RANGES = (
    override("nan", "optimizer.momentum=nan"),
    override("inf", "optimizer.momentum=inf"),
    override("beyond-floats", "optimizer.momentum=1e999", "optimizer.momentum: ", "finite"),
    override("digits-beyond-floats", "optimizer.learning_rate=1" + "0" * 400, "optimizer.learning_rate: ", "finite"),
    dumped("json-nan", "optimizer.momentum", float("nan"), "finite"),
    dumped("json-infinity", "optimizer.learning_rate.peak", float("inf"), "finite"),
    override("batch-zero", "data.batch_size=0"),
    override("batch-negative", "data.batch_size=-16"),
    override("width-zero", "model.widths=[8, 0]", "model.widths.1: "),
    override("size-zero", "data.resize=(0, 3)", "data.resize.0: "),
    override("size-absurd", "data.resize=(8, 1000000)", "data.resize.1: "),
    override("pad-absurd", "data.pad=1000000000"),
    override("pad-negative", "data.pad=-1"),
    override("keep-zero", "checkpoint.keep=0"),
    override("rate-negative", "optimizer.learning_rate=-0.1"),
    override("momentum-one", "optimizer.momentum=1"),
    override("probability-above-one", "data.augment.0.probability=1.5"),
    override("seed-negative", "seed=-1"),
    override("seed-beyond-32-bits", "seed=4294967296"),
    override("decay-negative", "optimizer.weight_decay=[('kernel', -1e-4), ('.*', 0)]"),
    override("multiplier-negative", "parameters.learning_rate=[('.*', -1)]", "parameters.learning_rate.0.1: "),
    override("index-out-of-range", "data.augment.3=flip_lr", "data.augment.3: ", "'3'"),
    override("index-no-number", "model.widths.first=3", "model.widths.first: "),
    override("index-superscript", "model.widths.²=3", "model.widths.²: "),
)

DURATIONS = (
    override("no-unit", "train_for=5", "train_for: ", "epochs"),
    override("unknown-unit", "train_for=5 eopchs", "train_for: ", "'eopchs'", "did you mean 'epochs'"),
    override("unknown-time", "evaluation.every=2 hours", "evaluation.every: ", "'hours'"),
    override("negative", "train_for=-5 epochs"),
    override("zero", "train_for=0 epochs"),
    override("zero-interval", "logging.every=0 steps"),
    override("number-in-words", "checkpoint.every=five epochs"),
    override("not-finite", "train_for=1e999 epochs"),
    override("percent-of-itself", "train_for=50%", "train_for: '50%'", "epochs, steps or examples"),
    override("more-than-counted", "train_for=3000000000 steps", "train_for: ", "2,147,483,647"),
    override("warmup-no-unit", "optimizer.learning_rate.warmup=5"),
    override("warmup-not-counted", "optimizer.learning_rate=constant(0.1, warmup='1e30 epochs')", "rate.warmup: "),
    override("data-in-epochs", "data.validation=1 epoch", "data.validation: '1 epochs'", "'N examples' or 'P%'"),
)

WRITING = (
    override("no-sign", "momentum", "'momentum'", "PATH=VALUE"),
    override("colon", "optimizer.momentum:0.9", "'optimizer.momentum:0.9'", "PATH=VALUE"),
    override("no-path", "=0.9", "'=0.9'", "PATH=VALUE"),
    override("dot-for-path", ".=3"),
    override("through-number", "optimizer.momentum.x=3", "optimizer.momentum.x: ", "optimizer.momentum is 0.9"),
    override("through-none", "data.resize.0=3", "data.resize.0: data.resize is none"),
    override("name-of-component", "model.name=mlp", "error: model.name: ", "model=NAME"),
    override("parenthesis-open", "model=mlp(widths=[3]", "error: model: 'mlp(widths=[3]'"),
    override("bracket-open", "optimizer=sgd(0.1, weight_decay=[('.*', 0)", "error: optimizer: "),
    override("parenthesis-extra", "data.augment=flip_lr())", "data.augment.0: 'flip_lr())'"),
    override("option-twice", "model=mlp(widths=[3], widths=[4])", "error: model.widths: ", "twice"),
    override("option-twice-by-place", "optimizer=sgd(0.1, learning_rate=0.2)", "optimizer.learning_rate: ", "twice"),
    override("option-missing", "optimizer=sgd", "optimizer.learning_rate: ", "no default"),
    override("option-missing-nested", "optimizer.learning_rate=cosine", "optimizer.learning_rate.peak: "),
    override("option-missing-of-data", "data.dataset=npz", "data.dataset.file: "),
    override("too-many-unnamed", "optimizer=sgd(0.1, 0.9)", "error: optimizer: ", "2 positional"),
    override("expression", "model=mlp(widths=[4 * 2])"),
    override("call-of-call", "model=mlp()()"),
    override("two-stars", "model=mlp(**options)"),
)

TOGETHER = (
    override("validation-all", "data.validation=96 examples", "data.validation: ", "96 of the 96"),
    override("validation-larger", "data.validation=200%", "data.validation: ", "192 of the 96"),
    override("validation-none-of-it", "data.validation=0.1%", "data.validation: ", "0 of the 96"),
    override("batch-larger-than-data", "data.batch_size=81", "data.batch_size: ", "80 examples"),
    override("warmup-to-the-end", "optimizer.learning_rate.warmup=100%", "optimizer.learning_rate", "warmup=12 steps"),
    override("end-above-peak", "optimizer.learning_rate.end=0.2", "optimizer.learning_rate", "end=0.2"),
    override(
        "boundaries", "optimizer.learning_rate=multistep(1, boundaries=['9 steps', '4 steps'])", "ascend", "[9, 4]"
    ),
    override(
        "boundary-in-warmup", "optimizer.learning_rate=multistep(1, boundaries=['25%'], warmup='4 steps')", "(step 3)"
    ),
    override("nesterov-alone", "optimizer=sgd(0.1, nesterov=True)", "optimizer sgd: nesterov"),
    override("regex-broken", "optimizer.weight_decay=[('kernel(', 1), ('.*', 0)]", "optimizer.weight_decay: 'kernel('"),
    override("regex-of-nothing", "optimizer.weight_decay=[('conv', 1), ('.*', 0)]", "weight_decay: the rule 'conv'"),
    override("regex-backslash", r"optimizer.weight_decay=[('conv\d', 1), ('.*', 0)]", "weight_decay: ", "conv"),
    override("parameter-uncovered", "optimizer.weight_decay=[('kernel', 1)]", "optimizer.weight_decay: ", "'fc1/bias'"),
    override("rule-uncovered", "parameters.frozen=[('fc1', 1)]", "parameters.frozen: ", "'logits/bias'"),
    override("all-frozen", "parameters.frozen=[('.*', 1)]"),
    override("half-frozen", "parameters.frozen=[('fc1', 0.5), ('.*', 0)]"),
    override("devices-too-many", "devices=9", "error: devices: 9 devices", "only 8"),
    override("batch-not-divisible", "devices=3", "data.batch_size: a batch of 16 examples", "15 or 18"),
    override("images-too-small", "model=lenet5", "error: model: ", "4x4", "data.resize"),
)

ZOO = (
    override("rate-negative-inside", "optimizer=sam(sgd(-0.1))", "optimizer.inner.learning_rate: "),
    override("momentum-one", "optimizer=nesterov(0.1, momentum=1)", "optimizer.momentum: "),
    override(
        "momentum-reaches-one", "optimizer=momentum(0.1, momentum='constant(1.0)')", "optimizer.momentum: ", "[0, 1)"
    ),
    override("no-memory", "optimizer=lbfgs(memory_size=0)", "optimizer.memory_size: "),
    override("search-unknown", "optimizer=lbfgs(line_search='wolf')", "optimizer.line_search: ", "strong_wolfe"),
    override("inner-number", "optimizer=sam(3)", "optimizer.inner: expected an optimizer"),
    override("inner-unknown", "optimizer=lookahead(sdg(0.1))", "optimizer.inner: ", "did you mean 'sgd'"),
    override("not-full-batch", "optimizer=lbfgs", "data.batch_size: lbfgs", "data.batch_size=all"),
    Row(
        "plateau-blind",
        (*TRAIN, "optimizer.learning_rate=plateau(0.1)", "data.validation=none"),
        ("error: optimizer.learning_rate: ", "validation"),
    ),
    override("schedule-backward", "optimizer.learning_rate=linear(0.1, warmup='12 steps')", "optimizer.learning_rate"),
    override("penalty-negative", "penalties=l1(-1)", "penalties.0.strength: "),
    override("penalty-of-nothing", "penalties=l2(1e-3, parameters='conv')", "'conv'"),
    override("clip-zero", "gradients=clip_by_norm(0)", "gradients.0.norm: "),
    override("average-unknown", "average=emma", "average: ", "did you mean 'ema'"),
    override("average-for-ever", "average=ema(1.0)", "average.decay: "),
    override("layer-decay-zero", "parameters.layer_decay=0", "parameters.layer_decay: "),
    override("base-batch-zero", "base_batch_size=0", "base_batch_size: "),
    override("micro-batch-zero", "data.micro_batch=0", "data.micro_batch: "),
    override("batch-word", "data.batch_size=full", "data.batch_size: ", "Known: all"),
    override("hinge-of-mixtures", "loss=template_mse(templates=[[1, 0], [0, 1]])", "template"),
)

FILES = (
    recipe("syntax", "def get_config(:\n", "line 1", "SyntaxError", alone=True),
    recipe("zero-byte", b"x = 1\0", "null bytes"),
    recipe("raises", "\n\nraise RuntimeError('no luck')\n", "line 3", "no luck"),
    function("raises-within", "return 1 / 0", "line 3", "ZeroDivisionError"),
    function("exits", "raise SystemExit(0)", "line 3", "SystemExit"),
    recipe("import-unknown", "import jaxtrian\n", "line 1", "jaxtrian"),
    recipe("without-function", "config = 3\n", "get_config()"),
    recipe("not-a-function", "get_config = 3\n", "get_config()"),
    function("returns-else", "return {'model': 'mlp'}", "dict"),
    function("returns-nothing", "pass", "NoneType"),
    function("setting-missing", "return Config(model='mlp')", "error: data: ", "no default", "line 3"),
    function("wrong-type", "return DataConfig(dataset='digits', batch_size='64')", "data.batch_size: ", "line 3"),
    command("not-there", "train", "lost.py", "--workdir", "run", says=("'lost.py'",)),
    command("not-there-json", "check", "lost/config.json", says=("'lost/config.json'",)),
    command("not-there-variant", "check", "lost.py:adam", says=("'lost.py'",)),
    command("json-variant", "check", "{config}:adam", says=("tiny.json takes no argument", "':adam'")),
    command("directory", "train", ".", "--workdir", "run", says=("'.'",)),
    command("name-too-long", "check", f"{'x' * 5000}.py", says=("cannot read xxx",)),
    Row("json-cut", TRAIN, ("hand.json is not JSON", "line 1"), "hand.json", '{"model": '),
    Row("json-empty", TRAIN, ("hand.json is not JSON",), "hand.json", ""),
    Row("json-not-text", TRAIN, ("cannot read hand.json",), "hand.json", b"\xff\xfe\0"),
    Row("json-list", TRAIN, ("hand.json", "list"), "hand.json", "[]"),
    Row("json-too-deep", TRAIN, ("hand.json is not JSON",), "hand.json", "[" * 200_000),
    Row("json-number-too-long", TRAIN, ("hand.json is not JSON",), "hand.json", '{"seed": ' + "9" * 5000 + "}"),
    Row("json-setting-missing", TRAIN, ("error: model: ",), "hand.json", '{"version": 1}'),
    Row("json-no-version", TRAIN, ("hand.json has no version",), "hand.json", "{}"),
    Row("json-newer", TRAIN, ("hand.json has version 2", "a newer jaxtrain"), "hand.json", '{"version": 2}'),
)

COMMANDS = (
    command("nothing", says=("COMMAND",)),
    command("unknown-command", "trian", "digits_lenet5", says=("'trian'", "train"), alone=True),
    command("unknown-flag", "train", "digits_lenet5", "--work-dir", "x", says=("--work-dir",)),
    command("unknown-flag-eval", "eval", "run", "--splits", "x", says=("--splits",)),
    command("flag-without-value", "train", "digits_lenet5", "--workdir", says=("--workdir",)),
    command("no-config", "train", says=("CONFIG",)),
    command("list-unknown", "list", "modles", says=("'modles'", "models")),
    command("list-override", "list", "models", "model=mlp", says=("model=mlp",)),
    command("diff-of-one", "diff", "digits_lenet5", says=("B",)),
    command("diff-nonsense", "diff", "seed=1", "digits_lenet5", says=("'seed=1'",)),
    command("check-override", "check", "{config}", "seed=x", says=("error: seed: ",)),
)

ROWS = tuple(
    dataclasses.replace(row, id=f"{theme}-{row.id}")
    for theme, rows in {
        "typo": TYPOS,
        "type": TYPES,
        "range": RANGES,
        "duration": DURATIONS,
        "writing": WRITING,
        "together": TOGETHER,
        "zoo": ZOO,
        "file": FILES,
        "command": COMMANDS,
    }.items()
    for row in rows
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_wrong_input_is_refused_with_one_message(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = dumps(tiny_config()) if row.content is None else row.content
    Path(row.file).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = tree(tmp_path)
    arguments = [argument.replace("{config}", row.file) for argument in row.arguments]
    code, message = run_alone(arguments) if row.alone else run_here(arguments, capsys)
    assert_refused(code, message, row.says)
    assert tree(tmp_path) == before
