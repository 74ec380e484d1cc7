"""Imports point one way: the rule of the design, read off the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tagger"

# Who may import whom inside the package. A stage folder may always import itself, types, stores, errors, text, stop and memory.
ALLOWED = {
    "cli": {
        "job",
        "config",
        "catalog",
        "cache_commands",
        "inspect_command",
        "learning_commands",
        "history_command",
        "starter",
        "model_commands",
        "options",
        "log",
        "",
    },  # of the catalog what starts reading early
    "cache_commands": {"encoders"},
    "learning_commands": {"learning", "calibrating", "comparing", "training", "options", "log"},
    "model_commands": {"pulling", "log"},
    "pulling": {"catalog", "encoders"},
    "inspect_command": {"catalog", "options", "log", ""},
    "inspecting": {"thresholds", "plan", "inspection", "catalog", "images", "encoders", "engines", "predictor"},
    "inspection": {"catalog", "engines"},
    "comparing": {"plan", "labelled", "catalog", "encoders", "engines", "predictor", "training", "evaluation"},
    "labelled": {"plan", "catalog", "config", "tagging"},
    "calibrating": {"plan", "learned", "opening", "fallback", "catalog", "engines", "tagging", "training", "evaluation"},
    "learning": {"plan", "labelled", "catalog", "encoders", "engines", "predictor", "tagging", "training"},
    "job": {"plan", "execution", "record", "summary", "outputs", "catalog"},
    "execution": {"plan", "identity", "summary", "engines", "opening", "catalog", "evaluation"},
    "record": {"journal", "prometheus", "summary", "outputs", "catalog"},
    "history_command": {"history"},
    "history": {"journal"},
    "journal": set(),
    "prometheus": {"summary", "catalog"},
    "opening": {"plan", "identity", "engines", "fallback", "predictor", "encoders", "images"},
    "identity": {"plan", "catalog", "tagging", "predictor", "fallback"},
    "plan": {"catalog", "tagging", "config", "outputs", "learned", "thresholds", "encoders"},
    "thresholds": {"config", "tagging"},
    "starter": {"config"},
    "learned": {"config", "tagging", "encoders"},
    "fallback": {"predictor", "config", "learned", "tagging", "encoders"},
    "outputs": {"catalog"},
    "summary": {"catalog", "evaluation"},
    "config": {"tagging", "encoders"},
    "engines": {"predictor", "fallback", "catalog", "images", "encoders"},
    "training": {"images", "encoders", "tagging", "engines", "catalog", "predictor"},
    "predictor": {"config", "images", "encoders", "tagging"},
    "evaluation": {"catalog"},
    "catalog": set(),
    "images": set(),
    "encoders": set(),
    "tagging": set(),
    "types": set(),
    "stores": set(),
    "errors": set(),
    "stop": set(),
    "text": set(),
    "log": set(),
    "memory": set(),
    "options": set(),
    "": {
        "job",
        "learning",
        "calibrating",
        "comparing",
        "inspecting",
        "inspection",
        "summary",
        "evaluation",
    },  # tagger/__init__.py
}
FILES = sorted(PACKAGE.rglob("*.py"))


def stage(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "tagger"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_flow(path: Path):
    own = stage(path)
    used = {
        module.split(".")[1] if "." in module else "" for module in imported_modules(path) if module.split(".")[0] == "tagger"
    }
    if any(module.startswith("tagger.") for module in imported_modules(path)):
        used.discard("")  # `from tagger import job` is judged by the job
    assert used - {own, "types", "stores", "errors", "stop", "text", "memory", "__version__"} <= ALLOWED[own]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_stage(path: Path):
    assert len(path.read_text().splitlines()) <= 300


def test_every_stage_has_its_rule():
    assert {stage(path) for path in FILES} <= set(ALLOWED)
