"""YAML text as documents: every key once, and mappings only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from .._errors import InputError


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        # What `<<: *anchor` brings in may be overridden: that is its purpose, so only keys written here count.
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in written]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(f"key '{key}' is given twice, line {node.start_mark.line + 1} on; keep one of them")
        return super().construct_mapping(node, deep)


def mappings(text: str) -> tuple[Mapping[str, Any], ...]:
    """The documents of a merge file, empty ones left out.

    Raises:
        InputError: not YAML, a key given twice, a document that is no merge, no document.
    """
    try:
        loaded = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the merge file is not YAML ({reason}); correct it") from error
    documents = [document for document in loaded if document is not None]
    for document in documents:
        if not isinstance(document, Mapping) or "merge_method" not in document:
            raise InputError("a merge is a YAML mapping with merge_method and models; see mergekit's documentation")
    if not documents:
        raise InputError("the merge file holds 0 documents; write merge_method and models")
    return tuple(documents)
