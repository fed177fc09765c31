"""Whether tests notice when a guard is gone: one line of the code is changed, and they run.

Run by `make mutants`. `guards.toml` lists the guards; each mutation is made in a copy of the tree,
never in the tree itself. Exits 1 if a mutant survives or a line of the list no longer fits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("guards.toml")
# One copy of the tree each; what runs besides leaves no room for more.
COPIES = max(1, (os.cpu_count() or 2))
# Seconds for a mutant's test; one that hangs counts as noticed.
TIMEOUT = 120
_COPIED = ("shared", "functions", "infra", "tests", "docs")
_FILES = (
    "pyproject.toml",
    "template.yaml",
    "host.json",
    "function_app.py",
    "Makefile",
    "README.md",
)
# pytest's exit code when tests ran and failed; 2 to 5 mean that none did.
_FAILED = 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard without effect. `old` stands exactly once in `file`; `test` must fail without it:
    a file, or a file and a name.
    """

    guard: str
    file: str
    old: str
    new: str
    test: str

    def fits(self, root: Path) -> bool:
        """Whether the text to change is there, once."""
        return (root / self.file).read_text().count(self.old) == 1


def mutants() -> list[Mutant]:
    """Every entry of the list."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]


def ended(root: Path, *tests: str, timeout: float | None = None) -> tuple[int, str]:
    """Pytest's exit code on these tests in a copy of the tree, and what it printed."""
    path = os.pathsep.join(str(root / part) for part in ("shared", "infra/local", "."))
    done = subprocess.run(  # noqa: S603 -- our own interpreter on our own tests
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "mutants",
        },
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout


def is_killed(root: Path, mutant: Mutant) -> bool:
    """Whether the tests fail without the guard; the copy is as before afterwards."""
    path = root / mutant.file
    whole = path.read_text()
    path.write_text(whole.replace(mutant.old, mutant.new))
    try:
        code, _ = ended(root, "-x", mutant.test, timeout=TIMEOUT)
        return code == _FAILED
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(whole)


def copy_tree(folder: Path) -> Path:
    """What the tests need of the tree."""
    for name in _COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, folder / name)
    # The Lambda emulator, without which no function runs; nothing writes there.
    (folder / ".tools").symlink_to(ROOT / ".tools")
    return folder


def survivors(listed: list[Mutant], folders: Iterable[Path], bar: Progress) -> list[str]:
    """What the tests did not notice, and tests that fail without any mutation."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for folder in folders:
        copies.put(copy_tree(folder))
    task = bar.add_task("mutants", total=1 + len(listed))

    def on_a_copy(mutant: Mutant | None) -> str:
        root = copies.get()
        try:
            if mutant is None:
                code, said = ended(root, *sorted({each.test for each in listed}))
                return f"fails unmutated:\n{said}" if code else ""
            return "" if is_killed(root, mutant) else f"survived: {mutant.guard} ({mutant.file})"
        finally:
            copies.put(root)
            bar.advance(task)

    with ThreadPoolExecutor(COPIES) as pool:
        return [said for said in pool.map(on_a_copy, [None, *listed]) if said]


def main() -> int:
    """The number of guards, and those that nobody watches."""
    console = Console()
    listed = mutants()
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in listed if wanted in mutant.guard]
    stale = [mutant.guard for mutant in chosen if not mutant.fits(ROOT)]
    with tempfile.TemporaryDirectory() as temporary, Progress(console=console) as bar:
        folders = [Path(temporary) / str(number) for number in range(COPIES)]
        for folder in folders:
            folder.mkdir()
        fitting = [mutant for mutant in chosen if mutant.guard not in stale]
        failures = survivors(fitting, folders, bar)
    for line in [*(f"no longer in the code: {guard}" for guard in stale), *failures]:
        console.print(f"[red]{line}[/red]", highlight=False, soft_wrap=True)
    killed = len(fitting) - sum(line.startswith("survived") for line in failures)
    console.print(f"{killed} of {len(chosen)} mutants killed")
    return 1 if stale or failures else 0


if __name__ == "__main__":
    sys.exit(main())
