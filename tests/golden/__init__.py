"""Golden copies of what is shipped, as it was when someone last looked at it; `python -m tests.golden` renews all."""

from pathlib import Path

from jaxtrain.config import dumps, load_config, shipped

CONFIGS = Path(__file__).parent / "configs"


def golden(name: str) -> Path:
    """The golden copy of a shipped recipe's resolved config."""
    return CONFIGS / f"{name}.json"


def renew() -> list[Path]:
    """Writes the copy of every shipped recipe, removes those of recipes that are gone, and returns what changed."""
    CONFIGS.mkdir(exist_ok=True)
    wanted = {golden(name): dumps(load_config(name)) for name in shipped()}
    changed = [path for path in CONFIGS.iterdir() if path not in wanted]
    for path in changed:
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
