"""Tables of measured figures: printed, and written down with what one must know to measure them again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
Row = Mapping[str, Any]


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows as a Markdown table; the columns are the keys of the first row."""
    print("\n".join(_table(rows)))


def _table(rows: Sequence[Row]) -> list[str]:
    columns = list(rows[0])
    cells = [columns, *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def record(name: str, rows: Sequence[Row], *, device: str | None = None, packages: Sequence[str] = ()) -> Path:
    """Writes `results/<name>.json`, replacing the last one of this name.

    Args:
        name: Of the benchmark; add the device where a figure is kept per device ("trainer_h200").
        rows: The figures.
        device: Name of the accelerator; the processor by default.
        packages: Distributions whose versions matter.
    """
    content = {
        "benchmark": name,
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": device or _processor(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in packages},
        "rows": list(rows),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path


def write_page(name: str, title: str, about: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes `results/<name>.md`: the command, what was compared, and the table.

    Args:
        name: Of the benchmark.
        title: What was compared with what.
        about: Lines that say how.
        rows: The figures; the columns are the keys of the first row.
    """
    lines = [f"# {title}", "", f"Command: `python {' '.join(sys.orig_argv[1:])}` ({os.cpu_count()} CPU cores).", *about]
    (RESULTS / f"{name}.md").write_text("\n".join([*lines, "", *_table(rows), ""]), encoding="utf-8")


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    """The commit that was measured, marked where the working tree differed from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, cwd=RESULTS.parent
    )
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
