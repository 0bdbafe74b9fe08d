"""A virtual environment that holds what a test installs and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def command(*arguments: object, folder: Path) -> str:
    """Run a command that must succeed, with nothing of the caller's settings; what it printed."""
    mine = ("CONVEXP", "HYDRA", "MLFLOW", "PYTHONPATH", "PYTEST")
    done = subprocess.run(
        [str(a) for a in arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(mine)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Environment:
    """A new virtual environment in a folder."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.folder = folder
        self.scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")

    def python(self, *arguments: object, folder: Path) -> str:
        """``python ...`` in a folder; what it printed."""
        return command(self.scripts / "python", *arguments, folder=folder)

    def install(self, *requirements: object) -> None:
        """``pip install ...``."""
        self.python("-m", "pip", "install", "-q", *requirements, folder=self.folder)

    def borrow(self, name: str) -> None:
        """Link a distribution of the running environment into this one, and all it requires."""
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(self.python("-c", code, folder=self.folder).strip())
        wanted, known = [name], set[str]()
        while wanted:
            if (name := wanted.pop()) in known:
                continue
            known.add(name)
            try:
                found = distribution(name)
            except PackageNotFoundError:  # one that is required on other systems
                continue
            for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
                if top != "__pycache__" and not (site / top).exists():
                    (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
            requirements = [Requirement(text) for text in found.requires or ()]
            wanted += [r.name for r in requirements if r.marker is None or r.marker.evaluate()]
