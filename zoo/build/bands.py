"""The level of denoising by frequency (docs/methods.md#b4), written out in NumPy from its formulas: the golden numbers
of crates/pellucid-diffusion/tests/bands.rs. Run from the root of the repository: python zoo/build/bands.py

Pictures, latent and noise are formulas that the test computes too, so that only results are kept.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, STEPS = 32, 40, 4
OUT = Path("crates/pellucid-diffusion/tests/golden/bands.json")


def grain(i, seed):
    """Numbers in [-0.5, 0.5) that look random, exact in any language."""
    return ((7919 * i * i + 104729 * i + 31 * seed) % 1009) / 1009 - 0.5


def term(j, c, y, x):
    u, v = [(1, 0), (2, 1), (3, 2), (6, -4), (17, 2)][j]
    return [0.55, 0.35, 0.3, 0.25, 0.2][j] * math.sin(2 * math.pi * (u * x / WIDTH + v * y / HEIGHT) + 0.7 * c)


def picture(step):
    """x̂0 of `step`; the final picture for STEPS. Some of it lies outside [-1, 1]."""
    gain = [min(1.0, (step + 1) / (j + 1)) if step < STEPS else 1.0 for j in range(5)]
    noise = 0.08 * (STEPS - step)
    value = lambda c, y, x: (
        sum(gain[j] * term(j, c, y, x) for j in range(5)) + noise * grain((c * HEIGHT + y) * WIDTH + x, step)
    )
    all_of_it = [[[value(c, y, x) for x in range(WIDTH)] for y in range(HEIGHT)] for c in range(3)]
    # The toolkit holds pictures in single precision.
    return np.clip(np.array(all_of_it).astype(np.float32), -1, 1).astype(np.float64)


def radius(height, width):
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])


def band_of(r):
    """0 to 4, coarse to fine, by octaves below Nyquist; -1 for the mean."""
    if r == 0:
        return -1
    for band, end in enumerate([1 / 32, 1 / 16, 1 / 8, 1 / 4]):
        if r <= end * (1 + 1e-12):
            return band
    return 4


def levels(steps, last):
    bands = np.vectorize(band_of)(radius(HEIGHT, WIDTH))
    power = lambda plane: (np.abs(np.fft.fft2(plane)) ** 2).sum(0)
    by_band = lambda plane: np.array([power(plane)[bands == b].sum() for b in range(5)])
    whole = by_band(last)
    return whole / whole.sum(), np.array([1 - by_band(step - last) / whole for step in steps])


def coherence(step, last):
    """Cycles over the shorter side up to which every ring's correlation is at least 0.9."""
    side = min(HEIGHT, WIDTH)
    rings = np.floor(radius(HEIGHT, WIDTH) * side + 0.5).astype(int)
    a, b = np.fft.fft2(step), np.fft.fft2(last)
    agreed = 0
    for ring in range(1, side // 2 + 1):
        inside = rings == ring
        shared = (a * b.conj()).real[:, inside].sum()
        correlation = shared / math.sqrt((abs(a) ** 2)[:, inside].sum() * (abs(b) ** 2)[:, inside].sum())
        if correlation < 0.9:
            break
        agreed = ring
    return agreed


def order(arrivals, resolution=0.1):
    def score(values):
        pairs = itertools.combinations(values, 2)
        return sum(0 if abs(b - a) < resolution else (1 if b > a else -1) for a, b in pairs)

    all_orders = [score(values) for values in itertools.permutations(arrivals)]
    return score(arrivals) / 10, sum(s >= score(arrivals) for s in all_orders) / len(all_orders)


def wiener(last, noise, alpha):
    """Channel by channel: √ᾱ S / (ᾱ S + (1 − ᾱ) H W), S the mean power of each ring; the mean is known."""
    said = []
    for clean, noise in zip(last, noise):
        height, width = clean.shape
        rings = np.floor(radius(height, width) * min(height, width) + 0.5).astype(int)
        x, n = np.fft.fft2(clean), np.fft.fft2(noise)
        s = np.zeros_like(rings, dtype=float)
        for ring in np.unique(rings):
            s[rings == ring] = (abs(x) ** 2)[rings == ring].mean()
        noisy = math.sqrt(alpha) * x + math.sqrt(1 - alpha) * n
        filtered = math.sqrt(alpha) * s / (alpha * s + (1 - alpha) * height * width) * noisy
        filtered[0, 0] = x[0, 0]
        said.append(np.fft.ifft2(filtered).real)
    return np.array(said)


last = picture(STEPS)
steps = [picture(step) for step in range(STEPS)]
share, level = levels(steps, last)
arrival = (1 - np.clip(level, 0, 1)).sum(0)
tau, p = order(list(arrival))
latent = lambda seed: np.array([grain(i, seed) for i in range(96)], dtype=np.float32).astype(np.float64).reshape(2, 6, 8)
golden = {
    "share": share.tolist(),
    "levels": level.T.tolist(),
    "arrival": arrival.tolist(),
    "coherence": [coherence(step, last) for step in steps],
    "tau": tau,
    "p": p,
    "wiener": wiener(latent(5) + 0.25, latent(6) * 3, 0.3).ravel().tolist(),
}
OUT.write_text(json.dumps(golden, indent=1) + "\n")
print(OUT, {k: v for k, v in golden.items() if k != "wiener"})
