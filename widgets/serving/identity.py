"""Who may ask, and how a browser shows that it may."""

from __future__ import annotations

import hmac
from typing import Any

import tornado.web
from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import JupyterHandler
from tornado.websocket import WebSocketHandler

from .page import render


class PageIdentityProvider(IdentityProvider):
    """Lets in who brings the token, or everyone where there is none; sets the ``_xsrf`` cookie with every page.

    Voila's page asks the server to end its kernel when it closes, and is refused for want of this
    cookie, which nothing else sets (voila issue 1458): every page view would leave a kernel behind.
    """

    @property
    def auth_enabled(self) -> bool:
        """Whether a token is asked for."""
        return bool(self.token)

    def process_login_form(self, handler: Any) -> User | None:
        """Return a user where the form brings the token."""
        given = handler.get_argument("password", "")
        right = self.token and hmac.compare_digest(given.encode(), self.token.encode())
        return self.generate_anonymous_user(handler) if right else None

    async def get_user(self, handler: Any) -> User | None:
        """Return the user, and make sure the cookie goes out with the reply."""
        user = await ensure_async(super().get_user(handler))
        if user is not None and not isinstance(handler, WebSocketHandler):
            handler.current_user = user
            handler.xsrf_token  # noqa: B018  reading it is what sets the cookie
        return user


class LoginHandler(LoginFormHandler):
    """Asks for the token in a plain page."""

    def _render(self, message: Any = None) -> None:
        self.finish(render(self, "login.html", wrong=bool(message), xsrf=self.xsrf_form_html()))


def guarded(handler: type[tornado.web.RequestHandler]) -> type[tornado.web.RequestHandler]:
    """Return a handler of files that asks for the token as pages do; the stock ones never ask."""

    class Guarded(handler, JupyterHandler):  # type: ignore[misc, valid-type]
        async def prepare(self) -> None:  # type: ignore[override]
            await JupyterHandler.prepare(self, _redirect_to_login=False)
            if self.current_user is None:
                raise tornado.web.HTTPError(403)

    Guarded.__name__ = Guarded.__qualname__ = f"Guarded{handler.__name__}"
    return Guarded
