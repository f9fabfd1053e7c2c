"""Golden copies of what is shipped, as it was when someone last looked at it; `python -m tests.golden` renews all.

A recipe's copy is its whole resolved config; the copy of a variant holds the settings that differ from its recipe's.
"""

import json
from pathlib import Path
from typing import Any

from jaxtrain.config import dumps, list_recipes, load_config

CONFIGS = Path(__file__).parent / "configs"


def golden(name: str) -> Path:
    """Return the path of the golden copy of a shipped recipe or variant."""
    return CONFIGS / f"{name.replace(':', '-')}.json"


def render(name: str) -> str:
    """Return what the golden copy of `name` must hold."""
    text = dumps(load_config(name))
    recipe, colon, _ = name.partition(":")
    if not colon:
        return text
    return json.dumps(_changes(json.loads(dumps(load_config(recipe))), json.loads(text)), indent=2) + "\n"


def _changes(base: dict[str, Any], variant: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `variant` that differ from those of `base`, by section; a component is one setting."""
    changes = {}
    for key, value in variant.items():
        if value != base[key]:
            is_section = isinstance(value, dict) and "name" not in value
            changes[key] = _changes(base[key], value) if is_section else value
    return changes


def renew() -> list[Path]:
    """Write the copy of every shipped recipe, remove those of recipes that are gone, and return what changed."""
    CONFIGS.mkdir(exist_ok=True)
    wanted = {golden(name): render(name) for name in list_recipes()}
    changed = [path for path in CONFIGS.iterdir() if path not in wanted]
    for path in changed:
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
