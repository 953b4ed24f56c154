"""A model on the hub, looked at without its weights: headers by ranged reads, small files whole."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .._errors import InputError
from .hub import HUB_ID
from .index import INDEX, SINGLE, placed, read_index
from .safetensors import Entry, header_length, parse_header
from .tensors import Checkpoint

SMALL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
_FIRST = 100_000  # bytes of the first read: holds nearly every header whole
_LARGEST = 1 << 28  # of a file that is read whole
_AT_ONCE = 8  # shards asked for at a time


class HubModel:
    """One revision of one repository.

    Args:
        name: `owner/name` or `owner/name@revision`.
        endpoint: of the hub; None for the usual one (`HF_ENDPOINT`).
    """

    def __init__(self, name: str, endpoint: str | None = None) -> None:
        if not HUB_ID.fullmatch(name):
            raise InputError(f"model {name} is neither a directory nor a hub id such as owner/name; check the path")
        self.name = name
        self._endpoint = endpoint
        self._repo, _, revision = name.partition("@")
        self._revision = revision or None

    def checkpoint(self) -> Checkpoint:
        """Its tensors by their headers; they cannot be read.

        Raises:
            InputError: no such model, no access, no safetensors, or what `open_checkpoint` refuses.
        """
        single = self._header(SINGLE)
        if single is not None:
            return self._checkpoint(single)
        index = Path(self.name) / INDEX
        raw = self.file(INDEX)
        if raw is None:
            raise InputError(f"model {self.name} on the hub has no {SINGLE}; merge a model saved as safetensors")
        wanted = read_index(index, raw)
        files = list(dict.fromkeys(wanted.values()))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            headers = dict(zip(files, pool.map(self._header, files), strict=True))
        known: dict[str, dict[str, Entry]] = {}
        for file, header in headers.items():
            if header is None:
                raise InputError(f"{index} names shard {file}, which is missing; tell the model's owner")
            known[file] = header
        return self._checkpoint(placed(index, wanted, known))

    def file(self, name: str) -> bytes | None:
        """A small file, whole; None if the model has no such file.

        Raises:
            InputError: as `checkpoint`; the file is too large to be small.
        """
        found = self._read(name, 0, _LARGEST)
        if found is not None and found[1] > _LARGEST:
            raise InputError(f"{self.name}/{name} has {found[1]} bytes, too many for a configuration; tell its owner")
        return None if found is None else found[0]

    def _checkpoint(self, entries: dict[str, Entry]) -> Checkpoint:
        if not entries:
            raise InputError(f"model {self.name} on the hub holds no tensors; tell its owner")
        return Checkpoint(Path(self.name), entries)

    def _header(self, file: str) -> dict[str, Entry] | None:
        found = self._read(file, 0, _FIRST)
        if found is None:
            return None
        raw, size = found
        path = Path(self.name) / file
        length = header_length(path, raw[:8], size)
        if 8 + length > len(raw):
            rest = self._read(file, len(raw), 8 + length)
            raw += b"" if rest is None else rest[0]
        return parse_header(path, raw[8 : 8 + length], size)

    def _read(self, file: str, start: int, stop: int) -> tuple[bytes, int] | None:
        """Bytes `[start, stop)` of a file as far as it reaches, and its size; None if there is no such file."""
        from huggingface_hub import get_session, hf_hub_url, utils
        from huggingface_hub.errors import EntryNotFoundError

        url = hf_hub_url(self._repo, file, revision=self._revision, endpoint=self._endpoint)
        headers = utils.build_hf_headers()  # type: ignore[attr-defined]  # documented, but not listed as exported
        headers |= {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        with self._refusals(), get_session().stream("GET", url, headers=headers, timeout=30) as response:
            try:
                utils.hf_raise_for_status(response)  # type: ignore[attr-defined]  # as above
            except EntryNotFoundError:
                return None
            ranged = response.status_code == 206
            size = int(
                response.headers["Content-Range"].split("/")[1] if ranged else response.headers["Content-Length"]
            )
            wanted = min(stop, size) - start
            skip = 0 if ranged else start  # a server without ranges sends it all: read no further than needed
            raw = bytearray()
            for piece in response.iter_bytes():
                raw += piece
                if len(raw) >= skip + wanted:
                    break
            return bytes(raw[skip : skip + wanted]), size

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
        from huggingface_hub.errors import RevisionNotFoundError as NoRevision

        try:
            yield
        except GatedRepoError as error:
            raise InputError(
                f"model {self.name} on the hub asks to accept its terms; accept them there, then `hf auth login`"
            ) from error
        except (RepositoryNotFoundError, NoRevision) as error:
            raise InputError(
                f"model {self.name} is neither a directory nor on the hub (or it is private); check the name, "
                f"or `hf auth login`"
            ) from error
        except OfflineModeIsEnabled as error:
            raise InputError(
                f"model {self.name} is neither a directory nor in the hub cache, and hub access is off (HF_HUB_OFFLINE)"
            ) from error
        except InputError:
            raise
        except Exception as error:  # the hub's HTTP library differs between versions: its errors have no common base
            lines = str(error).splitlines() or [""]
            raise InputError(
                f"model {self.name} cannot be read from the hub ({type(error).__name__}: {lines[0]}); try again"
            ) from error
