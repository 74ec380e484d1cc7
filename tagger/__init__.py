"""Tag the product images of a Parquet manifest.

    import tagger
    summary = tagger.run("manifest.parquet", labels=["shirt", "dress", "shoes"])
    print(summary.evaluation.to_text())

The names are imported when they are first used, so that `tagger --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagger.reports.inspection import Inspection
    from tagger.reports.summary import RunSummary
    from tagger.settings.options import ClipRecipe, DaptRecipe, HeadRecipe, Machine, Output, PromptTrial, Recipe, Study, Target
    from tagger.workflows.apply_corrections import apply_corrections
    from tagger.workflows.calibrate import calibrate
    from tagger.workflows.compare import compare
    from tagger.workflows.evaluate import evaluate
    from tagger.workflows.inspect import inspect
    from tagger.workflows.merge import merge
    from tagger.workflows.prompts import prompts
    from tagger.workflows.report import report
    from tagger.workflows.review import review
    from tagger.workflows.run import run
    from tagger.workflows.shard import tag_shard
    from tagger.workflows.train import train_resnet18
    from tagger.workflows.train_clip import train_clip
    from tagger.workflows.train_dapt import train_dapt
    from tagger.workflows.train_head import train_head

__all__ = [
    "ClipRecipe",
    "DaptRecipe",
    "HeadRecipe",
    "Inspection",
    "Machine",
    "Output",
    "PromptTrial",
    "Recipe",
    "RunSummary",
    "Study",
    "Target",
    "__version__",
    "apply_corrections",
    "calibrate",
    "compare",
    "evaluate",
    "inspect",
    "merge",
    "prompts",
    "report",
    "review",
    "run",
    "tag_shard",
    "train_clip",
    "train_dapt",
    "train_head",
    "train_resnet18",
]

__version__ = version("tagger")

_MODULES = {
    "ClipRecipe": "tagger.settings.options",
    "DaptRecipe": "tagger.settings.options",
    "HeadRecipe": "tagger.settings.options",
    "Inspection": "tagger.reports.inspection",
    "Machine": "tagger.settings.options",
    "Output": "tagger.settings.options",
    "PromptTrial": "tagger.settings.options",
    "Recipe": "tagger.settings.options",
    "RunSummary": "tagger.reports.summary",
    "Study": "tagger.settings.options",
    "Target": "tagger.settings.options",
    "apply_corrections": "tagger.workflows.apply_corrections",
    "calibrate": "tagger.workflows.calibrate",
    "compare": "tagger.workflows.compare",
    "evaluate": "tagger.workflows.evaluate",
    "inspect": "tagger.workflows.inspect",
    "merge": "tagger.workflows.merge",
    "prompts": "tagger.workflows.prompts",
    "report": "tagger.workflows.report",
    "review": "tagger.workflows.review",
    "run": "tagger.workflows.run",
    "tag_shard": "tagger.workflows.shard",
    "train_clip": "tagger.workflows.train_clip",
    "train_dapt": "tagger.workflows.train_dapt",
    "train_head": "tagger.workflows.train_head",
    "train_resnet18": "tagger.workflows.train",
}


def __getattr__(name: str) -> Any:  # the type of whichever name is asked for
    if name not in _MODULES:
        raise AttributeError(f"module 'tagger' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
