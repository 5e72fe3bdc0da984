"""Seconds per optimisation step and peak memory of guided pictures of neurons, against PyTorch.

    python benches/rivals/illusion.py --pellucid target/release/pellucid [--rounds 3] [--threads N]

Both sides ascend the same objective on the same two networks (EfficientNet-Lite0, guided by SqueezeNet 1.1), with the same
batch, side and augmentation. The rival is what the published method does, in eager PyTorch: spectrum, inverse transform,
colour matrix, sigmoid, affine map, resize, crop, noise, both networks forward and backward, AdamW. The two sides alternate.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "classifier": ROOT / "zoo/models/efficientnet_lite0/efficientnet_lite0.onnx",
    "guide": ROOT / "zoo/models/squeezenet1_1/squeezenet1_1.onnx",
}
BATCH, FEW, MANY = 4, 5, 25
TARGETS = [(836, 934), (899, 340), (445, 417), (726, 574)]


class Eager:
    """The few operators of the two networks, in PyTorch."""

    def __init__(self, path, until):
        import onnx
        import torch
        from onnx import numpy_helper

        model = onnx.load(path)
        self.nodes, self.until = list(model.graph.node), until
        array = lambda t: torch.from_numpy(numpy_helper.to_array(t, str(path.parent)).copy())
        self.weights = {t.name: array(t) for t in model.graph.initializer}

    def __call__(self, x):
        import torch
        from torch.nn import functional as f

        values = {"input": x, **self.weights}
        for node in self.nodes:
            a = {p.name: list(p.ints) or p.i or p.f for p in node.attribute}
            v = [values[name] for name in node.input]
            match node.op_type:
                case "Conv":
                    left, top, right, bottom = a["pads"][1], a["pads"][0], a["pads"][3], a["pads"][2]
                    same = left == right and top == bottom
                    x = v[0] if same else f.pad(v[0], (left, right, top, bottom))
                    out = f.conv2d(x, v[1], v[2] if len(v) > 2 else None, a["strides"], (top, left) if same else 0, groups=a.get("group", 1))
                case "BatchNormalization":
                    out = f.batch_norm(v[0], v[3], v[4], v[1], v[2], eps=a["epsilon"])
                case "Clip":
                    out = torch.clamp(v[0], 0, 6)
                case "Relu":
                    out = f.relu(v[0])
                case "Add":
                    out = v[0] + v[1]
                case "MaxPool":
                    out = f.max_pool2d(v[0], 3, 2)
                case "Concat":
                    out = torch.cat(v, 1)
                case "GlobalAveragePool":
                    out = v[0].mean((2, 3), keepdim=True)
                case "Flatten":
                    out = v[0].flatten(1)
                case "Gemm":
                    out = f.linear(v[0], v[1], v[2])
            values[node.output[0]] = out
            if node.output[0] == self.until:
                break
        return values


def ascend(steps):
    """Runs the rival for `steps` steps; prints its seconds per step after two of warming up, and its peak memory."""
    import numpy as np
    import torch
    from torch.nn import functional as f
    from torchvision.transforms import functional as tf

    import onnx

    nodes = onnx.load(MODELS["classifier"]).graph.node
    pooled = next(n.output[0] for n in nodes if n.op_type == "Flatten")
    classifier = Eager(MODELS["classifier"], "logits")
    last = [n for n in onnx.load(MODELS["guide"]).graph.node if n.op_type == "Concat"][-1].output[0]
    guide = Eager(MODELS["guide"], last)
    side = 224
    torch.manual_seed(0)
    spectrum = (torch.randn(BATCH, 3, side, side // 2, 2) * 1e-3).requires_grad_()
    d = 0.5**0.5
    fy, fx = np.fft.fftfreq(side, d)[:, None], np.fft.fftfreq(side, d)[None, : side // 2]
    scale = torch.from_numpy((1 / np.maximum((fx**2 + fy**2) ** 0.75, 1 / (side * d))).astype(np.float32))
    mix = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
    mix = mix / mix.norm(dim=0).max()
    text = f.normalize(torch.randn(BATCH, 512), dim=1)
    neurons, classes = (torch.tensor(column) for column in zip(*TARGETS))
    adam = torch.optim.AdamW([spectrum], lr=9e-3, betas=(0.5, 0.99), weight_decay=1e-3)
    mean = torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    begin = None
    for step in range(steps + 2):
        if step == 2:
            begin = time.perf_counter()
        waves = torch.view_as_complex(spectrum * scale[..., None])
        picture = torch.fft.irfft2(f.pad(waves, (0, 1)), s=(side, side), norm="ortho")
        picture = torch.sigmoid(torch.einsum("ij,bjhw->bihw", mix, picture))
        angle, shift = float(torch.empty(1).uniform_(-15, 15)), [int(s) for s in torch.empty(2).uniform_(-33, 33)]
        moved = tf.affine(picture, angle, shift, 1.0, [0.0])
        size = [int(side * float(torch.empty(1).uniform_(0.6, 1.2))) for _ in range(2)]
        moved = tf.center_crop(f.interpolate(moved, size, mode="bilinear"), [side, side])
        moved = moved + torch.randn(BATCH, 3, 1, 1) * 0.2 * (1 - step / steps)
        seen = classifier((moved * 255 - 127) / 128)
        looked = guide(f.interpolate(moved, (227, 227), mode="bilinear").flip(1) * 255 - mean)[last].mean((2, 3))
        rows = torch.arange(BATCH)
        evidence = seen[pooled][rows, neurons] + 0.5 * seen["logits"][rows, classes]
        likeness = (f.normalize(looked, dim=1) * text).sum(1)
        loss = -((likeness + 0.05).mean() * evidence.mean())
        adam.zero_grad()
        loss.backward()
        adam.step()
    seconds = (time.perf_counter() - begin) / steps
    print(json.dumps({"seconds": seconds, "memory": high_water("self")}))


def high_water(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def pellucid(arguments, steps):
    """Wall seconds and peak memory of one run of the command."""
    command = [arguments.pellucid, "picture", MODELS["classifier"], "--guide", ROOT / "zoo/guides/squeezenet1_1", "--steps", steps,
               "--seeds", "1", "--batch", BATCH, "--threads", arguments.threads, "--runs", arguments.runs, "--name", "bench",
               "--force", "--quiet", "--no-supervisor"]  # fmt: skip
    for neuron, index in TARGETS:
        command += ["--pair", f"{neuron}:{index}"]
    begin, peak = time.perf_counter(), 0
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            peak = max(peak, high_water(process.pid))
        except OSError:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"pellucid ended with {process.returncode}")
    return time.perf_counter() - begin, peak


def rival(arguments, steps):
    command = [sys.executable, __file__, "--ascend", str(steps), "--threads", str(arguments.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--ascend", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ascend:
        import torch

        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        ascend(arguments.ascend)
        return
    ratios, ours, theirs = [], [], []
    for _ in range(arguments.rounds):
        few, many = pellucid(arguments, FEW), pellucid(arguments, MANY)
        ours.append(((many[0] - few[0]) / (MANY - FEW), many[1]))
        theirs.append(rival(arguments, MANY - FEW))
        ratios.append(theirs[-1]["seconds"] / ours[-1][0])
        print(f"a step of {BATCH} pictures: pellucid {ours[-1][0]:.3f} s, PyTorch {theirs[-1]['seconds']:.3f} s", flush=True)
    median = lambda values: statistics.median(values)
    print(f"ratio {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}); peak memory: pellucid "
          f"{median([m for _, m in ours]):.0f} MiB, PyTorch {median([t['memory'] for t in theirs]):.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
