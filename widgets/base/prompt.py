"""What ipykernel does around a comm's messages that a hand on a slider would wait for, and is kept from doing.

From version 7.4 on it sends a comm's message to the shell whose request was being answered when the kernel told
something on that comm last. What a thread tells is said to answer the cell that was run last, so the next move of a
slider would wait in the main shell for as long as a cell runs there. It is sent to where the page asked for.

It says "busy" for each message, and JupyterLab then draws its toolbar anew, twice a move: on a small machine that costs
as much as finding the size. That a slider moved makes no kernel busy for whoever looks at its state; "idle", which a
page needs to know that its message was handled, is told as before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def be_prompt(comm: Any, is_ours: Callable[[str], bool]) -> None:
    """Keep the kernel of ``comm`` from both, for this comm and for messages of those that ``is_ours`` tells.

    Comms of other kernels than ipykernel are left as they are.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _as_asked
    kernel = getattr(comm, "kernel", None)
    publish = getattr(kernel, "_publish_status", None)
    if kernel is None or publish is None or hasattr(publish, "__wrapped__"):
        return

    @functools.wraps(publish)
    def publish_status(status: str, channel: str, parent: dict[str, Any] | None = None) -> None:
        message = parent or kernel.get_parent(channel)
        is_comms = message.get("header", {}).get("msg_type") == "comm_msg"
        if not (status == "busy" and is_comms and is_ours(message["content"]["comm_id"])):
            publish(status, channel, parent)

    kernel._publish_status = publish_status


def _as_asked(_data: Any, asked: str | None) -> str | None:
    return asked
