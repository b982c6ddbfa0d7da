"""One process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workbench.data.alone import alone

HOLD = """
import sys, time
from pathlib import Path
from workbench.data.alone import alone
with alone(Path(sys.argv[1]), lambda: False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_waits_and_goes_on_when_the_first_dies(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        asked = 0

        def stop() -> bool:
            nonlocal asked
            asked += 1
            if asked == 3:
                holder.kill()
            return False

        with alone(path, stop):
            assert asked >= 3


def test_who_is_told_to_stop_waits_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with alone(path, lambda: False), alone(path, lambda: True):
        pass


def test_where_no_lock_can_be_had_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with alone(tmp_path / "file" / "one", lambda: False):
        pass
