"""The thirty things that this software promises, each with the mark at which its tests count as passed."""

from typing import NamedTuple


class Check(NamedTuple):
    """One promise.

    Args:
        name: what is done to the software.
        mark: what has to come of it.
    """

    name: str
    mark: str


CHECKS = {
    1: Check(
        "kill -9 at random steps, then resume; both stages, 0 and 2 workers",
        "20 of 20: weights, averages and optimizers bit-equal, step count exact",
    ),
    2: Check("resume twice from every position of a run of 40 steps", "40 of 40 bit-equal"),
    3: Check(
        "SIGTERM, SIGINT, SIGUSR1 inside forward, backward, validation, save",
        "60 of 60: checkpoint at a step boundary within 30 s, exit code 143 or 130, resume bit-equal",
    ),
    4: Check(
        "kill -9 while a checkpoint is written, TMPDIR on another file system",
        "50 of 50: last or previous loads, none unreadable, at most 1 temporary file, swept at the next start",
    ),
    5: Check(
        "disk full while saving", "error names path and bytes needed, exit code not 0, the previous checkpoint loads"
    ),
    6: Check(
        "checkpoint folder unwritable, immutable, removed",
        "error within one save that names the folder, never a silent return",
    ),
    7: Check(
        "damaged checkpoint: truncated, empty, a flipped bit",
        "100 of 100 flips refused by hash, file named, the previous one offered",
    ),
    8: Check(
        "NaN or Inf in loss or gradient, 1 and 2 processes",
        "all stop before the update at that step, message has step and samples, nothing non-finite is saved",
    ),
    9: Check(
        "moving average: two optimizers, accumulation of 4, exception in a validation",
        "updates = generator steps, raw and averaged under their own keys, within 1e-6 of a float64 reference",
    ),
    10: Check("steps of stage 1 with a critic, max_steps 10", "10 steps, 10 in the log, file step=0000010"),
    11: Check("2 processes against 1, same global batch, 60 steps, both stages", "largest weight difference 1e-6"),
    12: Check("accumulation 1 x 8 against 4 x 2; 0, 1 and 4 workers", "1e-6; bit-equal for workers"),
    13: Check(
        "samples depend on the seeds alone: batch 1, 8, 32; 1 and 2 processes; resumed halfway",
        "99.9 % of pixels equal, none more than 1 level apart",
    ),
    14: Check("golden losses of 100 steps of every tiny recipe", "bit-equal on a recorded machine, else 1e-4"),
    15: Check(
        "damaged latent shard: truncated, empty, flipped, missing, swapped, extra, other dtype",
        "70 of 70 refused before the first step with the shard and the hash expected",
    ),
    16: Check(
        "cache writer killed at random",
        "20 of 20: no reader sees half a shard, a rerun ends byte-identical to an undisturbed one",
    ),
    17: Check(
        "two processes write one cache",
        "20 of 20: one works, the other names it; a dead owner's lock is taken over; byte-identical",
    ),
    18: Check(
        "cache and decoder of different autoencoders", "refused in train, sample and eval with both fingerprints"
    ),
    19: Check(
        "cache older than its images, their size, crop or preprocessing", "refused, saying which of the four changed"
    ),
    20: Check(
        "image modes and orientations: files with known pixels",
        "within 2 levels, 16-bit mean 127.5 within 0.5, 8 of 8 orientations",
    ),
    21: Check(
        "1 % damaged images among 1,000, header bombs included",
        "stops with all in one list; with a limit: counted, order kept, stops above it; less than 1 GB",
    ),
    22: Check(
        "folder shapes: empty class, stray and hidden files, loops, non-ASCII, case twins",
        "8 of 8: classes as a plain listing has them, an empty class named",
    ),
    23: Check(
        "untrusted file given to any loader",
        "payload runs 0 times, message names what is safe, exports are safetensors alone",
    ),
    24: Check(
        "hostile YAML: tags, foreign classes, a module in the working folder",
        "10 of 10 refused before any import, with the allowed prefixes",
    ),
    25: Check(
        "archive members: absolute, .., links, device, duplicate, 10 GB of zeros",
        "12 of 12: 0 bytes outside, size limit stated",
    ),
    26: Check("resume with changed settings", "12 of 12 applied and printed old -> new, or refused"),
    27: Check(
        "compile, gradient checkpointing, channels_last, bf16",
        "loss and gradients 1e-5 in float32, bf16 forward 2e-2",
    ),
    28: Check(
        "metrics: closed form, batch 1 against N, real and generated swapped, too few samples",
        "1e-6; 1e-5; direction kept; error or warning below the minimum",
    ),
    29: Check(
        "timing report: 5 repeats, twice",
        "spread 3 %, two reports within 5 %, names device, dtype, batch and versions",
    ),
    30: Check(
        "no network, hub or weights missing",
        "error within 5 s that names the file and how to give it; the suite passes",
    ),
}
