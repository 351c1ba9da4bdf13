"""API keys: `Authorization: Bearer KEY`, checked before anything of a request is read."""

from collections.abc import Sequence
from hmac import compare_digest
from http import HTTPStatus
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Problem, problem_response

_GUARDED = "/v1/"
METRICS = "/metrics"

_bearer = HTTPBearer(
    auto_error=False, description="One of the service's keys: `Authorization: Bearer KEY`."
)


def unauthorized() -> Problem:
    """401: no key, or a wrong one."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "An API key is needed: `Authorization: Bearer KEY`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


class Keys:
    """The keys that open the service; none means open to all."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys = [key.get_secret_value().encode() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, headers: Headers) -> None:
        """Check a request's header.

        Raises:
            Problem: 401, keys are set and the header has none of them.
        """
        if not self._keys:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Every key is compared, each in constant time, so that time tells nothing about them.
        matches = [compare_digest(key, given.strip().encode()) for key in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise unauthorized()


async def require_key(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """A dependency that checks the key and puts it into the OpenAPI document.

    `KeyCheck` has already done so before the body was read, for every route under `/v1`.

    Raises:
        Problem: 401.
    """
    keys: Keys = request.app.state.keys
    keys.check(request.headers)


class KeyCheck:
    """Refuses requests without a key before their bodies are read or they take a place."""

    def __init__(self, app: ASGIApp, keys: Keys, guard_metrics: bool) -> None:
        self._app = app
        self._keys = keys
        self._guard_metrics = guard_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open or has a key."""
        if scope["type"] == "http" and self._guards(scope):
            try:
                self._keys.check(Headers(scope=scope))
            except Problem as problem:
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _guards(self, scope: Scope) -> bool:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        return path.startswith(_GUARDED) or (self._guard_metrics and path == METRICS)
