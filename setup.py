"""The packages and extension modules; everything else about the build is in pyproject.toml."""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")
FOLDERS = [SOURCE / "convexp", SOURCE / "convexp" / "ops" / "fast"]

TELLS = "convexp.ops.fast._kernels"  # how it was built

# CONVEXP_SANITIZE=address builds with a sanitizer of the compiler's; `make sanitize` runs it.
SANITIZE = os.environ.get("CONVEXP_SANITIZE")

# Directives of the whole tree. CONVEXP_DEBUG=1 builds with bounds checks.
DEBUG = os.environ.get("CONVEXP_DEBUG") == "1"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}

# What is written for NumPy's own headers: the memory handler.
NUMPY = {
    "include_dirs": [np.get_include()],
    "define_macros": [
        ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
        ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
    ],
}

OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


def openmp_flags(compiler):
    """Flags ``(compile, link)`` with which this compiler builds OpenMP code; none where it cannot.

    Without OpenMP the kernels build all the same and run on one thread.
    """
    if compiler.compiler_type == "msvc":
        candidates = [(["/openmp"], [])]
    elif sys.platform == "darwin":
        candidates = [(["-Xpreprocessor", "-fopenmp"], ["-lomp"]), (["-fopenmp"], ["-fopenmp"])]
    else:
        candidates = [(["-fopenmp"], ["-fopenmp"])]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(OPENMP_PROBE)
        for compile_flags, link_flags in candidates:
            try:
                objects = compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=compile_flags
                )
                compiler.link_executable(
                    objects, str(Path(folder, "probe")), extra_postargs=link_flags
                )
            except Exception:  # whatever a compiler raises: it has no OpenMP by these flags
                continue
            return compile_flags, link_flags
    print("convexp: the compiler has no OpenMP; the fast backend will run on one thread")
    return [], []


def told_flags(compiler, own):
    """All flags that extensions are compiled with, for `convexp.ops.fast.build_info` to tell.

    Those that name a file or a folder are left out: they say where something was built, not how.
    """
    given = getattr(compiler, "compiler_so", None) or [
        "",
        *getattr(compiler, "compile_options", ()),
    ]
    words = [*given[1:], *own, *(["boundscheck"] if DEBUG else [])]
    return " ".join(word for word in words if not {"/", "\\"} & set(word[1:]))


class BuildExt(build_ext):
    """build_ext that adds the OpenMP flags of the compiler at hand."""

    def build_extensions(self):
        """Build them all with the flags that the compiler, known only now, understands."""
        compile_flags, link_flags = openmp_flags(self.compiler)
        # A square root that need not set errno is one instruction, of a vector too.
        gcc_alike = self.compiler.compiler_type != "msvc"
        optimize = ["-O3", "-fno-math-errno"] if gcc_alike else ["/O2"]
        if SANITIZE:
            optimize += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
            link_flags = [*link_flags, f"-fsanitize={SANITIZE}"]
        flags = json.dumps(told_flags(self.compiler, optimize + compile_flags))
        for extension in self.extensions:
            if extension.name == TELLS:
                extension.define_macros.append(("CONVEXP_FLAGS", flags))  # a string of C's
            extension.extra_compile_args += optimize + compile_flags
            extension.extra_link_args += link_flags
        super().build_extensions()


setup(
    packages=[*find_packages("src"), "convexp.conf"],
    ext_modules=cythonize(
        [
            Extension(
                ".".join(path.relative_to(SOURCE).with_suffix("").parts),
                [str(path)],
                depends=[str(header) for header in sorted(folder.glob("*.h"))],
                **NUMPY,
            )
            for folder in FOLDERS
            for path in sorted(folder.glob("*.pyx"))
        ],
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": BuildExt},
)
