"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from fpdlib.paper.profiles import PROFILES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(r"\w", line)]


def locked(name):
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return [req for req in LOCK if re.sub(r"[-_.]+", "-", req.name).lower() == normal]


@pytest.mark.parametrize("line", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
def test_every_dependency_is_locked_to_a_version_it_allows(line):
    requirement = Requirement(line)
    pins = locked(requirement.name)
    assert pins, f"{requirement.name} is not in requirements.lock; run `make lock`"
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==" and requirement.specifier.contains(exact.version), str(pin)


def test_the_lock_pins_everything_and_a_matching_torch_pair():
    assert all([s.operator for s in req.specifier] == ["=="] for req in LOCK)
    versions = {name: Version(next(iter(locked(name)[0].specifier)).version) for name in ("torch", "torchvision")}
    assert versions["torchvision"].minor == versions["torch"].minor + 14 or versions["torch"] == Version("2.15.0")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_one_version_of_each_package_for_each_python(python):
    environment = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": "linux",
                   "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
                   "platform_python_implementation": "CPython", "os_name": "posix"}  # fmt: skip
    names = [req.name for req in LOCK if req.marker is None or req.marker.evaluate(environment)]
    assert len(names) == len(set(names)) and "torch" in names


def test_conda_takes_python_and_pip_and_the_rest_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert environment["channels"] == ["conda-forge"] and pip == ["-r requirements.lock", "-e ."]
    assert [re.split("[=<>]", item)[0] for item in conda] == ["python", "pip"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda[0].split("=")[-1] + ".0")


def test_two_commands_and_ci():
    make = (ROOT / "Makefile").read_text()
    for target in ("reproduce", "test", "lab"):
        assert re.search(rf"^{target}: ", make, re.M) and f"make {target}" in (ROOT / "README.md").read_text()
    profiles = re.search(r"^PROFILES := (.*)$", make, re.M)[1].split()
    assert profiles == list(PROFILES)
    assert "requirements.lock" in make and "make test" in (ROOT / ".ci" / "run").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_snakemake_starts_workers_and_then_renders_notebooks():
    command = [Path(sys.executable).parent / "snakemake", "--dry-run", "--forceall", "--nolock", "--cores", "2"]
    run = subprocess.run([*command, "--config", "profile=smoke", "workers=2"], cwd=ROOT, capture_output=True, text=True)
    count = len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert run.returncode == 0, run.stderr
    jobs = dict(re.findall(r"^(worker|notebook)\s+(\d+)$", run.stdout + run.stderr, re.M))
    assert jobs == {"worker": "2", "notebook": str(count)}


def test_imports_run_downwards():
    """The packages' layers, and that none is left out, are in pyproject.toml."""
    found = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0 and "1 kept, 0 broken" in found.stdout, found.stdout


def test_what_the_package_needs_is_packaged(tmp_path):
    """`pip install .` has to work outside the checkout: modules, printed numbers and bundled images."""
    from setuptools import find_packages

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(find_packages(str(ROOT), include=patterns["packages"]["find"]["include"])) >= {
        f"fpdlib.{path.parent.name}" for path in (ROOT / "fpdlib").glob("*/__init__.py")}  # fmt: skip
    for package, globs in patterns["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        data = {path for pattern in globs for path in folder.glob(pattern) if path.is_file()}
        others = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert data == others, sorted(others - data)[:3]


def test_the_linter_sees_every_module():
    """`results` is the name of a package, too, not only of the folder with the evidence."""
    ruff = Path(sys.executable).with_name("ruff")
    seen = subprocess.run([ruff, "check", "--show-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert {str(path) for path in (ROOT / "fpdlib").rglob("*.py")} <= set(seen)
