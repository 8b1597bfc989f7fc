"""Making .venv/: from the lock alone, again after an interruption, with a sentence when it cannot.

Each test has a project of its own, whose lock names packages that lie beside it; none is fetched.
"""

import fcntl
import hashlib
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.wait import wait_for_exit, wait_until

pytestmark = pytest.mark.slow  # minutes of pip, though nothing is fetched

BACKEND = """\
import zipfile

def _wheel(folder):
    name = "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as file:
        file.writestr("thing.pth", "")
        file.writestr("thing-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: thing\\nVersion: 1\\n")
        file.writestr("thing-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr("thing-1.dist-info/RECORD", "")
    return name

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory)
"""  # noqa: E501


class Project:
    """A folder as a clone is, small."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        (self.folder / "dev").mkdir(parents=True)
        script = (ROOT / "dev" / "bootstrap.py").read_text()
        (self.folder / "dev" / "bootstrap.py").write_text(script)
        (self.folder / "setup.cfg").write_text("[metadata]\nname = thing\nversion = 1\n")
        (self.folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (self.folder / "backend.py").write_text(BACKEND)
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.lock("needed", lock="requirements-local.lock")
        self.lock("needed", "dependency")

    def lock(self, *names: str, lock: str = "requirements-dev.lock") -> None:
        """Make a lock name these packages, and wheels of them."""
        lines = []
        for name in names:
            wheel = self.wheels / f"{name}-1-py3-none-any.whl"
            about = f"{name}-1.dist-info/"
            with zipfile.ZipFile(wheel, "w") as file:
                file.writestr(f"{name}.py", "")
                file.writestr(
                    about + "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
                )
                file.writestr(
                    about + "WHEEL",
                    "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                )
                file.writestr(
                    about + "entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n"
                )
                file.writestr(about + "RECORD", "")
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lines.append(f"{name}==1 \\\n    --hash=sha256:{digest}\n")
        (self.folder / lock).write_text("".join(lines))

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        own = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        return {**kept, **own, **more}

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "dev/bootstrap.py", *words],
            cwd=self.folder,
            env=self.environment(**more),
            stderr=subprocess.PIPE,
            text=True,
        )

    def make(self, *words: str, code: int = 0, **more: str) -> str:
        with self.start(*words, **more) as child:
            said = wait_for_exit(child, seconds=240)[1]
        assert child.returncode == code, said
        return said

    def has(self, module: str) -> bool:
        python = self.folder / ".venv" / "bin" / "python"
        ran = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        return ran.returncode == 0


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel says that the process waits for a file lock (proc_locks(5))."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any(line.split()[1] == "->" and str(pid) in line.split() for line in lines)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_lock_is_installed_once_and_followed(project: Project, tmp_path: Path) -> None:
    elsewhere = {
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_USER": "1",
        "PYTHONPATH": "/absent",
    }
    folder = os.open(project.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with project.start(**elsewhere) as first, project.start(**elsewhere) as second:
        for child in (first, second):
            wait_until(lambda: waits_for_a_lock(child.pid), "it waits", process=child)  # noqa: B023
        os.close(folder)
        said = wait_for_exit(first, seconds=240)[1] + wait_for_exit(second, seconds=240)[1]
    assert (first.returncode, second.returncode) == (0, 0)
    assert said.count("ready") == 1, "of two at once the second finds it done"
    assert len(said.splitlines()) <= 5
    assert project.has("dependency")
    assert not (tmp_path / "elsewhere").exists()
    assert project.make() == ""

    project.lock("dependency", "another")
    assert "making .venv/" not in project.make(), "a changed lock is followed in place"
    assert project.has("another")

    project.folder = project.folder.rename(project.folder.with_name("moved"))
    assert "making .venv/" in project.make(), "scripts name the folder they were made in"
    script = project.folder / ".venv" / "bin" / "dependency"
    assert script.read_text().startswith(f"#!{project.folder}")


def test_what_runs_is_installed_first_and_the_rest_when_it_is_needed(project: Project) -> None:
    assert "1 packages of requirements-local.lock" in project.make("run")
    assert project.has("needed") and not project.has("dependency")
    assert project.make("run") == ""
    assert "making .venv/" not in project.make(), "the rest is added in place"
    assert project.has("needed") and project.has("dependency")
    assert project.make("run") == "", "an environment with all of it runs it as well"
    assert project.make() == ""


def test_what_the_lock_does_not_name_by_its_hash_is_refused(project: Project) -> None:
    project.lock("dependency", "another")
    lock = project.folder / "requirements-dev.lock"
    both = lock.read_text()
    first = both[: both.index("another")]
    lock.write_text(first)
    project.make()
    for wrong in (re.sub(r"[0-9a-f]{8}\n$", "00000000\n", both), "dependency==1\nanother==1\n"):
        lock.write_text(wrong)
        said = project.make(code=1)
        assert "not what the lock names" in said
        assert "Traceback" not in said
        assert not project.has("another")
    lock.write_text(first)
    assert "ready" in project.make(), "a failed call leaves no claim to be what it was before"
    lock.write_text(both.replace("another==1", "absent==1"))
    assert "is the package index within reach?" in project.make(code=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_after_an_interruption_the_next_call_begins_again(
    project: Project, number: signal.Signals
) -> None:
    with project.start() as child:
        wait_until(
            (project.folder / ".venv" / "bin" / "python").exists, ".venv/ is begun", process=child
        )
        child.send_signal(number)
        said = wait_for_exit(child)[1]
    assert child.returncode != 0
    assert "Traceback" not in said
    assert not (project.folder / ".venv" / ".made").exists()
    project.make()
    assert project.has("dependency")


def without_ensurepip(folder: Path) -> dict[str, str]:
    """As Debian's Python without python3-venv and python3-pip: neither can be imported."""
    folder.mkdir()
    block = "raise ModuleNotFoundError(__name__)\n"
    for name in ("ensurepip", "pip"):
        (folder / f"{name}.py").write_text(block)
    return {"PYTHONPATH": str(folder), "PATH": str(folder)}


def test_without_pip_and_without_apt_it_says_what_to_install(
    project: Project, tmp_path: Path
) -> None:
    if list(Path("/usr/share/python-wheels").glob("pip-*.whl")):
        pytest.skip("Debian's wheel of pip is installed here, so pip is found")
    said = project.make(code=1, **without_ensurepip(tmp_path / "poor"))
    assert "install your system's package for Python's venv" in said


def test_debian_s_wheel_of_pip_is_used_where_it_is_installed(
    project: Project, tmp_path: Path
) -> None:
    if not list(Path("/usr/share/python-wheels").glob("pip-*.whl")):
        pytest.skip("Debian's python3-pip-whl is not installed here")
    poor = without_ensurepip(tmp_path / "poor")
    project.make(**poor)
    assert project.has("dependency")


def test_an_old_python_is_refused_with_a_sentence(project: Project) -> None:
    code = (
        "import runpy, sys; sys.version_info = (3, 10, 4); sys.argv = ['dev/bootstrap.py'];"
        "runpy.run_path('dev/bootstrap.py', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "is Python 3.10, and Headgate needs 3.11 or newer" in ran.stderr
    assert not (project.folder / ".venv").exists()
