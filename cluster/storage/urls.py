"""URLs of buckets: what they may be, and the file system behind them."""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from typing import Any

from .._errors import InputError

EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "file": ("fsspec", "s3")}
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
CONNECT_S, READ_S = 10, 60


@dataclass(frozen=True)
class Url:
    """A prefix of a bucket (or a directory): `scheme`, and `path` as fsspec takes it, bucket first."""

    scheme: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __truediv__(self, name: str) -> Url:
        return Url(self.scheme, f"{self.path}/{name}")


def is_url(place: object) -> bool:
    """Whether a place is written as a URL rather than a path."""
    return isinstance(place, str) and _URL.fullmatch(place) is not None


def parse(text: str) -> Url:
    """A URL of a place that can be used as storage.

    Raises:
        InputError: another scheme, no bucket, no prefix, or credentials inside.
    """
    found = _URL.fullmatch(text)
    if found is None:
        raise InputError(f"must be a URL such as s3://bucket/runs/mine, got {text!r}")
    scheme, rest = found["scheme"], found["rest"].rstrip("/")
    if scheme not in EXTRAS:
        raise InputError(f"must begin with {', '.join(f'{name}://' for name in EXTRAS)}, got {scheme}://")
    bucket = rest.split("/", 1)[0]
    if "@" in bucket:  # the text itself is not shown: it holds a secret
        raise InputError(f"{scheme}://: credentials do not belong in a URL; put them where the cloud's tools find them")
    if scheme == "file":
        if not rest.startswith("/"):
            raise InputError(f"must name an absolute directory such as file:///data/runs/mine, got {text!r}")
        return Url(scheme, os.path.normpath(rest))
    if any(part in ("", ".", "..") for part in rest.split("/")) or re.search(r"[\s?#*\[\]{}]", rest):
        raise InputError(f"must be {scheme}://BUCKET/PREFIX in plain letters, got {text!r}")
    if "/" not in rest:
        raise InputError(f"must name a prefix of the bucket such as {scheme}://{bucket}/runs/mine, got {text!r}")
    return Url(scheme, rest)


def file_system(url: Url) -> Any:
    """The fsspec file system of a URL; nothing is contacted yet. Credentials come from where its library looks.

    Raises:
        InputError: its package is not installed.
    """
    package, extra = EXTRAS[url.scheme]
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if url.scheme == "s3":
        # Our own tries are limited by time and say what they wait for; the client's would hide behind them.
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"max_attempts": 2, "mode": "standard"},
        }
    if url.scheme == "gs":
        # Plain objects are all that is used; gcsfs would ask for each bucket's kind, with rights that a user may lack.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import fsspec

        importlib.import_module(package)
        return fsspec.filesystem(url.scheme, **options)
    except ImportError:
        raise InputError(f"{url}: {url.scheme}:// needs {package}; pip install 'mergefront[{extra}]'") from None
