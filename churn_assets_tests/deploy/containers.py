"""Images of deploy/Dockerfile, built and run without a container engine.

buildah builds them with chroot isolation, on a Debian that mmdebstrap makes from the mirrors of this machine. A
container is the image's file system, read-only, in namespaces of its own for mounts, processes and its host name,
with the account, environment, working directory and command that the image names. It shares the network.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from churn_assets_tests.deploy.tools import TOOLS, cannot_run, need, need_root, output
from churn_assets_tests.strategies import ROOT

ACCOUNT = 10001
MOMENT = "1764547200"  # SOURCE_DATE_EPOCH
BASE = "localhost/churn-base"
# What python:3.11-slim-bookworm has beyond Debian's essential packages, as far as anything here uses it.
BASE_PACKAGES = ("ca-certificates", "libstdc++6", "python3.11", "python3.11-venv", "python3-minimal")

# In the new namespaces: this machine's hosts, as engines give them, the root read-only, /tmp and the mounts
# (outside:inside) writable, then the command.
_ENTER = """
set -e
hostname "$NAME"
mount --make-rprivate /
mount --bind "$IMAGE" "$IMAGE"
touch "$IMAGE/etc/hosts"
mount --bind /etc/hosts "$IMAGE/etc/hosts"
mount -o remount,bind,ro "$IMAGE"
mount -t proc proc "$IMAGE/proc"
mount --rbind /dev "$IMAGE/dev"
mount -t tmpfs -o mode=1777 tmpfs "$IMAGE/tmp"
for pair in $MOUNTS; do mount --bind "${pair%%:*}" "$IMAGE${pair#*:}"; done
exec chroot --userspec="$ACCOUNT:$ACCOUNT" --groups= "$IMAGE" /usr/bin/env -i -C "$WORKING" "$@"
"""


@dataclass(frozen=True)
class Container:
    """A process of an image; `log` is what it has printed."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Image:
    """An image in the storage of `builder`, mounted at `root`."""

    builder: Builder
    name: str
    root: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        inspected = json.loads(self.builder.buildah("inspect", "--type", "image", self.name))
        return inspected["Docker"]["config"]

    @cached_property
    def layers(self) -> list[str]:
        inspected = json.loads(self.builder.buildah("inspect", "--type", "image", self.name))
        return inspected["OCIv1"]["rootfs"]["diff_ids"]

    def _command(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
        variables = {**dict(entry.split("=", 1) for entry in self.config["Env"]), **environment}
        enter = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
        return [*enter, *(f"{name}={value}" for name, value in variables.items()), *arguments]

    def _outside(self, home: Path, mounts: Mapping[Path, str]) -> dict[str, str]:
        pairs = " ".join(f"{outside}:{inside}" for outside, inside in {home: "/var/lib/churn", **mounts}.items())
        own = {"NAME": self.name, "IMAGE": str(self.root), "MOUNTS": pairs, "ACCOUNT": str(ACCOUNT)}
        return {**os.environ, **own, "WORKING": self.config["WorkingDir"]}

    def run(
        self, home: Path, *arguments: str, limit_s: int = 300, mounts: Mapping[Path, str] = {}, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, standard error with standard output."""
        return subprocess.run(
            self._command(arguments, environment),
            env=self._outside(home, mounts), timeout=limit_s, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def output(self, home: Path, *arguments: str, **options: Any) -> str:
        """What a command prints, run as by `run`; it must not fail."""
        done = self.run(home, *arguments, **options)
        assert done.returncode == 0, f"{shlex.join(arguments)}: exit code {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    @contextmanager
    def running(
        self, home: Path, log_path: Path, command: Sequence[str] = (), **environment: str
    ) -> Iterator[Container]:
        """The image's own command, or another, until the end of the block."""
        arguments = self._command(tuple(command or self.config["Cmd"]), environment)
        with log_path.open("wb") as log:
            process = subprocess.Popen(arguments, env=self._outside(home, {}), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Container(process, log_path)
        finally:
            process.send_signal(signal.SIGKILL)  # the new process namespace ends with it
            process.wait(20)

    def healthy(self, home: Path, **environment: str) -> bool:
        """What the image's health check says of a container on the same ports."""
        kind, *arguments = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        variables: dict[str, Any] = dict(environment)
        return self.run(home, *arguments, **variables).returncode == 0


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own below `folder`."""

    folder: Path
    driver: str

    def buildah(self, *arguments: str | Path, limit_s: int = 900) -> str:
        own: list[str | Path] = [
            "--root",
            self.folder / "storage",
            "--runroot",
            self.folder / "run",
            "--storage-driver",
            self.driver,
        ]
        return output(need("buildah"), *own, *arguments, limit_s=limit_s)

    def build(self, target: str, *options: str, name: str | None = None) -> Image:
        """Build a target; with the same Dockerfile, context and arguments as `docker build` would."""
        name = name or f"churn-{target}"
        self.buildah(
            "bud", "--isolation", "chroot", "--format", "docker", "--quiet", "--timestamp", MOMENT,
            "--build-arg", f"BASE={BASE}", "--build-arg", f"SOURCE_DATE_EPOCH={MOMENT}",
            "--ignorefile", ROOT / "deploy" / "Dockerfile.dockerignore", "--file", ROOT / "deploy" / "Dockerfile",
            *self._registry(), *options, "--target", target, "--tag", name, ROOT,
        )  # fmt: skip
        return Image(self, name, Path(self.buildah("mount", self.buildah("from", name).strip()).strip()))

    def _registry(self) -> list[str]:
        """How this machine reaches its registry of Python packages: a secret of the build, and the files it names."""
        listed = subprocess.run([need("pip3"), "config", "list"], capture_output=True, text=True, check=True).stdout
        values = dict(line.partition("=")[::2] for line in listed.splitlines())
        settings, mounts = ["[global]"], []
        for name in ("cert", "find-links", "index-url", "extra-index-url"):
            value = values.get(f":env:.{name}") or values.get(f"global.{name}")
            if value is None:
                continue
            parts = value.strip("'\"").replace("\\n", " ").split()
            places = [Path(part.removeprefix("file://")) for part in parts if part.startswith(("/", "file:///"))]
            for place in filter(Path.exists, places):
                folder = place.parent if place.name == "simple" else place  # an index has its files beside it
                mounts.append(f"--volume={folder}:{folder}:ro")
            settings.append(f"{name} = {' '.join(parts)}")
        path = self.folder / "pip.conf"
        path.write_text("\n".join(settings) + "\n")
        return [f"--secret=id=pip,src={path}", *dict.fromkeys(mounts)]

    def make_base(self) -> None:
        """Import a small Debian as the base; an archive of the same packages and day is used again."""
        archive = TOOLS / "base.tar"
        if not archive.exists():
            sources = [path for path in (Path("/etc/apt/sources.list.d/debian.sources"),) if path.exists()]
            packages = f"--include={','.join(BASE_PACKAGES)}"
            options = ["--variant=essential", packages, "--aptopt=Acquire::Languages none"]
            part = archive.with_name("base.part.tar")
            environment = {"SOURCE_DATE_EPOCH": MOMENT}
            output(need("mmdebstrap"), *options, "bookworm", part, *sources, environment=environment, limit_s=400)
            part.rename(archive)
        context = self.folder / "base"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        shutil.copy(archive, context / "base.tar")
        self.buildah("bud", "--isolation", "chroot", "--quiet", "--timestamp", MOMENT, "--tag", BASE, context)
        shutil.rmtree(context)


@contextmanager
def builder(folder: Path) -> Iterator[Builder]:
    """A builder with its base; its storage, some gigabytes, is removed at the end."""
    need_root("building an image without a daemon")
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        cannot_run("the base image is made from this machine's Debian mirrors, and this is no Debian")
    need("mmdebstrap")
    made = Builder(folder, _driver(folder))
    try:
        made.make_base()
        yield made
    finally:
        made.buildah("rm", "--all")
        made.buildah("rmi", "--all", "--force")
        shutil.rmtree(folder, ignore_errors=True)


def _driver(folder: Path) -> str:
    """overlay where the kernel lets root use it, else vfs, which copies each layer."""
    lower, upper, work, merged = (folder / "probe" / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        return "vfs"
    subprocess.run(["umount", str(merged)], check=True)
    return "overlay"
