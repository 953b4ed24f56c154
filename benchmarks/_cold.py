"""One merge, files to files, in a fresh process: seconds (imports excluded) and peak memory, as one line of JSON.

python -m benchmarks._cold mergefront|mergekit MERGE.yaml OUT
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path


def memory() -> dict[str, float]:
    """Megabytes now: `anonymous` (the process's own), `file` (mapped files in memory: inputs and outputs)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        name: int(fields[key].split()[0]) / 1024
        for name, key in (("anonymous", "RssAnon"), ("file", "RssFile"), ("all", "VmRSS"))
    }


class Watch:
    """The largest `memory` between enter and exit, looked at every 10 ms; `before` is what it began with."""

    def __enter__(self) -> Watch:
        self.before = memory()
        self.peak = dict(self.before)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            for name, value in memory().items():
                self.peak[name] = max(self.peak[name], value)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def main() -> None:
    program, file, out = sys.argv[1:]
    text = Path(file).read_text()
    if program == "mergekit":
        import yaml
        from mergekit.config import MergeConfiguration
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions

        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        options = MergeOptions(copy_tokenizer=False, quiet=True)

        def work() -> None:
            run_merge(config, out, options)
    else:
        # Imports are not what is measured, on either side.
        import mergers._execution.kernels._compiled.bracket
        import mergers._execution.kernels._compiled.elementwise
        import mergers._execution.kernels._compiled.order
        import mergers._execution.kernels._compiled.rows
        import mergers._execution.kernels._compiled.sparse
        import mergers._execution.kernels._compiled.sums
        import mergers._merge  # noqa: F401
        from search.commands.merging import merge_file

        def work() -> None:
            merge_file(Path(file), Path(out))

    with Watch() as watch:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    beyond = watch.peak["anonymous"] - watch.before["anonymous"]
    print(json.dumps({"seconds": seconds, "beyond_mb": beyond, "resident_mb": watch.peak["all"]}))


if __name__ == "__main__":
    main()
