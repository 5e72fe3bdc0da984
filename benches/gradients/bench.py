"""Forward and forward + input gradient: pellucid's graph on ONNX Runtime against PyTorch eager and channels_last.

    python benches/gradients/bench.py --pellucid target/release/pellucid --out benches/gradients/results.json

Rivals are interleaved round by round in one process; the medians, and the ratio with the interval in which 95 % of
bootstrap medians of the per-round ratios lie, go to the JSON. Beside them run the network's bare convolutions (a ratio
below 1 is how near that floor pellucid is) and, for gradients, pellucid's own forward pass. Needs torch, torchvision, diffusers, onnx, onnxruntime.
"""

import argparse
import copy
import json
import pathlib
import subprocess
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import torch
import torch.fx.experimental.optimization

warnings.filterwarnings("ignore")


def resnet50():
    import torchvision
    model = torchvision.models.resnet50().eval()
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 1.5)
    return model, lambda b: (torch.randn(b, 3, 224, 224),), ["x"], "y:281", lambda y: y[:, 281].sum()


class Sample(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, t):
        return self.inner(x, t).sample


def unet():
    from diffusers import UNet2DModel
    inner = UNet2DModel(sample_size=32, block_out_channels=(64, 128, 256), layers_per_block=2, norm_num_groups=32,
                        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
                        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=64)
    return Sample(inner).eval(), lambda b: (torch.randn(b, 3, 32, 32), torch.full((b,), 500)), ["x", "t"], "y", lambda y: y.sum()


def folded(model):
    """Batch normalisation folded into convolutions, channels last: the fairest rival."""
    try:
        model = torch.fx.experimental.optimization.fuse(model)
    except Exception:
        pass
    return model.to(memory_format=torch.channels_last)


def eager(model, inputs, objective, gradient):
    x = inputs[0]
    if not gradient:
        with torch.no_grad():
            return model(*inputs)
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(objective(model(leaf, *inputs[1:])), leaf)[0]


def bare(model, inputs, gradient):
    """The network's convolutions alone, through oneDNN in its favourite layout: the floor."""
    convolutions = []

    def note(module, given, made):
        last = lambda t: torch.randn_like(t).to(memory_format=torch.channels_last)
        step = (module.stride, module.padding, module.dilation, False, (0, 0), module.groups)
        convolutions.append((last(given[0]), last(module.weight), module.bias, last(made), step))

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()

    @torch.no_grad()
    def run():
        for x, w, b, y, step in convolutions:
            torch.ops.aten.convolution(x, w, b, *step)
        if gradient:
            for x, w, _, y, step in reversed(convolutions):
                torch.ops.aten.convolution_backward(y, x, w, None, *step, (True, False, False))

    return run


def profile(path, feed, threads, folder, runs=6):
    """Milliseconds per operator: medians over runs after the first, summed over nodes."""
    measured = session(path, threads, profile=str(folder / "profile"))
    for _ in range(runs + 1):
        measured.run(None, feed)
    nodes = {}
    for event in json.loads(pathlib.Path(measured.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"] / 1e3)
    operators = {}
    for (operator, _), times in nodes.items():
        operators[operator] = operators.get(operator, 0.0) + float(np.median(times[1:]))
    return dict(sorted(operators.items(), key=lambda o: -o[1]))


def session(path, threads, profile=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# Processor time says something on a busy machine too, with one thread.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


# Worker threads of a rival spin for a while after its run and would take a core from the next one: up to 1.6 times its time.
PAUSE = 0.2


def rounds(rivals, count, clock, warm=2):
    times = {name: [] for name in rivals}
    for i in range(warm + count):
        for name, run in rivals.items():
            time.sleep(PAUSE)
            start = clock()
            run()
            if i >= warm:
                times[name].append(clock() - start)
    return {name: np.array(t) for name, t in times.items()}


def ratio(ours, theirs):
    """Median of the per-round ratios, with the 95 % interval of its bootstrap."""
    ratios = theirs / ours
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return [float(np.median(ratios)), float(low), float(high)]


def bench(name, build, batches, arguments, folder):
    model, make, names, of, objective = build()
    for p in model.parameters():
        p.requires_grad_(False)
    path, gradient_path = folder / f"{name}.onnx", folder / f"{name}.gradient.onnx"
    example = make(2)
    dynamic = {n: {0: "batch"} for n in [*names, "y"]}
    torch.onnx.export(model, example, str(path), dynamo=False, dynamic_axes=dynamic, input_names=names, output_names=["y"])
    np.savez(folder / "in.npz", **{n: v.numpy() for n, v in zip(names, example)})
    command = [arguments.pellucid, "gradient", path, "--input", folder / "in.npz", "--of", of, "--wrt", "x", "--graph", gradient_path]
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    forward, backward = session(path, arguments.threads), session(gradient_path, arguments.threads)
    results = []
    for batch in batches:
        inputs = make(batch)
        feed = {n: v.numpy() for n, v in zip(names, inputs)}
        channels = (inputs[0].to(memory_format=torch.channels_last), *inputs[1:])
        last = folded(copy.deepcopy(model))
        ours = backward.run(["gradient.x"], feed)[0]
        theirs = eager(model, inputs, objective, True).numpy()
        error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        for kind, gradient in (("forward", False), ("forward + gradient", True)):
            run = backward if gradient else forward
            rivals = {
                "pellucid": lambda: run.run(None, feed),
                "eager": lambda: eager(model, inputs, objective, gradient),
                "channels_last, folded": lambda: eager(last, channels, objective, gradient),
                "bare convolutions": bare(model, inputs, gradient),
            }
            if gradient:
                rivals["own forward"] = lambda: forward.run(None, feed)
            times = rounds(rivals, arguments.rounds, CLOCKS[arguments.clock])
            entry = {"model": name, "batch": batch, "kind": kind, "error": error}
            entry["milliseconds"] = {n: float(np.median(t) * 1e3) for n, t in times.items()}
            entry["ratio"] = {n: ratio(times["pellucid"], t) for n, t in times.items() if n != "pellucid"}
            if gradient:
                operators = profile(gradient_path, feed, arguments.threads, folder)
                entry["profile"] = operators
                entry["outside Conv"] = 1 - operators["Conv"] / sum(operators.values())
                shown = ", ".join(f"{o} {ms:.1f}" for o, ms in list(operators.items())[:10])
                print(f"{name} batch {batch} profile, ms: {shown}; outside Conv {entry['outside Conv']:.0%}", flush=True)
            results.append(entry)
            show = ", ".join(f"{n} {ms:.1f}" for n, ms in entry["milliseconds"].items())
            gain = ", ".join(f"{n} {r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]" for n, r in entry["ratio"].items())
            print(f"{name} batch {batch} {kind}: {show} ms; ratio to {gain}; gradient error {error:.1e}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pellucid", required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", choices=["resnet50", "unet"], nargs="*", default=["resnet50", "unet"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for name, build in {"resnet50": resnet50, "unet": unet}.items():
            if name not in arguments.only:
                continue
            results += bench(name, build, arguments.batches, arguments, pathlib.Path(folder))
    if arguments.out:
        versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "threads": arguments.threads, "clock": arguments.clock}
        arguments.out.write_text(json.dumps({"versions": versions, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
