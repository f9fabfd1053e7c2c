"""What is written for people keeps to simple rules: names of functions, first lines, entries under Args."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxtrain"

PARTICIPLES = re.compile(
    r"[a-z]+ed|made|told|said|laid|held|given|found|built|kept|lost|seen|drawn|shown|known|written|taken|done"
)
NOT_PARTICIPLES = {"embed", "feed", "need", "seed", "shared", "speed", "used"}
"""Words in `ed` that are verbs or nouns; "shared" and "used" stand before a noun."""
EXCEPTIONS = {
    "augmented": "a name in configs: views that are augmented",
    "checked": "a wrapper that takes the name of the factory inside",
    "published_errors": "a noun with its adjective",
    "shifted_flips": "a name in configs: flips that are shifted",
    "squared": "the loss, as the field calls it",
    "squared_hinge": "the loss, as the field calls it",
    "scaled_tanh": "LeCun's activation, as the field calls it",
}
"""Functions that are named by a participle, and why."""

NO_NOUN = re.compile(
    r"(about|above|after|all|among|are|as|at|because|before|below|between|by|can|does|during|each|else|every|for|from|has"
    r"|have|how|if|in|inside|into|is|it|of|on|once|only|or|over|per|said|so|takes|than|that|there|they|through|to|under"
    r"|until|what|when|where|whether|which|while|who|whose|why|with|within|without)\b"
)
FLAGS = re.compile(r"whether\b")
"""An entry of type bool says "whether ...", as everywhere in the field."""
NO_VERB = re.compile(
    r"(a|an|the|its|all|as|at|by|for|from|how|if|in|of|on|one|that|this|two|what|where|whether|which|who|whose)\b",
    re.IGNORECASE,
)


def definitions() -> Iterator[tuple[Path, ast.FunctionDef | ast.ClassDef]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield path, node


def where(path: Path, node: ast.FunctionDef | ast.ClassDef) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{node.lineno}: {node.name}"


def is_property(node: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def is_participle(name: str) -> bool:
    first = name.lstrip("_").split("_")[0]
    return PARTICIPLES.fullmatch(first) is not None and first not in NOT_PARTICIPLES and name not in EXCEPTIONS


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each entry of the sections Args and Attributes."""
    section = ""
    indent = 0
    for line in docstring.splitlines():
        heading = re.fullmatch(r"(\s*)(\w+):", line)
        if heading:
            section, indent = heading[2], len(heading[1])
        entry = re.match(r"( +)(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)", line)
        if section in ("Args", "Attributes") and entry and len(entry[1]) in (indent + 2, indent + 4):
            yield entry[2], entry[3]


def faults_of_names() -> list[str]:
    """A function is a verb in the imperative or the noun for what it returns."""
    return [
        where(path, node)
        for path, node in definitions()
        if isinstance(node, ast.FunctionDef) and not is_property(node) and is_participle(node.name)
    ]


def faults_of_entries() -> list[str]:
    """An entry under Args or Attributes begins with its noun."""
    return [
        f"{where(path, node)}: {name}: {text}"
        for path, node in definitions()
        for name, text in entries(ast.get_docstring(node) or "")
        if NO_NOUN.match(text) and not FLAGS.match(text)
    ]


def faults_of_first_lines() -> list[str]:
    """A function's docstring begins with a verb in the imperative; a property's and a class's with a noun."""
    faults = []
    for path, node in definitions():
        docstring = ast.get_docstring(node)
        if not docstring or not isinstance(node, ast.FunctionDef) or is_property(node):
            continue
        first = docstring.split(maxsplit=1)[0].rstrip(".,:;")
        third_person = re.fullmatch(r"[A-Z][a-z]*[^us]s", first) is not None
        if node.name.startswith("__") or first in ("Build", "See", "Context", "Pass", "Process"):
            continue
        if NO_VERB.fullmatch(first) or third_person or not first[:1].isupper():
            faults.append(f"{where(path, node)}: {docstring.splitlines()[0]}")
    return faults


@pytest.mark.parametrize("faults", [faults_of_names, faults_of_entries, faults_of_first_lines])
def test_the_language_of_the_package_keeps_its_rules(faults: Callable[[], list[str]]) -> None:
    assert faults() == []
