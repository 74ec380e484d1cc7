"""Run thirty nights of jobs/nightly.sh over a catalogue that grows, changes and breaks, and check each in the morning.

    python tests/reliability/month.py --out month.md

Prints a Markdown table. Expected of each night:

- the exit codes that belong to what happened, in the row of `tagger history`, too;
- what `current` leads to is, byte for byte, what a run without a cache and into an empty folder makes of tonight's catalogue;
  after a bad night it leads where it led before, to the same bytes;
- the encoder sees the bytes of a picture once for each model, over all starts of all nights;
- a published night holds the result and what a run leaves for others to read, and nothing half-written is anywhere else.

Needs a C compiler (cc) and Linux, as fault_injection.py does, because it fills the disk in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from changing_catalogue import Catalogue, Change, sha256
from fault_injection import LEFT, preload
from harness import prepare
from nightly_job import Job


@dataclass(frozen=True)
class Event:
    """Say what happens on a night: how the catalogue changes before it, how it is started, and the exit codes to expect.

    After a night without a 0, the catalogue is repaired.
    """

    what: str
    change: Change = lambda _: None
    codes: tuple[int, ...] = (0,)
    how: str = "once"


FILES = LEFT - {"embeddings.json", "sketches.npy"} | {"report.html"}
MONTH = (
    Event("first night, 40 products", lambda c: c.add(40)),
    Event("nothing changed"),
    Event("8 products added", lambda c: c.add(8)),
    Event("4 pictures replaced: same name, same size", lambda c: c.replace_pictures(4, keep_times=False)),
    Event("nothing changed"),
    Event("6 products deleted, the others in another order", lambda c: c.delete(6)),
    Event("a new column", Catalogue.add_column),
    Event("the picture folder is gone", Catalogue.unmount, (78,)),
    Event("it is back; 6 products added", lambda c: c.add(6)),
    Event("8 added; tagger killed with -9, started again", lambda c: c.add(8), (137, 0), "tagger killed"),
    Event("1 added, whose picture is missing", Catalogue.lose_picture),
    Event("the missing picture has come", Catalogue.find_picture),
    Event("the picture folder is an empty mount point", Catalogue.empty, (3,)),
    Event("it is mounted again"),
    Event("a new label", Catalogue.add_label),
    Event("6 added; started twice at the same time", lambda c: c.add(6), (0, 75), "twice"),
    Event("the manifest is cut off", Catalogue.cut_manifest, (65,)),
    Event("5 pictures replaced: same name, size and time", lambda c: c.replace_pictures(5, keep_times=True)),
    Event("8 added; disk full, started again with room", lambda c: c.add(8), (75, 0), "disk full"),
    Event("half of the pictures are cut off", Catalogue.corrupt, (3,)),
    Event("they are whole again"),
    Event("a new model", Catalogue.train_model),
    Event("nothing changed"),
    Event("right answers of other products", Catalogue.spoil_truth, (3,)),
    Event("they are right again; 8 products added", lambda c: c.add(8)),
    Event("pictures of other products", Catalogue.mix_up_pictures, (3,)),
    Event("5 deleted, another order; all killed with -9, started again", lambda c: c.delete(5), (-9, 0), "all killed"),
    Event("a gate is misspelt in tagger.toml", Catalogue.misspell_gate, (78,)),
    Event("6 added, with the pictures of others", lambda c: c.add_with_known_pictures(6)),
    Event("12 added", lambda c: c.add(12)),
)


@dataclass(frozen=True)
class Night:
    """Hold a row of the table. `rows` and `encoded` are None if the night did not get that far."""

    night: str
    what: str
    rows: int | None
    encoded: int | None
    seconds: float
    exit: tuple[int, ...]
    published: bool


class Month:
    """Run the nights; `wrong` has a line for each thing that was not as expected."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job = folder, Job(folder)
        self.nights: list[Night] = []
        self.wrong: list[str] = []
        self._encoded: set[tuple[str, str]] = set()  # (model, picture), by the hashes of their bytes
        self._references: dict[str, str] = {}

    def pass_night(self, night: str, event: Event) -> None:
        """Change the catalogue, start the night, check it, and repair what was broken."""
        job, backup, good = self.job, self.folder / "backup", 0 in event.codes
        if not good:  # the copy breaks; what comes back are the same files, whose times and inodes are known
            job.catalogue.folder.rename(backup)
            shutil.copytree(backup, job.catalogue.folder)
        event.change(job.catalogue)
        before, held = job.published(), job.embeddings()
        began = time.monotonic()
        codes = job.run(night, event.how)
        seconds = round(time.monotonic() - began, 1)
        self._expect(night, "exit codes", event.codes, codes)
        [told] = [line for line in json.loads(job.tagger("history", str(job.nights), "--json")) if line["night"] == night]
        self._expect(night, "history's exit code", 0 if good else event.codes[-1], told["exit"])
        passed = job.embeddings() - held
        judged = codes[-1] not in (65, 78)
        if judged:
            self._judge_encoded(night, passed, told["encoded_images"], len(codes))
            self._expect(night, "rows", len(job.catalogue.rows()), told["rows"])
        self._expect(night, "`current`", (night, self._reference(), True) if good else (*before, False), (*job.published(), good))
        self._judge_files(night, codes[-1] if not good else 0)
        rows, encoded = (told["rows"], passed) if judged else (None, None)
        self.nights.append(Night(night, event.what, rows, encoded, seconds, codes, job.published()[0] == night))
        if not good:
            shutil.rmtree(job.catalogue.folder)
            backup.rename(job.catalogue.folder)

    def end(self) -> None:
        """Check what the operator sees afterwards, and run one night more, which keeps seven."""
        told = json.loads(self.job.tagger("history", str(self.job.nights), "--json"))
        expected = [(one.night, 0 if 0 in one.exit else one.exit[-1]) for one in self.nights]
        self._expect("the month", "history", expected, [(one["night"], one["exit"]) for one in told])
        self._expect("the night after it", "exit code", (0,), self.job.run("2026-12-01", keep=7))
        kept = [*(one.night for one in self.nights[-6:]), "2026-12-01"]
        self._expect("the night after it", "nights kept", kept, sorted(path.name for path in self.job.nights.glob("2026-*")))

    def _judge_encoded(self, night: str, passed: int, last: int, starts: int) -> None:
        model = sha256(self.job.catalogue.model / "model.safetensors")
        tonight = {(model, picture) for picture in self.job.catalogue.contents()}
        expected = len(tonight - self._encoded)
        self._encoded |= tonight
        self._expect(night, "pictures encoded", expected, passed)
        if starts == 1:
            self._expect(night, "encoded, in history", expected, last)

    def _judge_files(self, night: str, code: int) -> None:
        folder, nights = self.job.nights / night, self.job.nights
        self._expect(night, "in nights", {"lock", "current"}, {path.name for path in nights.iterdir() if path.name[0] != "2"})
        names = {"tagged.run", *{0: ["tagged.parquet"], 3: ["tagged.rejected.parquet"]}.get(code, [])}
        self._expect(night, "files", names, {path.name for path in folder.iterdir()})
        left = {path.name for path in (folder / "tagged.run").iterdir()}
        # Pictures, sketches and sums are there where something was labelled, tagged or published.
        always = {name for name in left if not name.endswith((".png", ".npy")) and name != "embeddings.json"}
        self._expect(night, "files of the run", FILES if code in (0, 3) else always & FILES, always)

    def _reference(self) -> str:
        """Return the hash of what a run without a cache makes of the catalogue as it is now."""
        catalogue, state = self.job.catalogue, self.job.catalogue.state()
        if state not in self._references:
            output = self.folder / "reference" / state / "result.parquet"
            output.parent.mkdir(parents=True)
            self.job.tagger("run", str(catalogue.manifest), "--output", str(output), "--no-cache", "--workers", "0", "--quiet")
            self._references[state] = sha256(output)
        return self._references[state]

    def _expect(self, night: str, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            self.wrong.append(f"{night}: {what}: expected {str(expected)[:200]}, found {str(found)[:200]}")
            print(self.wrong[-1], file=sys.stderr, flush=True)


def to_table(nights: list[Night]) -> str:
    lines = ["| night | what happened | rows | encoded | seconds | exit | published |", "|---|---|---|---|---|---|---|"]
    for one in nights:
        known = ("" if value is None else str(value) for value in (one.rows, one.encoded))
        cells = (
            one.night,
            one.what,
            *known,
            f"{one.seconds:.1f}",
            ", ".join(map(str, one.exit)),
            "yes" if one.published else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    parser.add_argument("--json", action="store_true", help="print nights and what was wrong as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if "fail_io" not in os.environ.get("LD_PRELOAD", ""):
            preload(name)
        prepare()
        month = Month(Path(name))
        for number, event in enumerate(MONTH, start=1):
            month.pass_night(f"2026-11-{number:02}", event)
        month.end()
        if month.wrong:
            print(month.job.log.read_text(), file=sys.stderr)
    table = to_table(month.nights)
    print(json.dumps({"nights": list(map(asdict, month.nights)), "wrong": month.wrong}) if options.json else table)
    if options.out:
        options.out.write_text(f"{table}\n")
    sys.exit(bool(month.wrong))


if __name__ == "__main__":
    main()
