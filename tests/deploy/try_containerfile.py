"""Carry out deploy/Containerfile without a container engine, and try what it makes.

    python tests/deploy/try_containerfile.py [--lock cuda] [--base DIR] [--build-only]

Needs root on Debian, debootstrap and a package index. An empty Debian with Python stands in for
BASE. Each RUN runs in it with chroot and each COPY copies; the result is started as its USER, with
a read-only root, a /tmp in memory, no network but the loopback, and its command as process 1.
Prints the sizes of its layers, what it wrote, its memory, and how long start and stop took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from containerfile import Instruction, Stage, read

ROOT = Path(__file__).parents[2]
BUILD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
REQUEST = """
import json, urllib.request as http
body = json.dumps({"prompt": "red apple", "seed": 7}).encode()
address = "http://127.0.0.1:3000/generate"
asked = http.Request(address, body, {"Content-Type": "application/json"})
print(len(http.urlopen(asked, timeout=30).read()))
"""
MOUNTS = """
mount --bind "$0" "$0"
mount -o remount,ro,bind "$0"
mount -t proc proc "$0/proc"
mount -t tmpfs -o size=64m,mode=1777 tmp "$0/tmp"
mount -t tmpfs -o size=64m,mode=1777 shm "$0/dev/shm"
ip link set lo up
exec chroot --userspec="$1" "$0" "${@:2}"
"""


def main() -> None:
    """Build, then run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lock", default="serve")
    options.add_argument("--base", type=Path, help="a root file system; made anew if absent")
    options.add_argument("--build-only", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        base = given.base or make_base(Path(place) / "image")
        stages = read(ROOT / "deploy" / "Containerfile", LOCK=given.lock)
        roots: dict[str, Path] = {"${BASE}": base, stages["base"].source: base}
        for stage in stages.values():
            roots[stage.name] = Path(place) / stage.name
            build(stage, roots)
        if not given.build_only:
            run(stages["service"], roots["service"])


def make_base(folder: Path) -> Path:
    """Make an empty Debian with Python, in place of an image."""
    subprocess.run([Path(__file__).with_name("empty_root.sh"), folder], check=True)
    return folder


def build(stage: Stage, roots: dict[str, Path]) -> None:
    """Carry out a stage's lines, and tell what each added."""
    root = roots[stage.name]
    subprocess.run(["cp", "-a", roots[stage.source], root], check=True)
    workdir = "/"
    for one in stage.instructions:
        before, began = size_mb(root), time.monotonic()
        if one.word == "WORKDIR":
            workdir = one.text
            inside(root, workdir).mkdir(parents=True, exist_ok=True)
        elif one.word == "COPY":
            copy(one, inside(root, workdir), roots.get(one.flags.get("from", ""), ROOT), root)
        elif one.word == "RUN":
            run_line(one, root, workdir)
        if one.word in ("COPY", "RUN"):
            grown, took = size_mb(root) - before, time.monotonic() - began
            print(f"{stage.name}: {one.word} {one.text[:50]}: {grown} MB, {took:.0f} s", flush=True)


def copy(one: Instruction, here: Path, source: Path, root: Path) -> None:
    """Copy files into a folder, or one folder's contents to a path, as COPY does."""
    *files, target = one.parts
    place = inside(root, target) if target.startswith("/") else here / target
    for file in files:
        found = inside(source, file)
        if found.is_dir():
            shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True)
        elif target.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, place / found.name)
        else:
            shutil.copy2(found, place)


def run_line(one: Instruction, root: Path, workdir: str) -> None:
    """Run a shell line inside, with the index that this machine's pip is configured for."""
    command = f"cd {workdir} && {one.text}"
    environment = ["PATH=" + BUILD_PATH, "HOME=/root", "PIP_CERT=" + CERTIFICATES]
    subprocess.run(
        ["chroot", root, "env", "-i", *environment, "/bin/sh", "-c", command], check=True
    )


def run(stage: Stage, root: Path) -> None:
    """Start the service as a container would be, ask, look and stop it."""
    variables = {k: v for one in stage.all("ENV") for k, v in one.pairs().items()}
    environment = ["env", "-i", "--chdir=/tmp", *(f"{k}={v}" for k, v in variables.items())]
    command = [*environment, *stage.last("ENTRYPOINT").parts, *stage.last("CMD").parts]
    user = stage.last("USER").text
    namespaces = ["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
    began = time.monotonic()
    unshared = subprocess.Popen(
        ["unshare", *namespaces, "bash", "-euc", MOUNTS, str(root), user, *command]
    )
    try:
        first = process_one(unshared.pid)
        # chroot's own view of the mounts, which only exist inside
        within = ["nsenter", "--target", str(first), "--mount", "--net", "--pid"]
        within += ["chroot", f"--userspec={user}", str(root), *environment]
        check = stage.last("HEALTHCHECK").parts
        while subprocess.run([*within, *check], capture_output=True, check=False).returncode:
            assert unshared.poll() is None, "the service ended"
            assert time.monotonic() - began < 60, "the service is not healthy after 60 s"
            time.sleep(0.1)
        print(f"healthy after {time.monotonic() - began:.1f} s")
        picture = tell(within, "python", "-c", REQUEST)
        print(f"a picture of {picture} bytes after {time.monotonic() - began:.1f} s")
        time.sleep(8)  # the page is there by then
        print(f"memory of all its processes: {memory_mib(first):.0f} MiB")
        print("written:", tell(within, "find", "/tmp", "-mindepth", "1") or "nothing")
        print("processes:", tell(within, "python", "-c", PROCESSES))
        began = time.monotonic()
        os.kill(first, signal.SIGTERM)
        code = unshared.wait(timeout=30)
        print(f"ended with {code} {time.monotonic() - began:.1f} s after SIGTERM")
        assert code == 0
    finally:
        unshared.kill()


PROCESSES = "import os; print(*(p for p in os.listdir('/proc') if p.isdigit()))"


def tell(within: list[str], *command: str) -> str:
    """Run a command inside and return what it says."""
    done = subprocess.run([*within, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def process_one(unshare: int) -> int:
    """Return this machine's number of the process that is number 1 inside."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])


def memory_mib(first: int) -> float:
    """Sum the memory of a process and all that it started, shared parts counted once."""
    pids, total = [first], 0
    for pid in pids:
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def size_mb(folder: Path) -> int:
    """Measure a folder as `du -sm` does."""
    return int(subprocess.check_output(["du", "-sxm", folder]).split()[0])


def inside(root: Path, path: str) -> Path:
    """Return the place of an absolute path inside a root file system."""
    return root / path.lstrip("/")


if __name__ == "__main__":
    main()
