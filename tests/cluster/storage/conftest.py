"""One S3 server for all; every test has a prefix and a cache of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .s3 import Server, server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("s3") / "log") as here:
        here.make("bucket")
        yield here


@pytest.fixture
def at_s3(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A new prefix."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / "cache"))
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def at_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / "cache"))
    return f"file://{tmp_path}/store/{uuid.uuid4().hex}"


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """A directory; with the slow tests, the S3 server too."""
    return str(request.getfixturevalue(f"at_{request.param}"))
