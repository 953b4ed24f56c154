"""What may be a URL of storage."""

from __future__ import annotations

import re
import sys

import pytest

from cluster._errors import InputError
from cluster.storage.urls import file_system, is_url, parse


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/runs/mine", "s3://bucket/runs/mine"),
        ("s3://bucket/runs/mine/", "s3://bucket/runs/mine"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("file:///data/../data/x", "file:///data/x"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert str(parse(text)) == shown
    assert is_url(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s4://bucket/x", "must begin with s3://, gs://, file://, got s4://"),
        ("http://host/x", "must begin with s3://, gs://, file://, got http://"),
        ("s3://bucket", "must name a prefix of the bucket such as s3://bucket/runs/mine"),
        ("s3://", "must be s3://BUCKET/PREFIX in plain letters"),
        ("s3://bucket/../x", "must be s3://BUCKET/PREFIX in plain letters"),
        ("s3://bucket//x", "must be s3://BUCKET/PREFIX in plain letters"),
        ("s3://bucket/x?versionId=1", "must be s3://BUCKET/PREFIX in plain letters"),
        ("s3://AKIA1:wordword@bucket/x", "credentials do not belong in a URL"),
        ("file://data/x", "must name an absolute directory"),
        ("runs/x", "must be a URL"),
    ],
)
def test_what_is_none_is_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        parse(text)
    assert "\n" not in str(error.value)
    assert "wordword" not in str(error.value)


def test_paths_are_no_urls() -> None:
    assert not any(is_url(place) for place in ("runs/x", "/data/x", "C:/x", None, 7, "s3:/x"))


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=re.escape(f"{scheme}:// needs {package}; pip install 'mergefront[{extra}]'")):
        file_system(parse(f"{scheme}://bucket/x"))
