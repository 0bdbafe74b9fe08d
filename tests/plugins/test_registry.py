from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from convexp.errors import UserError
from convexp.ops import Ops
from convexp.plugins import catalog, load, registry
from tests.distributions import distribute

PLUGIN = """
from dataclasses import replace
from convexp.plugins import naive
loaded = True
ops = replace(naive.ops)
wrong = "not a table"
"""


def install(folder: Path, distribution: str, entry_points: str, module: str = PLUGIN) -> None:
    """A distribution of version 1.2 with backends."""
    backends = f"[convexp.backends]\n{entry_points}\n"
    distribute(folder, distribution, backends, code=module, version="1.2")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that Python imports from."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_built_in_backends_come_in_by_the_same_door() -> None:
    backends = catalog()
    assert {"naive", "fast"} <= backends.keys()
    assert [b.distribution for b in backends["fast"]] == ["convexp"]
    for name in ("naive", "fast"):
        assert isinstance(load(name), Ops)


def test_another_distribution_is_listed_without_being_imported(site: Path) -> None:
    install(site, "my-kernels", "mine = my_kernels:ops")
    (mine,) = catalog()["mine"]
    assert (mine.distribution, mine.version) == ("my-kernels", "1.2")
    assert "my_kernels" not in sys.modules
    assert isinstance(load("mine"), Ops)
    assert sys.modules["my_kernels"].loaded


def test_an_unknown_name_gets_the_choices() -> None:
    with pytest.raises(UserError, match=r"no backend 'fsat'; did you mean 'fast'\? possible: fast"):
        load("fsat")


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("ops", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere"),
        ("ops", "1 / 0", "ZeroDivisionError: division by zero"),
        ("nothing", PLUGIN, "AttributeError: .*no attribute 'nothing'"),
        ("wrong", PLUGIN, "must be a convexp.ops.Ops, not str"),
    ],
)
def test_a_broken_backend_is_named_and_harms_no_other(
    site: Path, entry: str, module: str, reason: str
) -> None:
    distribution = f"broken-{abs(hash((entry, module)))}"
    target = f"{distribution.replace('-', '_')}:{entry}"
    install(site, distribution, f"broken = {target}", module)
    message = rf"backend 'broken' \({distribution} 1.2, entry point {target}\) .*{reason}"
    with pytest.raises(UserError, match=message):
        load("broken")
    assert isinstance(load("naive"), Ops)


def test_a_name_claimed_twice_is_refused_by_both_names(site: Path) -> None:
    install(site, "one-kernels", "same = one_kernels:ops")
    install(site, "two-kernels", "same = two_kernels:ops")
    with pytest.raises(UserError, match=r"'same' is claimed twice, by .*one-kernels.*two-kernels"):
        load("same")
    assert isinstance(load("naive"), Ops)


def test_a_distribution_found_twice_is_one_claimant(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = [e for e in registry.entry_points(group=registry.GROUP) if e.name == "naive"]
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry, entry])
    assert isinstance(load("naive"), Ops)
    other = EntryPoint("naive", "elsewhere:ops", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry, other])
    with pytest.raises(UserError, match="claimed twice"):
        load("naive")
