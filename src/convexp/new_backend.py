"""A new package with a backend of its own, from the template in ``templates/backend/``."""

from __future__ import annotations

import keyword
import re
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import convexp
from convexp.errors import UserError
from convexp.plugins.registry import catalog

FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "gitignore.tmpl": ".gitignore",
    "module.py.tmpl": "src/$module/__init__.py",
    "test_conformance.py.tmpl": "tests/test_conformance.py",
}
"""Where each file of the template goes in the package."""

# What PEP 508 takes for the name of a distribution.
NAME = re.compile(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII)
# An entry point, a choice of Hydra's and a word on the command line, without quotation marks.
BACKEND = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


def create(name: str, folder: Path, *, backend: str | None = None) -> Path:
    """Write a complete package with one op, its tests and its entry point.

    All of it is written, or nothing.

    Args:
        name: of the distribution; its module is called the same, in lower case and with ``_`` for
            what a module's name cannot hold.
        folder: an existing one, in which the package's own is made, called ``name``.
        backend: the name under which convexp finds it; None for the module's.

    Returns:
        The package's folder.

    Raises:
        UserError: a name cannot be used or is taken, or the folder cannot be written.
    """
    module = module_name(name)
    backend = backend_name(module if backend is None else backend)
    target = folder / name
    if target.exists():
        raise UserError(f"there is already something at {target}; choose another name or folder")
    values = {
        "name": name,
        "module": module,
        "class": "".join(part.capitalize() for part in module.split("_")),
        "backend": backend,
        "version": convexp.__version__,
    }
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
            # The folder of tempfile itself is readable by its owner alone.
            written = Path(temporary, name)
            for template, place in FILES.items():
                path = written / Template(place).substitute(values)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_template(template).substitute(values), encoding="utf-8")
            written.rename(target)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"the package cannot be written into {folder}: {reason}") from error
    return target


def module_name(name: str) -> str:
    """The module of a distribution of that name.

    Raises:
        UserError: no distribution or no module can have that name, or a module has it already.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"'{name}' cannot be the name of a package: it takes letters, digits and, between "
            "them, '-', '_' and '.'"
        )
    module = re.sub(r"[-_.]+", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise UserError(
            f"'{name}' cannot be the name of a package: Python takes no module called '{module}'"
        )
    spec = find_spec(module)
    # A folder without code, in which the command is started, passes for a package without origin.
    if spec is not None and spec.origin is not None:
        raise UserError(
            f"'{name}' cannot be the name of the package: there is already a module '{module}' "
            f"({spec.origin}); choose another name"
        )
    return module


def backend_name(name: str) -> str:
    """The name, if a new backend can have it.

    Raises:
        UserError: it cannot, or an installed backend has it.
    """
    if not BACKEND.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"'{name}' cannot be the name of a backend: it takes lower-case letters, digits and "
            "'_', begins with a letter and is no keyword of Python's; --backend sets it"
        )
    if name in (installed := catalog()):
        raise UserError(
            f"there is already an installed {installed[name][0]}; --backend sets another name"
        )
    return name


def _template(name: str) -> Template:
    source = files("convexp") / "templates" / "backend" / name
    return Template(source.read_text(encoding="utf-8"))
