"""Finding and loading configs: a Python file with `get_config()`, a dumped JSON, or the name of a shipped recipe."""

import runpy
import traceback
from collections.abc import Iterable
from pathlib import Path

from jaxtrain.config.dump import loads
from jaxtrain.config.overrides import apply_overrides
from jaxtrain.config.schema import Config
from jaxtrain.errors import ConfigError, did_you_mean


def shipped_directory() -> Path:
    """Where the shipped recipes are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped() -> dict[str, Path]:
    """The shipped recipes by name."""
    return {p.stem: p for p in sorted(shipped_directory().glob("*.py")) if not p.stem.startswith("_")}


def load_config(config: str | Path | Config, overrides: Iterable[str] = ()) -> Config:
    """The config that `config` names (a path, a shipped recipe's name, or a config), with `overrides` applied."""
    if isinstance(config, Config):
        return apply_overrides(config, overrides)
    return apply_overrides(_load_file(find_config(config)), overrides)


def find_config(name: str | Path) -> Path:
    """The file that `name` means; `ConfigError` says what is known when there is none."""
    path = Path(name)
    try:
        if path.is_dir() and (path / "config.json").is_file():
            return path / "config.json"
        is_file = path.is_file()
    except OSError as error:  # no permission to look there, or a name too long
        raise ConfigError(f"cannot read {name}: {error.strerror}") from error
    if path.suffix in (".py", ".json"):
        if is_file:
            return path
        raise ConfigError(f"there is no config file {str(name)!r}")
    recipes = shipped()
    if str(name) in recipes:
        return recipes[str(name)]
    raise ConfigError(
        f"there is no config {str(name)!r}: neither a .py or .json file nor a recipe{did_you_mean(str(name), recipes)}"
    )


def config_name(config: str | Path | Config) -> str:
    """A short name for run directories: the file's stem, or `run` for a config made in Python."""
    if isinstance(config, Config):
        return "run"
    path = find_config(config)
    return path.parent.name if path.name == "config.json" else path.stem


def _load_file(path: Path) -> Config:
    if path.suffix == ".json":
        try:
            return loads(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
    try:
        namespace = runpy.run_path(str(path), run_name="jaxtrain_config")
        if not callable(namespace.get("get_config")):
            raise ConfigError(f"{path} defines no function get_config() that returns a Config")
        config = namespace["get_config"]()
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


def _line_in(error: BaseException, path: Path) -> int | None:
    """The line of the config file in which `error` arose, if it arose there."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return frames[-1].lineno if frames else None
