"""Running a command to its end and saying what it took; the files that results are kept in; tables of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Facts = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What one run of a command took, the start of its process included."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run(words: list[str]) -> Run:
    """Run ``words`` as a process of its own; a failure ends the benchmark with what it said.

    Linux counts the peak of the process that starts another into that of the other, so keep this one small.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)}\nexited with {process.returncode}:\n{errors.read()[-2000:]}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output.read())


def load() -> float:
    """Processes that wanted to run in the last minute: what else this machine was doing."""
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """The processor, and which vidstyle this is."""
    from vidstyle.gallery import DEFAULT_STYLE, load_style
    from vidstyle.options import EncodeOptions
    from vidstyle.tools.bench import describe_run  # here, because `run` wants a small process

    facts = asdict(describe_run(load_style(DEFAULT_STYLE), EncodeOptions()))
    kept = {key: facts[key] for key in ("vidstyle", "commit", "date", "python", "system", "cpu", "packages")}
    return {**kept, "date": facts["date"][:10]}


class ResultFile:
    """``NAME.json``: what has been measured so far, written after each measurement."""

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{name}.json"
        self.facts = self._read()

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def put(self, part: str, name: str, facts: Any) -> None:
        """Keep ``facts`` under ``part`` and ``name``, in place of what was there."""
        self.facts = self._read()  # another script may have written meanwhile
        self.facts.setdefault(part, {})[name] = facts
        written = self.path.with_suffix(".part")
        text = json.dumps(rounded(self.facts), indent=1)
        # A list of numbers is one line, however long it is.
        text = re.sub(r"\[([^][{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text)
        written.write_text(text + "\n")
        os.replace(written, self.path)

    def has(self, part: str, name: str) -> bool:
        return name in self.facts.get(part, {})


def rounded(value: Any) -> Any:
    """Five significant digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return value


def markdown(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A table; all but the first column to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def machine_line(facts: Facts, part: str) -> str:
    cpu = facts["machine"][part]["cpu"]
    special = [name for name in ("amx", "bf16", "avx512", "avx2", "neon") if cpu["features"].get(name)]
    return f"{cpu['usable_cores']} cores of {cpu['model']} ({', '.join(special[:2])})"
