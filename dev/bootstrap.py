"""Make ``.venv/`` from a lock file, where only Python and make need be installed.

``bootstrap.py run`` installs what ``make run`` needs (requirements-local.lock), ``bootstrap.py``
all that a checkout needs (requirements-dev.lock); an environment with all of it serves both. Runs
before anything is installed, so it uses the standard library alone. What was made is written into
``.venv/.made`` last; without that file the next call begins again.
"""

from __future__ import annotations

import os
import re
import sys

try:
    import contextlib
    import fcntl
    import hashlib
    import shutil
    import signal
    import subprocess
    import tempfile
    import time
    from pathlib import Path
except ModuleNotFoundError as missing:  # Debian's python3-minimal
    sys.exit(
        f"headgate: {sys.executable} has no {missing.name}: it is a part of Python only; install "
        "the whole of it (Debian, Ubuntu: apt-get install python3)"
    )

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MADE = VENV / ".made"
LOCKS = {"run": ROOT / "requirements-local.lock", "all": ROOT / "requirements-dev.lock"}
"""What to install for whom; each holds all of the one before it."""
SOURCES = ("pyftpdlib",)
"""Packages of pure Python that have no wheel."""
DESCRIPTION = (ROOT / "setup.cfg", ROOT / "pyproject.toml")
OLDEST = (3, 11)
ADVICE = "install it yourself (apt-get install python3-venv), then call make again"
WHEELS = "usr/share/python-wheels"  # where Debian's python3-pip-whl puts pip


class Failed(Exception):
    """The environment cannot be made; one sentence says why and what to do."""


def say(text: str) -> None:
    print(f"headgate: {text}", file=sys.stderr, flush=True)


def refusal(version: tuple[int, ...], command: str) -> str:
    """Why this Python cannot be used; empty when it can."""
    if version >= OLDEST:
        return ""
    return (
        f"{command} is Python {version[0]}.{version[1]}, and Headgate needs "
        f"{OLDEST[0]}.{OLDEST[1]} or newer; where one is installed, name it: "
        f"make PYTHON=/usr/bin/python{OLDEST[0]}.{OLDEST[1]}"
    )


def wanted(lock: Path) -> str:
    """What a finished environment says of itself: where it is, its Python, what it was made of."""
    digest = hashlib.sha256()
    for path in (lock, *DESCRIPTION):
        digest.update(path.read_bytes())
    return f"{VENV}\n{PYTHON.resolve()}\n{digest.hexdigest()}\n"


def made() -> str:
    """What was made; empty where nothing was, or not to its end."""
    return MADE.read_text() if PYTHON.exists() and MADE.exists() else ""


def run(
    command: list[str], folder: str | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to its end, its output kept for the sentence that a failure needs."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def found_pip(venv: Path) -> list[str]:
    """A pip for the environment that is there already: its own, or this Python's; or nothing."""
    python = str(venv / "bin" / "python")
    own = [python, "-I", "-m", "pip"]
    if run([*own, "--version"]).returncode == 0:
        return own
    host = [sys.executable, "-m", "pip"]
    version = re.match(r"pip (\d+)\.(\d+)", run([*host, "--version"]).stdout)
    if version and (int(version[1]), int(version[2])) >= (22, 3):  # the first with --python
        return [*host, "--python", python]
    return []


def make_venv(venv: Path, scratch: Path) -> list[str]:
    """An empty environment; returns the command that is pip for it."""
    shutil.rmtree(venv, ignore_errors=True)
    shown = f"{venv.name}/" if venv == VENV else str(venv)
    say(f"making {shown} with Python {sys.version.split()[0]}")
    if run([sys.executable, "-m", "venv", str(venv)]).returncode == 0:
        return found_pip(venv)
    shutil.rmtree(venv, ignore_errors=True)
    bare = run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    if bare.returncode != 0:
        raise Failed(
            f"{sys.executable} -m venv fails: {last_line(bare.stdout + bare.stderr)}; install "
            "the rest of this Python (Debian, Ubuntu: apt-get install python3)"
        )
    if pip := found_pip(venv):
        return pip
    wheels = sorted(Path("/", WHEELS).glob("pip-*.whl"))
    wheel = wheels[-1] if wheels else wheel_from_apt(scratch)
    itself = ["install", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    python = str(venv / "bin" / "python")
    ran = run([python, str(wheel / "pip"), *itself], environment=pip_environment())
    if ran.returncode != 0:
        raise Failed(f"{wheel.name} does not run on this Python: {last_line(ran.stderr)}; {ADVICE}")
    return found_pip(venv)


def wheel_from_apt(scratch: Path) -> Path:
    """Debian's own wheel of pip, fetched and unpacked without root and without installing it."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failed(
            "this Python has neither pip nor ensurepip, and there is no apt-get to fetch them; "
            "install your system's package for Python's venv, then call make again"
        )
    say("this Python has no pip: fetching Debian's python3-pip-whl (not installing it)")
    for folder in ("lists/partial", "cache/archives/partial", "state"):
        (scratch / folder).mkdir(parents=True)
    conf = scratch / "apt.conf"
    conf.write_text(
        f'Dir::State "{scratch}/state"; Dir::State::lists "{scratch}/lists";\n'
        f'Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "{scratch}/cache";\n'
        'APT::Sandbox::User "root";\n'  # as root, do not become a user who cannot write here
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n"
        "#clear APT::Update::Post-Invoke-Success;\n"
    )
    ours = ["apt-get", "-q", "-c", str(conf), "-o", "APT::Update::Error-Mode=any"]
    tried = [run([*ours, "update"], str(scratch))]
    if tried[0].returncode != 0:
        ours = ["apt-get", "-q"]  # this machine's own lists may be enough
    tried.append(run([*ours, "download", "python3-pip-whl"], str(scratch)))
    debs = list(scratch.glob("python3-pip-whl_*.deb"))
    if not debs:
        said = next(last_line(one.stderr).rstrip(".") for one in tried if one.returncode != 0)
        raise Failed(f"apt-get cannot fetch python3-pip-whl: {said}; {ADVICE}")
    out = run(["dpkg-deb", "-x", str(debs[0]), str(scratch / "whl")])
    wheels = list((scratch / "whl" / WHEELS).glob("pip-*.whl"))
    if out.returncode != 0 or not wheels:
        raise Failed(f"python3-pip-whl holds no pip: {last_line(out.stderr)}; {ADVICE}")
    return wheels[0]


def pip_environment() -> dict[str, str]:
    """The owner's own pip settings, less what would send packages elsewhere."""
    unwanted = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "LC_ALL": "C.UTF-8"}


def install(pip: list[str], what: str, arguments: list[str], **variables: str) -> None:
    """Run pip once: a terminal shows the name of what is fetched now; a failure shows pip's
    errors."""
    say(f"installing {what}")
    shown = sys.stderr.isatty()
    errors: list[str] = []
    with subprocess.Popen(
        [*pip, "install", "--progress-bar", "off", "--no-compile", *arguments],
        cwd=ROOT,
        env={**pip_environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.startswith("ERROR:") or (errors and line.startswith(" ")):
                    errors.append(line.rstrip())
                name = re.match(r"\s*Collecting ([\w.-]+)|Installing collected", line)
                if shown and name:
                    print(f"\r\033[K  {name[1] or 'unpacking'}", end="", file=sys.stderr)
                    sys.stderr.flush()
        except BaseException:
            child.kill()
            raise
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    if child.returncode != 0:
        for line in errors[:8]:
            print(f"  pip: {line}", file=sys.stderr)
        if any("hash" in line.lower() for line in errors):
            raise Failed(f"pip did not install {what}: a package is not what the lock names")
        raise Failed(
            f"pip could not install {what}; is the package index within reach? (A proxy or mirror "
            "is set as for any pip: PIP_INDEX_URL, PIP_CERT, HTTPS_PROXY.) Then call make again"
        )


def install_locked(pip: list[str], lock: Path, tools: Path | None = None) -> None:
    """Everything that a lock names, and nothing that it does not, by its hash and as a wheel.

    ``SOURCES`` alone have none: setuptools of ``tools`` builds them."""
    names = re.findall(r"^([a-z0-9][^=]*)==", lock.read_text(), re.MULTILINE)
    locked, variables = ["--require-hashes", "--only-binary", ":all:"], dict[str, str]()
    if tools is not None and (sources := [name for name in SOURCES if name in names]):
        locked += ["--no-binary", ",".join(sources), "--no-build-isolation"]
        variables["PYTHONPATH"] = str(tools)
    locked += ["-r", str(lock)]
    install(pip, f"{len(names)} packages of {lock.name}", locked, **variables)


def build(lock: Path, scratch: Path) -> None:
    """Bring ``.venv/`` to what the lock says: in place where only the lock changed."""
    in_place = made().splitlines()[:2] == wanted(lock).splitlines()[:2]
    with contextlib.suppress(FileNotFoundError):
        MADE.unlink()  # an interrupted call leaves no claim behind
    pip = (found_pip(VENV) if in_place else []) or make_venv(VENV, scratch)
    install_locked(pip, lock)
    itself = ["--no-deps", "--no-index", "--no-build-isolation", "-e", str(ROOT)]
    # A path, not a list of today's packages: a package that is added tomorrow is found too.
    itself += ["--config-settings", "editable_mode=compat"]
    install(pip, "headgate itself", itself)


def main(words: list[str]) -> int:
    what = words[0] if words else "all"
    lock = LOCKS[what]
    started = time.monotonic()
    folder = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # of two makes at once the second waits, and finds it done
    # Only now: what is wanted names the Python behind .venv/bin/python, which the first one makes.
    enough = [wanted(LOCKS[name]) for name in LOCKS if what == "run" or name == what]
    if made() in enough:
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if refused := refusal(sys.version_info[:2], sys.executable):
            raise Failed(refused)
        with tempfile.TemporaryDirectory(prefix="headgate-") as scratch:
            build(lock, Path(scratch))
        MADE.write_text(wanted(lock))
    except Failed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next make begins again")
        return 130
    say(f".venv/ is ready ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
