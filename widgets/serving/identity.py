"""Who asks: the stock provider, made to hand out the cookie that a closing page needs."""

from __future__ import annotations

from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado.websocket import WebSocketHandler


class PageIdentityProvider(PasswordIdentityProvider):
    """Sets the ``_xsrf`` cookie with every page.

    Voila's page asks the server to end its kernel when it closes, and is refused for want of this
    cookie, which nothing else sets (voila issue 1458): every page view would leave a kernel behind.
    """

    async def get_user(self, handler: Any) -> User | None:
        """Return the user, and make sure the cookie goes out with the reply."""
        user = await ensure_async(super().get_user(handler))
        if user is not None and not isinstance(handler, WebSocketHandler):
            handler.current_user = user
            handler.xsrf_token  # noqa: B018  reading it is what sets the cookie
        return user
