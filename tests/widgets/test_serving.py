from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from widgets.serving.app import (
    NOTEBOOK,
    SHARE,
    Options,
    ServingError,
    candidates,
    configuration,
    prepare_environment,
    serve,
)

TEMPLATE = SHARE / "voila" / "templates" / "workbench"


def test_nothing_in_the_page_comes_from_another_host() -> None:
    for path in [*TEMPLATE.iterdir(), *Path(NOTEBOOK.parents[1], "widgets").glob("*.[jc]s*")]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"https?://|//cdn", text), path.name


def test_template_leaves_out_what_voila_takes_from_a_cdn() -> None:
    page = (TEMPLATE / "index.html.j2").read_text()
    for block in ("notebook_css", "html_head_js_mermaidjs"):
        replaced = re.search(rf"block {block} -%}}(.*?){{%- endblock {block}", page, re.DOTALL)
        assert replaced is not None
        assert "super()" not in replaced[1]


def test_listening_beyond_this_machine_asks_for_a_token() -> None:
    assert not configuration(Options()).Voila.auto_token
    assert configuration(Options(ip="0.0.0.0")).Voila.auto_token


def test_a_given_port_is_the_only_one_tried() -> None:
    assert list(candidates(9000)) == [9000]
    assert next(candidates(None)) == 8866
    assert len(list(candidates(None))) > 5


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = f"""
from widgets.serving import Options, serve
try:
    serve(Options(port={port}))
except ValueError as error:
    print('said:', error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"said: Port {port} is taken or not allowed: choose another with --port, or 0 for any.\n"


def test_a_missing_notebook_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"notebook is not at .*app\.ipynb"):
        serve(Options(notebook=tmp_path / "app.ipynb"))


def test_kernels_are_told_not_to_spin_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("WORKBENCH_SERVED", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    prepare_environment(Options())
    prepare_environment(Options())
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["PYTHONPATH"].split(os.pathsep).count("/elsewhere") == 1
    assert os.environ["JUPYTER_PATH"] == str(SHARE)


def test_importing_the_server_loads_neither_torch_nor_the_widgets() -> None:
    heavy = {"torch", "ipywidgets", "voila", "anywidget"}
    code = f"import sys, widgets.serving; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
