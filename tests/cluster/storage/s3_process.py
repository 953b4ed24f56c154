"""moto's S3 server with the one promise it does not keep: of several conditional writes of a name, one succeeds.

moto looks for the object and puts it in two steps that its threads interleave (2 of 4 writers succeeded once in 150
races); S3 makes `If-None-Match: *` one step. Here such writes wait for one another, and nothing else does.
"""

from __future__ import annotations

import threading
from typing import Any

import moto.server

_conditional = threading.Lock()
_moto = moto.server.DomainDispatcherApplication


def dispatcher(create_app: Any) -> Any:
    application = _moto(create_app)

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "PUT" and "HTTP_IF_NONE_MATCH" in environ:
            with _conditional:
                return application(environ, start_response)
        return application(environ, start_response)

    return answer


if __name__ == "__main__":
    moto.server.DomainDispatcherApplication = dispatcher
    moto.server.main()
