"""What the result of a training depends on beside data and parameters: code, libraries, processor, threads."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import msgspec

# The libraries that read, transform and fit; xgboost under either name.
LIBRARIES = ("churn-assets", "numpy", "pyarrow", "scikit-learn", "scipy", "torch", "xgboost", "xgboost-cpu")
# Instructions that numeric libraries choose their code by; the order of their sums follows.
_INSTRUCTIONS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "amx_tile", "asimd", "sve", "sve2"),
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_NAMES = {"code": "the code of this package", "python": "Python", "machine": "machine", "cpu": "processor"}


class Environment(msgspec.Struct, frozen=True):
    """`code` is a digest of this package's files; `libraries` are versions by name; `cpu` are the instructions of the
    processor that numeric libraries use; `threads` are the variables that limit threads, as far as they are set."""

    code: str
    python: str
    libraries: dict[str, str]
    machine: str
    cpu: list[str]
    threads: dict[str, str]

    @classmethod
    def here(cls) -> Environment:
        """That of this process."""
        return cls(
            code=package_digest(),
            python=sys.version.split()[0],
            libraries=library_versions(),
            machine=platform.machine(),
            cpu=_instructions(),
            threads={name: os.environ[name] for name in _THREADS if os.environ.get(name)},
        )

    def differences(self, now: Environment) -> list[str]:
        """What another environment has otherwise, a clause each: what was, and what is."""
        clauses = []
        for name in sorted(self.libraries.keys() | now.libraries.keys()):
            before, after = self.libraries.get(name, "not installed"), now.libraries.get(name, "not installed")
            clauses += [f"{name} was {before}, is {after}"] if before != after else []
        for field in ("python", "machine"):
            before, after = getattr(self, field), getattr(now, field)
            clauses += [f"{_NAMES[field]} was {before}, is {after}"] if before != after else []
        if self.code != now.code:
            clauses.append(f"{_NAMES['code']} was {self.code[:12]}, is {now.code[:12]}")
        if lost := [name for name in self.cpu if name not in now.cpu]:
            clauses.append(f"{_NAMES['cpu']} lacks {', '.join(lost)}")
        if more := [name for name in now.cpu if name not in self.cpu]:
            clauses.append(f"{_NAMES['cpu']} has {', '.join(more)} as well")
        for name in sorted(self.threads.keys() | now.threads.keys()):
            before, after = self.threads.get(name, "not set"), now.threads.get(name, "not set")
            clauses += [f"{name} was {before}, is {after}"] if before != after else []
        return clauses


def library_versions() -> dict[str, str]:
    """Versions of those of `LIBRARIES` that are installed."""
    return {name: library.version for name in LIBRARIES for library in distributions(name=name)}


@cache
def package_digest() -> str:
    """SHA-256 (hex) of the names and contents of this package's files, without what Python compiles."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _instructions() -> list[str]:
    """Of `_INSTRUCTIONS` those of this processor; where the system does not list them, its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [name for name in [platform.processor()] if name]
    listed = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return [name for name in _INSTRUCTIONS if name in listed]
