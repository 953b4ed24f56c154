"""Tiny Llama checkpoints with a tokenizer: a base and two experts, tied and untied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .tiny_models import save_models


def _models(tmp_path_factory: pytest.TempPathFactory, *, tied: bool, dtype: torch.dtype) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_models(root, tied=tied, dtype=dtype)
    return root


@pytest.fixture(scope="session")
def tied_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=True, dtype=torch.float32)


@pytest.fixture(scope="session")
def untied_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=False, dtype=torch.float32)


@pytest.fixture(scope="session")
def bfloat16_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _models(tmp_path_factory, tied=True, dtype=torch.bfloat16)
