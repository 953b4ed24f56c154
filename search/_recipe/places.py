"""Where a run lies and where its database is, as a recipe says it."""

from __future__ import annotations

import re
from typing import Any

from cluster._errors import InputError
from cluster.storage import urls
from search._recipe.fields import refusal


def storage(value: Any) -> Any:
    """The run directory: a path, or a URL of `cluster.storage`."""
    if isinstance(value, str) and "://" in value:
        try:
            return str(urls.parse(value))
        except InputError as error:
            raise refusal(str(error), value=None) from None
    if not isinstance(value, str) or not value.strip():
        raise refusal("must be a directory", "write a path such as runs/my-run")
    return value


def database(value: Any) -> Any:
    """`sqlite` or the URL of a PostgreSQL database; a password in it is not shown."""
    if isinstance(value, str) and (value == "sqlite" or re.fullmatch(r"postgresql://[^/]*/[^/]+", value)):
        return value
    shown = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value) if isinstance(value, str) else None
    remedy = "write sqlite, or postgresql://USER@HOST/DATABASE with the password in PGPASSWORD or ~/.pgpass"
    raise refusal("must be sqlite or the URL of a PostgreSQL database", remedy, **({"value": shown} if shown else {}))
