#!/usr/bin/env python3
"""Change what a run reads while it reads it: manifest, pictures and earlier result replaced, truncated or removed.

    python tests/reliability/races.py --races 20 --seed 0

Each race starts a run on a catalogue, in place or not, and changes one thing at a random moment of it. Afterwards nothing may
be lost or mixed: a result has the rows, the labels and the truth of one version of the manifest; a manifest that came meanwhile
is there, as it came or tagged; the run has ended with 0, 65 or 75 and one line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from harness import SAMPLE, has_ended, prepare, show, start, wait

ROWS = 130
SUBJECTS, CHANGES = ("manifest", "picture", "earlier result"), ("replaced", "truncated", "removed")
# The labels come from the truth column, so they tell which version of the manifest they were read from.
TRUTH = {"today": ("dress", "shirt"), "tomorrow": ("bag", "coat", "sandal")}


class Race:
    """One catalogue in a folder, and what becomes of it."""

    def __init__(self, folder: Path, subject: str, change: str, in_place: bool) -> None:
        self.folder, self.subject, self.change, self.in_place = folder, subject, change, in_place
        shutil.copytree(SAMPLE / "images", folder / "images")
        names = sorted(path.name for path in (folder / "images").iterdir())[:ROWS]
        self.today, self.tomorrow = folder / "manifest.parquet", folder / "tomorrow.parquet"
        for version, path, rows in (("today", self.today, ROWS), ("tomorrow", self.tomorrow, ROWS - 7)):
            labels = TRUTH[version]
            table = {
                "image_path": names[:rows],
                "version": [version] * rows,
                "category": [labels[row % len(labels)] for row in range(rows)],
            }
            pq.write_table(pa.table(table), path)
        self.versions = {path.read_bytes(): name for name, path in (("today", self.today), ("tomorrow", self.tomorrow))}
        self.output = self.today if in_place else folder / "out.parquet"
        if subject == "earlier result" and not in_place:
            self.start_and_wait()

    @property
    def target(self) -> Path:
        """What is changed."""
        names = {"manifest": self.today, "earlier result": self.output}
        return names.get(self.subject, self.folder / "images" / "0100.png")

    def start(self) -> int:
        where = ["--in-place"] if self.in_place else ["--output", str(self.output), "--overwrite"]
        command = ["run", str(self.today), *where, "--image-root", "images", "--no-cache", "--quiet", "--no-report"]
        return start(self.folder, [*command, "--model", str(SAMPLE / "model"), "--workers", "1"])

    def start_and_wait(self) -> float:
        began = time.monotonic()
        if code := wait(self.start()):
            sys.exit(f"an undisturbed run ended with {code}: {(self.folder / 'stderr').read_text()}")
        return time.monotonic() - began

    def run(self, moment: float) -> tuple[int, bool]:
        """Change the target this many seconds after the start; return the exit code, and whether the run was still on."""
        pid = self.start()
        time.sleep(moment)
        running = not has_ended(pid)
        if self.target.exists():
            if self.change == "removed":
                self.target.unlink()
            elif self.change == "truncated":
                os.truncate(self.target, self.target.stat().st_size // 2)
            else:
                other = self.tomorrow if self.subject == "manifest" else self.folder / "images" / "0101.png"
                shutil.copy(other, self.folder / "new")
                (self.folder / "new").replace(self.target)
        return wait(pid), running

    def faults(self, code: int, running: bool) -> list[str]:
        """Return what is wrong with what the run left."""
        lines = (self.folder / "stderr").read_text().splitlines()
        wrong = [f"another line: {line}" for line in lines if not line.startswith("tagger: ")]
        if code not in (0, 65, 75):
            wrong.append(f"exit code {code}: {lines}")
        results = [path for path in self.folder.glob("*.parquet") if path != self.tomorrow]
        found = [version_of(path, self.versions, wrong) for path in results if path.stat().st_size > 4]
        came = self.subject == "manifest" and self.change == "replaced"
        if came and version_of(self.today, self.versions, wrong) != "tomorrow":
            wrong.append("the new manifest was lost")
        if self.subject == "picture" and code == 0 and "today" not in found:
            wrong.append("a run that ended well left no result")
        if running and self.in_place and self.subject == "manifest" and code == 0 and self.change != "replaced":
            wrong.append("a manifest that was changed during the run was taken for the one that was read")
        return wrong


def version_of(path: Path, versions: dict[bytes, str], wrong: list[str]) -> str | None:
    """Return the version of a manifest or a result; None where the file is no whole Parquet. Adds what is mixed to `wrong`."""
    if (known := versions.get(path.read_bytes())) is not None:
        return known
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None
    found = set(table["version"].to_pylist())
    described = json.loads(table.schema.metadata[b"tagger"])
    labels = {label for attribute in described["attributes"] for label in attribute["labels"]}
    truth = set(table["category"].to_pylist())
    if len(found) != 1 or labels != set(TRUTH[min(found)]) or truth != labels or table["tag_status"].null_count:
        wrong.append(f"{path.name} is mixed: rows of {found}, labels {labels}, truth {truth}")
    if len(table) != {"today": ROWS, "tomorrow": ROWS - 7}[min(found)]:
        wrong.append(f"{path.name} has {len(table)} rows of {found}")
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    prepare()
    rng = random.Random(options.seed)
    kinds = list(product(SUBJECTS, CHANGES, (False, True)))
    rng.shuffle(kinds)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "undisturbed"
        whole.mkdir()
        seconds = Race(whole, "picture", "replaced", False).start_and_wait()
        for number in range(options.races):
            subject, change, in_place = kinds[number % len(kinds)]
            folder = Path(name) / str(number)
            folder.mkdir()
            moment = rng.uniform(0, 1.1 * seconds)
            race = Race(folder, subject, change, in_place)
            code, running = race.run(moment)
            counts["races"] += 1
            counts["changed before the run had ended"] += running
            counts[f"exit code {code}"] += 1
            where = f"{subject} {change}, {'in place' if in_place else 'not in place'}, after {moment:.2f} s: exit code {code}"
            print(where, file=sys.stderr, flush=True)
            for fault in race.faults(code, running):
                counts["wrong"] += 1
                print(f"{where}: {fault}", file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    counts["wrong"] += 0
    show(counts, options.json)


if __name__ == "__main__":
    main()
