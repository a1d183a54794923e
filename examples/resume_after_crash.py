"""A long job over all weights that goes on where it was killed.

    python examples/resume_after_crash.py model.safetensors job.json

Kill it when you like and run the same line again.  The job here adds up all values; what
it knows and where the stream was go into one file, which is replaced as a whole.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

import numpy as np

import tensorstream as ts

EVERY = 0.2  # seconds between saves


def save(path: pathlib.Path, job: dict[str, object]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(job))
    os.replace(part, path)


def main(model: str, file: str) -> None:
    path = pathlib.Path(file)
    job = json.loads(path.read_text()) if path.exists() else {"sum": 0.0, "state": None}
    resumed = job["state"] is not None
    with (
        ts.open(model) as checkpoint,
        checkpoint.stream(dtype="float32", resume=job["state"], progress=None) as stream,
    ):
        if resumed:
            print(f"going on at {stream.progress.fraction:.1%}", flush=True)
        next_save = 0.0
        for chunk in stream:
            job["sum"] += float(chunk.array.sum(dtype=np.float64))
            if time.monotonic() >= next_save:
                # The state is behind the chunk that was just added: they belong together.
                save(path, {"sum": job["sum"], "state": stream.state()})
                next_save = time.monotonic() + EVERY
    path.unlink(missing_ok=True)
    print(f"sum of all values: {job['sum']:.6f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
