"""A sealed directory: every file hashed in a manifest, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from churn_assets.errors import BundleCorrupt, one_line
from churn_assets.storage.files import canonical_json, open_file, owner_mark, read_file, sync_directory, sync_tree

MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"  # hashed in the manifest like every file, and no part of the version
FORMAT = 1
_VERSION_DIGITS = 16
_OWN_KEYS = ("format", "version", "files", "sha256")
_ADVICE = "take the bundle from its source again"

_Files = Mapping[str, Mapping[str, object]]


def seal(
    root: Path, write: Callable[[Path], object], about: Mapping[str, object], check: Callable[[Path], object]
) -> Path:
    """Write a directory named by its content under `root`, or find that it is there already.

    `write` fills a temporary directory; `about` goes into the manifest; `check` must accept the sealed directory
    before it gets its name. The same content gives the same version, and a directory that is there stays.
    """
    root.mkdir(parents=True, exist_ok=True)
    scratch = root / f".sealing.{owner_mark()}.tmp"
    scratch.mkdir()
    try:
        scratch.chmod(0o755)  # a narrow umask would lock out a service that runs as another user
        write(scratch)
        files = _hashes(scratch)
        (scratch / MANIFEST).write_bytes(_manifest(about, files))
        target = root / content_version(files)
        if target.exists():
            verify(target)
            return target
        check(scratch)
        sync_tree(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # if it is, another process sealed the same content a moment ago
                raise
            verify(target)
        sync_directory(root)
        return target
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def verify(directory: Path) -> dict[str, Any]:
    """The manifest of a sealed directory whose every byte is as it was written. Raises BundleCorrupt naming the file
    and what differs: changed, missing or extra."""
    path = directory / MANIFEST
    try:
        stored = read_file(path)
        manifest = json.loads(stored)
        listed = {str(name): dict(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleCorrupt(f"{path}: cannot be read ({one_line(error, 120)}), expected a bundle's manifest") from None
    if manifest.get("format") != FORMAT:
        raise BundleCorrupt(f"{path}: format is {manifest.get('format')!r}, expected {FORMAT}; make the bundle again")
    about = {key: value for key, value in manifest.items() if key not in _OWN_KEYS}
    if stored != _manifest(about, listed):
        raise BundleCorrupt(f"{path}: its bytes are not those that were written; {_ADVICE}")
    actual = _hashes(directory)
    for name in sorted(listed.keys() | actual.keys()):
        _compare(directory / name, listed.get(name), actual.get(name))
    return dict(manifest)


def bundle_hash(path: Path) -> str:
    """SHA-256 of the bundle's manifest, which holds that of every other file. Raises BundleCorrupt."""
    try:
        return hashlib.sha256(read_file(path / MANIFEST)).hexdigest()
    except OSError as error:
        raise BundleCorrupt(
            f"{path / MANIFEST}: cannot be read ({error.strerror}), expected a bundle's manifest; "
            "take the bundle from its source again"
        ) from error


def verified_bundle_hash(path: Path) -> str:
    """As `bundle_hash`, of a bundle whose every byte is as it was written. Raises BundleCorrupt."""
    sha256 = bundle_hash(path)
    verify(path)
    return sha256


def content_version(files: _Files) -> str:
    """Hex digits that name the content of `files` without the provenance."""
    digest = hashlib.sha256()
    for name in sorted(files.keys() - {PROVENANCE}):
        digest.update(f"{name}\0{files[name]['sha256']}\n".encode())
    return digest.hexdigest()[:_VERSION_DIGITS]


def _manifest(about: Mapping[str, object], files: _Files) -> bytes:
    """The manifest's bytes; its own digest is in it, so that a change in it is not reported as one of a file."""
    version = content_version(files)
    content = {**about, "format": FORMAT, "version": version, "files": files}
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    return canonical_json({**content, "sha256": digest})


def _compare(path: Path, listed: Mapping[str, object] | None, actual: Mapping[str, object] | None) -> None:
    if actual is None:
        raise BundleCorrupt(f"{path}: is missing, the manifest lists it; {_ADVICE}")
    if listed is None:
        raise BundleCorrupt(f"{path}: is not in the manifest, expected only the files listed there; {_ADVICE}")
    if listed.get("bytes") != actual["bytes"]:
        raise BundleCorrupt(f"{path}: has {actual['bytes']} bytes, the manifest says {listed.get('bytes')}; {_ADVICE}")
    if listed.get("sha256") != actual["sha256"]:
        short = [str(entry.get("sha256"))[:12] for entry in (actual, listed)]
        raise BundleCorrupt(f"{path}: sha256 is {short[0]}..., the manifest says {short[1]}...; {_ADVICE}")


def _hashes(directory: Path) -> dict[str, dict[str, object]]:
    files = sorted(path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    names = [path.relative_to(directory).as_posix() for path in files]
    return {name: _entry(path) for name, path in zip(names, files, strict=True) if name != MANIFEST}


def _entry(path: Path) -> dict[str, object]:
    try:
        with open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}
    except OSError as error:
        raise BundleCorrupt(f"{path}: cannot be read ({one_line(error, 120)}); {_ADVICE}") from None
