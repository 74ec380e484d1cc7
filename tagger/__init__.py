"""Tag the product images of a Parquet manifest.

    import tagger
    summary = tagger.run("manifest.parquet", labels=["shirt", "dress", "shoes"])
    print(summary.evaluation.to_text())

The functions are imported when first used, so that `tagger --help` does not wait for torch.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagger.calibrating import calibrate
    from tagger.comparing import compare
    from tagger.evaluation.stored import evaluate
    from tagger.inspecting import inspect
    from tagger.inspection import Inspection
    from tagger.job import run
    from tagger.learning import train_resnet18
    from tagger.summary import RunSummary

__all__ = [
    "Inspection",
    "RunSummary",
    "__version__",
    "calibrate",
    "compare",
    "evaluate",
    "inspect",
    "run",
    "train_resnet18",
]

__version__ = version("tagger")


def __getattr__(name: str) -> Any:  # the type of whichever name is asked for
    if name == "evaluate":
        from tagger.evaluation.stored import evaluate

        return evaluate
    if name == "calibrate":
        from tagger.calibrating import calibrate

        return calibrate
    if name == "compare":
        from tagger.comparing import compare

        return compare
    if name in ("inspect", "Inspection"):
        from tagger import inspecting

        return getattr(inspecting, name)
    if name == "train_resnet18":
        from tagger.learning import train_resnet18

        return train_resnet18
    if name in __all__:
        from tagger import job

        return getattr(job, name)
    raise AttributeError(f"module 'tagger' has no attribute {name!r}")
