"""What the pages of docs/ tell to be typed, typed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_cli import convexp

DOCS = Path(__file__).parents[1] / "docs"


def test_a_network_and_a_layer_of_ones_own(tmp_path: Path) -> None:
    page = (DOCS / "training.md").read_text()
    section = page[page.index("A network or a layer of your own") :]
    code, options = re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.S)[:2]
    (tmp_path / "my_net.py").write_text(code)
    (tmp_path / "options" / "model").mkdir(parents=True)
    (tmp_path / "options" / "model" / "my_net.yaml").write_text(options)
    words = ["--config-dir=options", "model=my_net", "tracking=none"]
    done = convexp(tmp_path, *words, "trainer.epochs=6")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^relu1 +LeakyReLU", done.stdout, re.M)
    found = re.search(r"^test accuracy, of the weights kept +(\S+)$", done.stdout, re.M)
    assert found is not None
    assert float(found[1]) > 0.8
    used = convexp(tmp_path, *words, "task=evaluate", "checkpoint=latest")
    assert used.returncode == 0, used.stderr
