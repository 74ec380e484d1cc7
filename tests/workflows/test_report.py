"""`tagger report` and the report of a run: built, built again, left out, and never in the way of the results."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest

import tagger
from tagger.core.errors import GateError, ManifestError, StoppedError
from tagger.workflows.report import report
from tests.helpers.keywords import keywords
from tests.helpers.object_store import ObjectStore, Server
from tests.helpers.results import write_result
