"""PyTorch's side of `make bench-repair`, and the measurement itself.

    ORT_DYLIB_PATH=.runtime python repair.py --pellucid target/release/examples/repair_timing

Repairs the decision layer on made-up cached features of EfficientNet-Lite0's size, in rounds that alternate:

    whole     seconds of the whole repair with the default edit (neurons found, three pulls fitted, before and after
              compared) against the published recipe's cost per epoch on as many pictures: forward passes of the whole
              network in PyTorch, without reading pictures and without backward passes. Measured on --pictures of them and scaled
    cached    seconds of an epoch of the published loss in batches of 128 on the same cached features, validation
              included, ours against PyTorch
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch

from classifier import Eager

WIDTH, CLASSES, BATCH, SUSPECTS = 1280, 8, 128, [3, 5, 8, 13, 21]


@torch.inference_mode()
def epoch_of_passes(network, pictures):
    """Seconds of forward passes over `pictures` made-up inputs."""
    batch = torch.randn(32, 3, 224, 224)
    start = time.perf_counter()
    for _ in range(pictures // 32):
        network(batch)
    return (time.perf_counter() - start) / (pictures // 32 * 32)


def epoch_on_cached(features, labels, validation, epochs):
    """Seconds of an epoch of the published loss with Adam on the decision layer."""
    layer = torch.nn.Linear(WIDTH, CLASSES)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    keep = torch.ones(WIDTH)
    keep[SUSPECTS] = 0
    start = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(BATCH):
            f, y = features[rows], labels[rows]
            logits = layer(f)
            p, q = logits.softmax(1)[:, 0], layer(f * keep).softmax(1)[:, 0]
            loss = torch.nn.functional.cross_entropy(logits, y) + 0.01 * (p / (q + 1e-9) - 1).norm()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.inference_mode():
            layer(validation).argmax(1)
    return (time.perf_counter() - start) / epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path, required=True, help="the example repair_timing")
    parser.add_argument("--zoo", type=Path, default=Path("zoo"))
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = Eager(arguments.zoo / "models/efficientnet_lite0/emoji_watermark.onnx").eval()
    features, labels = torch.rand(arguments.samples, WIDTH), torch.arange(arguments.samples) % CLASSES
    command = [str(arguments.pellucid), *map(str, (arguments.samples, WIDTH, CLASSES, arguments.epochs))]
    environment = os.environ | {"RAYON_NUM_THREADS": str(arguments.threads)}
    epoch_of_passes(network, 32)  # the first run pays for PyTorch's start
    ours, passes, cached = [], [], []
    for _ in range(arguments.rounds):
        ours.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout))
        passes.append(epoch_of_passes(network, arguments.pictures) * arguments.samples)
        cached.append(epoch_on_cached(features, labels, features[: arguments.samples // 4], arguments.epochs))
        print(f"repair {ours[-1]['repair']:.2f} s, epoch of passes {passes[-1]:.0f} s; epoch on cached features: "
              f"ours {ours[-1]['epoch']:.3f} s, PyTorch {cached[-1]:.3f} s", flush=True)  # fmt: skip
    for name, key, theirs in [
        ("whole repair, against one epoch of the published recipe's passes", "repair", passes),
        ("an epoch of its passes, against one of ours on cached features", "epoch", passes),
        ("an epoch of the published loss on cached features", "epoch", cached),
    ]:
        ratios = [t / o[key] for o, t in zip(ours, theirs)]
        print(f"{name:68} {statistics.median(ratios):8.1f}×   ({min(ratios):.1f}–{max(ratios):.1f})")


if __name__ == "__main__":
    main()
