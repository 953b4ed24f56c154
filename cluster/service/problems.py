"""Every error as problem+json (RFC 9457): a status, one line for people, and a code for programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

LOG = logging.getLogger("mergefront.service")
MEDIA_TYPE = "application/problem+json"


class ApiProblem(Exception):
    """An answer that says no.

    Attributes:
        status: of HTTP.
        code: short name of the kind of problem; programs may rely on it.
        detail: for people: the rule, the value, the remedy.
        problems: of a recipe: one dict each, as `mergefront check` finds them.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problems: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.problems, self.headers = problems, dict(headers or {})
        super().__init__(detail)

    def response(self) -> JSONResponse:
        """The answer."""
        return answer(self.status, self.code, self.detail, self.problems, self.headers)


def answer(
    status: int,
    code: str,
    detail: str,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response."""
    body: dict[str, Any] = {"type": f"urn:mergefront:{code}", "title": HTTPStatus(status).phrase, "status": status}
    body["detail"] = detail
    if problems:
        body["problems"] = [dict(problem) for problem in problems]
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error leave as a problem."""

    @app.exception_handler(ApiProblem)
    def _ours(_request: Request, error: ApiProblem) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        detail = f"{request.method} {request.url.path[:200]}: {HTTPStatus(error.status_code).phrase.lower()}"
        return answer(error.status_code, code, detail, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, "invalid-request", "; ".join(_told(one) for one in error.errors()[:5]))

    @app.exception_handler(sa.exc.DBAPIError)
    def _database(_request: Request, error: sa.exc.DBAPIError) -> JSONResponse:
        LOG.error("database: %s", str(error.orig).splitlines()[:1])
        detail = "the database of the service does not answer; nothing was changed, try again"
        return answer(503, "database-away", detail, headers={"Retry-After": "2"})

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> JSONResponse:
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "internal", "the service failed on this request; its log says why")


def _told(error: Mapping[str, Any]) -> str:
    where = " ".join(str(part) for part in error["loc"])
    given = error.get("input")
    got = f", got {str(given)[:60]!r}" if isinstance(given, (str, int, float)) else ""
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}{got}"


RESPONSES = {
    401: "no token, or one that is unknown, revoked or expired",
    403: "the token lacks the scope",
    404: "no such job, or not this token's",
    503: "the database or the checker is busy; try again",
}
EXAMPLE = {
    "type": "urn:mergefront:unknown-job",
    "title": "Not Found",
    "status": 404,
    "detail": "there is no job 0123456789ab; `mergefront jobs` lists yours",
}


def described(**more: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's word on errors: those that every route has, and `s409="..."` for those of one."""
    texts = {**RESPONSES, **{int(status[1:]): text for status, text in more.items()}}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": EXAMPLE}}
    return {status: {"description": texts[status], "content": content} for status in sorted(texts)}
