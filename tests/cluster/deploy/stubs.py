"""`srun` and `scontrol` where there is no Slurm: every node is this machine, and the processes are real."""

from __future__ import annotations

from pathlib import Path

SRUN = """\
#!/bin/bash
# Runs its command once for each node, as srun does: TERM ends the step.
echo "srun $*" >> "$SLURM_STUBS_LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/bin/bash
echo "scontrol $*" >> "$SLURM_STUBS_LOG"
if [[ $1 == show ]]; then tr ',' '\\n' <<< "$3"; fi
"""


def write_stubs(folder: Path) -> Path:
    """Put both programs into a folder, which belongs first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
