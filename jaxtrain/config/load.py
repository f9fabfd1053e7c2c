"""Functions that find and load configs: Python files with `get_config()`, JSON files and shipped recipes.

`get_config` may take one string argument, which `NAME:ARGUMENT` or `FILE.py:ARGUMENT` passes. A module-level literal
dict `VARIANTS`, `argument -> one-line description`, declares the valid arguments.
"""

import ast
import inspect
import re
import runpy
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxtrain.config.dump import loads
from jaxtrain.config.overrides import apply_overrides
from jaxtrain.config.schema import Config
from jaxtrain.errors import ConfigError, did_you_mean

_SUFFIXES = (".py", ".json")


def recipe_directory() -> Path:
    """Return the directory of the shipped recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def list_recipes() -> dict[str, Path]:
    """Return the files of the shipped recipes by name; a variant has the name `RECIPE:VARIANT`."""
    found = {}
    for recipe, path in _recipe_files().items():
        found[recipe] = path
        found |= {f"{recipe}:{variant}": path for variant in read_variants(path)}
    return found


def read_variants(path: Path) -> dict[str, str]:
    """Return the `VARIANTS` of a config file without running it; empty if it declares none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["VARIANTS"]:
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


def load_config(config: str | Path | Config, overrides: Iterable[str] = ()) -> Config:
    """Return the config that `config` names, with `overrides` applied.

    Args:
      config: a path or the name of a shipped recipe, optionally followed by `:ARGUMENT`; or a config.
      overrides: strings `path=value`.

    Example:
      >>> import jaxtrain
      >>> config = jaxtrain.load_config("digits_mlp", ["train_for=5 epochs", "optimizer.learning_rate=0.05"])
      >>> print(config.train_for, config.optimizer.options["learning_rate"])
      5 epochs 0.05
    """
    if isinstance(config, Config):
        return apply_overrides(config, overrides)
    return apply_overrides(_load_file(*find_config(config)), overrides)


def find_config(name: str | Path) -> tuple[Path, str | None]:
    """Return the config file that `name` refers to, and the argument after its last colon, or None without one.

    Raises:
      ConfigError: there is no such file or recipe; the message lists the recipes.
    """
    whole = str(name)
    file = _find_file(whole)
    if file is not None:
        return file, None
    base, colon, argument = whole.rpartition(":")
    file = _find_file(base) if colon else None
    if file is not None:
        return file, argument
    if Path(base or whole).suffix in _SUFFIXES:
        raise ConfigError(f"there is no config file {base or whole!r}")
    hint = did_you_mean(whole, list_recipes())
    raise ConfigError(f"there is no config {whole!r}: neither a .py or .json file nor a recipe{hint}")


def config_name(config: str | Path | Config) -> str:
    """Return a short name for run directories: the file's stem and argument, or `run` for a config object."""
    if isinstance(config, Config):
        return "run"
    path, argument = find_config(config)
    stem = path.parent.name if path.name == "config.json" else path.stem
    return stem if argument is None else stem + "-" + re.sub(r"[^\w.+-]", "-", argument)


def _recipe_files() -> dict[str, Path]:
    return {p.stem: p for p in sorted(recipe_directory().glob("*.py")) if not p.stem.startswith("_")}


def _find_file(name: str) -> Path | None:
    """Return the config.json of the run directory `name`, the config file `name` or the recipe's file, or None."""
    path = Path(name)
    try:
        if path.is_dir() and (path / "config.json").is_file():
            return path / "config.json"
        is_file = path.is_file()
    except OSError as error:  # no permission, or a name that is too long
        raise ConfigError(f"cannot read {name}: {error.strerror}") from error
    return path if is_file and path.suffix in _SUFFIXES else _recipe_files().get(name)


def _load_file(path: Path, argument: str | None) -> Config:
    if path.suffix == ".json":
        if argument is not None:
            raise ConfigError(f"{path} takes no argument, since it is not a Python file; remove ':{argument}'")
        try:
            return loads(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
    try:
        namespace = runpy.run_path(str(path), run_name="jaxtrain_config")
        if not callable(namespace.get("get_config")):
            raise ConfigError(f"{path} defines no function get_config(); add one that returns a jaxtrain.config.Config")
        config = namespace["get_config"](*_arguments(namespace, path, argument))
    except ConfigError as error:
        line = _line_in(error, path)
        raise ConfigError(f"{error.message} ({path}, line {line})" if line else error.message, error.path) from error
    except (Exception, SystemExit) as error:
        line = _line_in(error, path) or getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"get_config() in {path} returned {type(config).__name__}, not a jaxtrain.config.Config")
    return config


def _arguments(namespace: Mapping[str, Any], path: Path, argument: str | None) -> tuple[str, ...]:
    """Return the arguments for `get_config`, after a check against its signature and `VARIANTS`."""
    declared: Iterable[str] = namespace.get("VARIANTS", ())
    arguments = () if argument is None else (argument,)
    try:
        inspect.signature(namespace["get_config"]).bind(*arguments)
    except TypeError:
        if argument is None:
            known = did_you_mean("", declared) if declared else ""
            raise ConfigError(f"{path} needs an argument: write {path.name}:ARGUMENT{known}") from None
        raise ConfigError(f"get_config() in {path} takes no argument; remove ':{argument}'") from None
    if argument is not None and declared and argument not in declared:
        raise ConfigError(f"{path} has no variant {argument!r}{did_you_mean(argument, declared)}")
    return arguments


def _line_in(error: BaseException, path: Path) -> int | None:
    """Return the line of the config file that raised `error`, or None if another file did."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return frames[-1].lineno if frames else None
