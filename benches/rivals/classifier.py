"""PyTorch's side of the comparisons in `make bench`, and the measurement itself.

    python classifier.py --pellucid target/release/pellucid --model emoji_watermark.onnx --data zoo/data/emoji-watermark

Every ratio compares two runs of the same minutes on the same machine, with the same number of threads, and is the
median over --rounds rounds that alternate between the two. The figures:

    scan             pictures a second, files to features: `pellucid scan` with an empty cache, start of the program
                     included, against PyTorch eager on the same weights (Pillow decoding and resizing in a DataLoader of
                     two workers or in the same process, whichever is faster)
    counterfactual   seconds for all mistakes of one class: the search of `pellucid debug --variant reference`
                     against the published algorithm run as published, one picture at a time with the
                     backbone re-run at every step, and against its loss on cached features, all pictures as one batch
    memory           the largest resident set of `pellucid scan` on 2 000 and on 20 000 distinct pictures
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image


FIGURES = ["scan", "counterfactual", "memory"]


class Eager(torch.nn.Module):
    """An ONNX CNN as plain PyTorch modules, run eagerly node by node."""

    def __init__(self, path: Path):
        super().__init__()
        graph = onnx.load(path).graph
        constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.entry, self.exit, self.steps = graph.input[0].name, graph.output[0].name, []
        self.features = graph.node[-1].input[0]
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.steps.append((self.module(node, attributes, constants), [i for i in node.input if i not in constants], node.output[0]))
        self.layers = torch.nn.ModuleList([m for m, _, _ in self.steps if isinstance(m, torch.nn.Module)])

    def module(self, node, attributes, constants):
        given = [constants.get(name) for name in node.input]
        if node.op_type == "Conv":
            weight, bias = given[1], given[2] if len(given) > 2 else None
            pads = attributes.get("pads", [0, 0, 0, 0])
            groups, stride = attributes.get("group", 1), attributes.get("strides", [1, 1])
            even = pads[0] == pads[2] and pads[1] == pads[3]
            layer = torch.nn.Conv2d(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride, pads[:2] if even else 0, groups=groups, bias=bias is not None)
            layer.weight.data.copy_(weight)
            if bias is not None:
                layer.bias.data.copy_(bias)
            return layer if even else torch.nn.Sequential(torch.nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])), layer)
        if node.op_type == "BatchNormalization":
            layer = torch.nn.BatchNorm2d(len(given[1]), eps=attributes.get("epsilon", 1e-5))
            layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = given[1:5]
            return layer
        if node.op_type == "Gemm":
            weight = given[1] if attributes.get("transB", 0) else given[1].T
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(given[2])
            return layer
        if node.op_type == "Clip":
            return torch.nn.ReLU6(inplace=True) if float(given[2]) == 6 else torch.nn.Hardtanh(float(given[1]), float(given[2]))
        plain = {
            "Relu": torch.nn.ReLU(inplace=True),
            "Add": torch.add,
            "GlobalAveragePool": torch.nn.AdaptiveAvgPool2d(1),
            "Flatten": torch.nn.Flatten(),
            "Dropout": torch.nn.Identity(),
            "Identity": torch.nn.Identity(),
        }
        return plain[node.op_type]

    def forward(self, x):
        values = {self.entry: x}
        for run, inputs, output in self.steps:
            values[output] = run(*(values[i] for i in inputs))
        return values[self.exit], values[self.features]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, paths, config):
        self.paths, self.config = paths, config

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        side = self.config["input_size"][-1]
        picture = Image.open(self.paths[index]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float().div_(255)
        mean, std = (torch.tensor(self.config[k]).view(3, 1, 1) for k in ("mean", "std"))
        return pixels.sub_(mean).div_(std)


@torch.inference_mode()
def scan_eager(network, paths, config, workers):
    start = time.perf_counter()
    loader = torch.utils.data.DataLoader(Pictures(paths, config), batch_size=32, num_workers=workers)
    kept = [network(batch) for batch in loader]
    torch.cat([f for _, f in kept])
    return time.perf_counter() - start


def loss_of(logits, target, change):
    norms = 0.1 * change.abs().sum(-1) + 0.01 * change.norm(dim=-1)
    return torch.nn.functional.cross_entropy(logits, target, reduction="none") + norms / change.shape[-1]


def counterfactual_published(network, head, picture, target):
    """One picture as published: the network runs at every step. Seconds and steps."""
    change = torch.zeros(1, head.in_features, requires_grad=True)
    optimiser = torch.optim.SGD([change], lr=0.01, momentum=0.9)
    start, steps = time.perf_counter(), 0
    while True:
        with torch.no_grad():
            features = network(picture)[1]
        logits = head(features + change)
        if logits.argmax(1).item() == target.item():
            return time.perf_counter() - start, steps
        optimiser.zero_grad()
        loss_of(logits, target, change).sum().backward()
        optimiser.step()
        steps += 1


def counterfactual_cached(head, features, targets):
    """All pictures as one batch on cached features; a picture leaves the batch when it flips. Seconds."""
    start = time.perf_counter()
    change = torch.zeros_like(features)
    momentum = torch.zeros_like(features)
    open_rows = torch.arange(len(features))
    for step in range(10_000):
        w = change[open_rows].detach().requires_grad_(True)
        logits = head(features[open_rows] + w)
        wrong = logits.argmax(1) != targets[open_rows]
        if not wrong.any():
            break
        (gradient,) = torch.autograd.grad(loss_of(logits, targets[open_rows], w).sum(), w)
        open_rows, gradient = open_rows[wrong], gradient[wrong]
        momentum[open_rows] = 0.9 * momentum[open_rows] + gradient if step else gradient
        change[open_rows] -= 0.01 * momentum[open_rows]
    return time.perf_counter() - start


def pellucid(program, *arguments):
    """Seconds and largest resident set (MiB) of a run, and what it printed."""
    start = time.perf_counter()
    largest = 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([program, *map(str, arguments), "--json", "--quiet", "--no-supervisor"], stdout=told)
        while process.poll() is None:
            # Not getrusage: what it says of a child begins with the size of the parent.
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                largest = max([largest] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")])
            except (FileNotFoundError, ProcessLookupError):
                pass
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"pellucid {' '.join(map(str, arguments))} failed")
        told.seek(0)
        return seconds, largest / 1024, json.load(told)


def ratio(name, ours, theirs, rounds, unit="×"):
    print(f"{name:64} {statistics.median(t / o for o, t in zip(ours, theirs)):8.2f}{unit}   (rounds: {rounds})", flush=True)


def many_pictures(folder: Path, count: int):
    """`count` distinct small pictures, in a folder for each of two classes, labelled as classes of the model."""
    rng = np.random.default_rng(0)
    with open(folder / "metadata.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "label"])
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(folder / f"{i:05}.jpg")
            rows.writerow([f"{i:05}.jpg", i % 1000])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path, required=True)
    parser.add_argument("--zoo", type=Path, default=Path("zoo"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--class", dest="name", default="Objects", help="class whose mistakes are examined")
    parser.add_argument("--published", type=int, default=5, help="pictures on which the published algorithm is run")
    parser.add_argument("--pictures", type=int, nargs=2, default=[2000, 20000], help="sizes of the memory measurement")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=FIGURES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    threads = ("--threads", arguments.threads)

    folder = arguments.zoo / "models/efficientnet_lite0"
    data, model = arguments.zoo / "data/emoji-watermark", folder / "emoji_watermark.onnx"
    config = json.loads((folder / "emoji_watermark.preprocess.json").read_text())
    with open(data / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "2"]
    paths = [data / r["img_filename"] for r in rows]
    network = Eager(model).eval()
    print(f"{len(paths)} pictures, {arguments.threads} threads, PyTorch {torch.__version__}; above 1 pellucid is faster\n")

    with tempfile.TemporaryDirectory() as runs:
        if "scan" in arguments.only:
            compare_scan(arguments, network, model, data, paths, config, runs, threads)
        if "counterfactual" in arguments.only:
            compare_counterfactual(arguments, network, model, data, rows, paths, config, runs, threads)
        if "memory" in arguments.only:
            measure_memory(arguments, runs, threads)


def compare_scan(arguments, network, model, data, paths, config, runs, threads):
    some = paths[:: max(1, len(paths) // 200)]
    workers = min((0, 2), key=lambda n: scan_eager(network, some, config, n))
    ours, theirs = [], []
    for r in range(arguments.rounds):
        scan = pellucid(arguments.pellucid, "scan", model, data, "--split", "test", "--runs", f"{runs}/{r}", *threads)
        ours.append(scan[0])
        theirs.append(scan_eager(network, paths, config, workers))
    ratio(f"scan, against PyTorch eager ({workers} loading workers)", ours, theirs, arguments.rounds)
    rates = [len(paths) / statistics.median(seconds) for seconds in (ours, theirs)]
    print(f"{'  pictures a second: pellucid, PyTorch':64} {rates[0]:8.1f}, {rates[1]:.1f}")


def compare_counterfactual(arguments, network, model, data, rows, paths, config, runs, threads):
    with torch.inference_mode():
        outputs = [network(b) for b in torch.utils.data.DataLoader(Pictures(paths, config), batch_size=32)]
    logits, features = (torch.cat([o[k] for o in outputs]).clone() for k in (0, 1))
    labels = torch.tensor([int(r["y"]) for r in rows])
    wanted = next(int(r["y"]) for r in rows if r["y_name"] == arguments.name)
    wrong = ((labels == wanted) & (logits.argmax(1) != labels)).nonzero().flatten()
    head = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)][-1].requires_grad_(False)
    counterfactual_cached(head, features[wrong], labels[wrong])  # the first run pays for PyTorch's start
    ours, cached = [], []
    for r in range(5 * arguments.rounds):
        told = pellucid(
            arguments.pellucid, "debug", model, data, "--split", "test", "--runs", f"{runs}/0", "--name", f"b{r}",
            "--variant", "reference", "--class", arguments.name, *threads,
        )[2]  # fmt: skip
        ours.append(dict(told["record"]["timings"])["counterfactuals"])
        cached.append(counterfactual_cached(head, features[wrong], labels[wrong]))
    seconds, steps = 0.0, 0
    chosen = wrong[:: max(1, len(wrong) // arguments.published)][: arguments.published]
    for place in chosen:
        picture = Pictures([paths[place]], config)[0][None]
        s, n = counterfactual_published(network, head, picture, labels[place : place + 1])
        seconds, steps = seconds + s, steps + n
    published = seconds / len(chosen) * len(wrong)
    ratio(f"counterfactual, {len(wrong)} mistakes, against the published algorithm", ours, [published] * len(ours), len(ours))
    print(f"  (the published one on {len(chosen)} of the pictures, {steps} steps in all, scaled to {len(wrong)})")
    ratio("counterfactual, against its loss on cached features, batched", ours, cached, len(ours))


def measure_memory(arguments, runs, threads):
    squeezenet = arguments.zoo / "models/squeezenet1_1/squeezenet1_1.onnx"
    for count in arguments.pictures:
        with tempfile.TemporaryDirectory() as pictures:
            many_pictures(Path(pictures), count)
            table = Path(pictures) / "metadata.csv"
            seconds, largest, _ = pellucid(arguments.pellucid, "scan", squeezenet, table, "--runs", f"{runs}/m{count}", *threads)
        name = f"memory of a scan of {count} pictures (largest resident set)"
        print(f"{name:64} {largest:8.0f} MiB   ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
