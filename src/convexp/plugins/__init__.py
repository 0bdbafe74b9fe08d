"""How backends and configurations are found.

===============  =====================================================================
`registry`       which backends are installed (no import), and loading the chosen one
`mixing`         the tables of a run: a backend, with single ops taken from others,
                 for all layers or for one
`guard`          a look at what a backend's functions return
`shadow`         another backend beside some steps of a training
`survey`         what each installed backend brings
`search_path`    Hydra's side: an option of ``backend=`` for each backend, and the
                 YAML packages of other distributions
`naive`, `fast`  the built-in tables, registered like everybody's
===============  =====================================================================

A distribution takes part by entry points, and there is nothing else to learn:

- group ``convexp.backends``: ``mine = "my_package.ops:ops"``, an `convexp.ops.Ops` value; a
  function ``build_info() -> dict`` in the same module tells each run how it was built;
- group ``convexp.configs``: ``mine = "my_package.conf"``, a package of YAML laid out like
  ``conf/``.
"""

from convexp.plugins.mixing import Selection, select
from convexp.plugins.registry import AUTO, Backend, catalog, load

__all__ = ["AUTO", "Backend", "Selection", "catalog", "load", "select"]
