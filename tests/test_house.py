"""The house holds together: pins, commands, floors, what an import costs and what a wheel carries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = canonicalize_name(PROJECT["name"])


def read_pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): pinned for name, pinned in pins}


def declared(*extras: str) -> Iterator[Requirement]:
    """Yield what pyproject.toml asks for, extras that refer to other extras unfolded."""
    for line in [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == OWN:
            yield from declared(*requirement.extras)
        else:
            yield requirement


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Return every distribution these need on this machine, themselves included."""
    todo, seen = list(requirements), set()
    while todo:
        requirement = todo.pop()
        for extra in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), extra)
            if key not in seen:
                seen.add(key)
                needed = map(Requirement, requires(requirement.name) or ())
                todo += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Pins


@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="pinned on Linux, 3.11")
def test_constraints_pin_everything_an_install_needs_at_the_version_installed() -> None:
    installed = {name: version(name).split("+")[0] for name in closure(declared("dev"))}
    assert read_pins().items() >= installed.items()


def test_constraints_are_sorted_and_allowed_by_pyproject() -> None:
    pins = read_pins()
    assert len(pins) > 100
    for requirement in declared("dev"):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_constraints_leave_torchvision_and_timm_out() -> None:
    assert read_pins().keys().isdisjoint({"torchvision", "timm"})


def test_environment_yml_yields_what_make_installs() -> None:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [entry for entry in entries if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    makefile = (ROOT / "Makefile").read_text()
    assert "-c constraints.txt -e '.[dev]'" in makefile
    assert {"--constraint constraints.txt", "--editable .[dev]"} <= set(pip)

    pins = dict(re.split("=+", entry, maxsplit=1) for entry in [*conda, *pip] if re.match(r"[\w.-]+=", entry))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(f"{pins.pop('python')}.0")
    assert {canonicalize_name(name): pinned for name, pinned in pins.items()}.items() <= read_pins().items()


def test_every_library_imported_is_declared() -> None:
    distributions = packages_distributions()
    allowed = {canonicalize_name(requirement.name) for requirement in declared("all", "vision")}
    # Used where the person has them; never asked for (see CONTRIBUTING, Dependencies).
    optional = {"onnx2torch", "torchvision", "timm"}
    # Of extras that are not installed with the tests; torchao comes with executorch.
    optional |= {"ai_edge_litert", "ai_edge_quantizer", "executorch", "jax", "litert_torch", "torchao", "tvm"}
    for module in sorted(imported_modules(ROOT / "workbench") | imported_modules(ROOT / "widgets")):
        if module in sys.stdlib_module_names or module in optional or module in {"workbench", "widgets"}:
            continue
        names = {canonicalize_name(name) for name in distributions.get(module, ())}
        assert names & allowed, f"{module} is imported, but no dependency or extra brings it"


def imported_modules(folder: Path) -> set[str]:
    modules: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
    return modules


# Commands


def test_ci_runs_the_readmes_test_command_and_fails_with_it() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    readme = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert readme is not None
    promised = [line.partition("#")[0].strip() for line in readme[1].splitlines()]
    assert promised == ["make app", "make test"]
    assert lines[0] == "set -eu"
    assert lines[-1] == promised[1]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_make_alone_prints_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    assert set(re.findall(r"^make (\S+)", listed, re.MULTILINE)) == set(targets[1].split())


# Floors


def test_imports_only_run_down() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_contributing_tells_every_floor() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "## ARCHITECTURE" in text
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    for name in re.findall(r"\w+", " ".join(layers)):
        assert re.search(rf"\b{name}(/|\.py)`", text), f"CONTRIBUTING's table has no {name}"


# What an import costs

NO_TORCH = """
import sys
heavy = {"torch", "onnx", "onnxruntime", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_import_workbench_imports_no_torch() -> None:
    run_python(f"import workbench{NO_TORCH}")


def test_help_imports_no_torch() -> None:
    code = f"""
import sys
from workbench.cli import main
sys.argv = ["workbench", "--help"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
{NO_TORCH}
"""
    assert "evaluate" in run_python(code)


def test_engine_runs_without_jupyter() -> None:
    code = """
import importlib, pkgutil, sys
for name in ("IPython", "anywidget", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_server", "voila"):
    sys.modules[name] = None
import workbench
for module in pkgutil.walk_packages(workbench.__path__, "workbench."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
    assert "workbench.data.dataset" in run_python(code).split()


# What a wheel carries


def test_wheel_carries_code_data_and_views_and_nothing_else_at_the_top() -> None:
    from hatchling.builders.wheel import WheelBuilder

    paths = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {path.partition("/")[0] for path in paths} == {"workbench", "widgets"}
    views = (path for path in (ROOT / "widgets").rglob("*") if path.suffix in {".py", ".js", ".css", ".html"})
    assert paths >= {path.relative_to(ROOT).as_posix() for path in views}
    assert {"workbench/py.typed", "workbench/_datasets/fashion_mnist/test.npz"} <= paths
    notebooks = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {Path(path).name for path in paths if path.startswith("workbench/_notebooks/")} >= notebooks


def test_version_is_the_same_everywhere() -> None:
    try:
        assert version(OWN) == PROJECT["version"]
    except PackageNotFoundError:
        pytest.skip("running from a tree that was never installed")
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()
