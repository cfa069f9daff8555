"""Random numbers as a function of (seed, stream, key): no generator state, no order, no device count.

A counter-based generator in plain tensor arithmetic. Row i of a draw depends on nothing but the seed, the name of
the stream and keys[i] (a step, a sample id, an image index, or several of them folded by `fold_keys`), so a resumed
run, another batch size or another number of devices draws the same numbers, without a loop over the batch.

The mixing function is the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), written in wrapping signed 64-bit arithmetic.
"""

import hashlib
import math

import numpy as np
import torch

GOLDEN_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
MULTIPLIERS = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
UNSIGNED_MULTIPLIERS = tuple(np.uint64(value % (1 << 64)) for value in MULTIPLIERS)


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift: torch's `>>` copies the sign bit."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64 finalizer on int64 tensors."""
    if x.device.type == "cpu":
        return torch.from_numpy(_mix_words(x.reshape(-1).numpy().view(np.uint64)).view(np.int64)).view(x.shape)
    return _mix_signed(x)


def _mix_signed(x: torch.Tensor) -> torch.Tensor:
    """The finalizer in what every device has."""
    x = (x ^ _shift_right(x, 30)).mul_(MULTIPLIERS[0])
    x = x.bitwise_xor_(_shift_right(x, 27)).mul_(MULTIPLIERS[1])
    return x.bitwise_xor_(_shift_right(x, 31))


def _mix_words(words: np.ndarray) -> np.ndarray:
    """The finalizer in numpy's unsigned words, which a processor mixes in less than half of torch's time."""
    mixed = words >> 30
    mixed ^= words
    mixed *= UNSIGNED_MULTIPLIERS[0]
    shifted = mixed >> 27
    mixed ^= shifted
    mixed *= UNSIGNED_MULTIPLIERS[1]
    mixed ^= np.right_shift(mixed, 31, out=shifted)
    return mixed


def _stream_origin(seed: int, stream: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def fold_keys(*keys: int | torch.Tensor) -> torch.Tensor:
    """One int64 key of several, e.g. `fold_keys(step, sample_ids)`; scalars broadcast, order matters."""
    folded = torch.zeros((), dtype=torch.int64)
    for key in keys:  # a scalar on the processor joins keys on a device without a copy
        folded = _mix(folded * 3 + torch.as_tensor(key, dtype=torch.int64) + GOLDEN_GAMMA)
    return folded


def _bits(keys: torch.Tensor, count: int, seed: int, stream: str) -> torch.Tensor:
    """[B, count] int64, all 64 bits random."""
    base = _mix(keys.to(torch.int64) * MULTIPLIERS[0] + _stream_origin(seed, stream))
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * GOLDEN_GAMMA
    return _mix(base[:, None] + counter)  # SplitMix64 itself, started at a mixed state per key


def keyed_uniform(keys: torch.Tensor, shape: tuple[int, ...] = (), *, seed: int, stream: str) -> torch.Tensor:
    """Uniform float32 in the open interval (0, 1), [B, *shape]; row i depends on (seed, stream, keys[i]) alone."""
    bits = _bits(keys, math.prod(shape), seed, stream)
    return ((_shift_right(bits, 41).float() + 0.5) / (1 << 23)).view(len(keys), *shape)


def keyed_normal(keys: torch.Tensor, shape: tuple[int, ...] = (), *, seed: int, stream: str) -> torch.Tensor:
    """Standard normal float32, [B, *shape]; row i depends on (seed, stream, keys[i]) alone (Box-Muller)."""
    count = math.prod(shape)
    bits = _bits(keys, (count + 1) // 2, seed, stream)
    radius = _shift_right(bits, 40).float().add_(0.5).div_(1 << 24).log_().mul_(-2).sqrt_()
    angle = bits.bitwise_and_((1 << 24) - 1).float().mul_(2 * math.pi / (1 << 24))
    pairs = torch.empty(*radius.shape, 2, device=radius.device)  # [B, ceil(count / 2), 2]
    torch.mul(radius, angle.cos(), out=pairs[..., 0])
    torch.mul(radius, angle.sin_(), out=pairs[..., 1])
    return pairs.flatten(1)[:, :count].reshape(len(keys), *shape)


def keyed_integers(keys: torch.Tensor, high: int, *, seed: int, stream: str) -> torch.Tensor:
    """Integers in [0, high), [B]; row i depends on (seed, stream, keys[i]) alone."""
    uniform = _shift_right(_bits(keys, 1, seed, stream)[:, 0], 11).double() / (1 << 53)
    return (uniform * high).long().clamp_max(high - 1)
