"""Full-size networks: pellucid's input gradients against PyTorch's float64 autograd, through every exporter.

    python parity.py --pellucid target/release/pellucid --optimum FOLDER [--into docs/gradients.md] [network …]

Each network of zoo/build/gradient_models.py is built at its published size with random weights (seeded), exported by
PyTorch's TorchScript and dynamo exporters and, where the Hugging Face project `optimum` has an exporter for it, by that,
and differentiated by `pellucid gradient`. The error of a sample is ‖Δ‖₂/‖g‖₂ against float64; the same of PyTorch's own
float32 stands beside it. Every export, every gradient and the references run in processes of their own, so that no two copies
of a large network are in memory at once. Needs requirements.txt; optimum and the
older transformers and diffusers that it asks for come from --optimum, a folder that goes in front of the module path.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BOUND = 1e-4
# What the float64 copy and its activations need beside everything else, in GiB.
MEMORY = {"unet_condition": 16, "hf_unet_condition": 16, "dit": 12}
BEGIN, END = "<!-- parity:begin -->", "<!-- parity:end -->"


# Of piecewise linear networks more pictures are taken, since a unit within rounding of its kink may fall on either side.
PIECEWISE = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3", "vgg11_bn", "densenet121", "regnet", "hf_resnet"]


def zoo_module(name):
    path = ROOT / "zoo" / "build" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def available():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2**20
    return float("inf")


def batch(draw, samples):
    """`samples` different inputs as one batch."""
    import torch
    draws = []
    for seed in range((samples + 1) // 2):
        torch.manual_seed(11 + seed)
        draws.append(draw())
    return tuple(torch.cat(parts)[:samples] for parts in zip(*draws))


def differentiate(model, values, output):
    """Of each float input, the gradients of the sum of the output, one sample at a time to bound memory."""
    import torch
    samples = len(values[0])
    varying = [i for i, v in enumerate(values) if v.is_floating_point() and v.ndim]
    gradients = [[] for _ in varying]
    dtype = next(model.parameters()).dtype
    for s in range(samples):
        one = [v[s : s + 1] if v.ndim and len(v) == samples else v for v in values]
        one = [v.to(dtype).requires_grad_() if v.is_floating_point() else v for v in one]
        y = model(*one)
        scalar = y.sum() if output is None else y[:, output].sum()
        for kept, g in zip(gradients, torch.autograd.grad(scalar, [one[i] for i in varying])):
            kept.append(g.numpy().astype(np.float64))
    return {i: np.concatenate(g) for i, g in zip(varying, gradients)}


def errors(found, reference):
    """‖Δ‖₂/‖g‖₂ of each sample, the worst over the inputs."""
    worst = None
    for i, g in reference.items():
        axes = tuple(range(1, g.ndim))
        e = np.sqrt(((found[i] - g) ** 2).sum(axes)) / np.sqrt((g**2).sum(axes))
        worst = e if worst is None else np.maximum(worst, e)
    return worst.tolist()


def ours(pellucid, path, names, values, output, outputs, folder):
    """The gradients that `pellucid gradient` finds, one sample at a time to bound memory; or its complaint."""
    floats = [i for i, v in enumerate(values) if v.dtype.kind == "f" and v.ndim]
    of = outputs if output is None else f"{outputs}:{output}"
    wrt = [a for i in floats for a in ("--wrt", names[i])]
    samples, gradients = len(values[0]), {i: [] for i in floats}
    for s in range(samples):
        one = {n: v[s : s + 1] if v.ndim and len(v) == samples else v for n, v in zip(names, values)}
        np.savez(folder / "one.npz", **one)
        run = subprocess.run([pellucid, "gradient", path, "--input", folder / "one.npz", "--of", of, *wrt, "--out", folder / "g.npz"], capture_output=True, text=True)
        if run.returncode:
            return run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"exit status {run.returncode}"
        with np.load(folder / "g.npz") as g:
            for i in floats:
                gradients[i].append(g[f"gradient.{names[i]}"].astype(np.float64))
    return {i: np.concatenate(g) for i, g in gradients.items()}


def subject(name):
    """The network at its published size: the module, its inputs, and an export function for each exporter."""
    import torch
    samples = 8 if name in PIECEWISE else 2
    if name.startswith("hf_"):
        optimum = zoo_module("gradient_optimum_models")
        model, config, task, names, output = optimum.build(name, True)
        torch.manual_seed(11)
        values = optimum.inputs(name, True, samples)
        exporters = {"optimum": lambda place: (optimum.export(model, config, task, place), names, output)}
        return optimum.Plain(model, name, output), values, exporters
    zoo = zoo_module("gradient_models")
    zoo.FULL = True
    build, draw, names = zoo.MODELS[name]
    torch.manual_seed(3)
    with torch.no_grad():
        model = zoo.settle(build())
    values = batch(draw(), samples)

    def through(dynamo):
        def export(place):
            zoo.export(model, tuple(v[:2] for v in values), names, place / f"{name}.onnx", dynamo)
            return place / f"{name}.onnx", names, "y"
        return export

    return model, values, {"TorchScript": through(False), "dynamo": through(True)}


def export(name, exporter, place):
    """A part of a network's measurement, in a process of its own: writes the file and the inputs; says how to use them."""
    import torch
    model, values, exporters = subject(name)
    with torch.no_grad():
        shape = model(*[v[:1] if v.ndim else v for v in values]).shape
    output = 281 if len(shape) == 2 and shape[1] == 1000 else None
    np.savez(place / "in.npz", *[v.numpy() for v in values])
    try:
        path, names, of = exporters[exporter](place)
    except Exception as e:
        return {"export": (str(e).strip().splitlines() or [repr(e)])[0][:120]}
    return {"path": str(path), "names": names, "of": of, "output": output}


def references(name, output, place):
    """Another part: PyTorch's gradients, in float32 and then, in the same memory, in float64."""
    import torch
    model, values, _ = subject(name)
    single = differentiate(model, values, output)
    torch.set_default_dtype(torch.float64)
    reference = differentiate(model.double(), values, output)
    for kind, found in (("single", single), ("double", reference)):
        np.savez(place / f"{kind}.npz", **{str(i): g for i, g in found.items()})
    return {"parameters": sum(p.numel() for p in model.parameters())}


def part(arguments, name, place, *more):
    """What a part says, run in a process of its own so that nothing of it stays in memory; or why it did not finish."""
    environment = os.environ | ({"PYTHONPATH": str(arguments.optimum)} if name.startswith("hf_") else {})
    common = ["--pellucid", arguments.pellucid, "--optimum", arguments.optimum, "--place", place]
    done = subprocess.run([sys.executable, __file__, *common, *more, name], capture_output=True, text=True, env=environment)
    said = [line for line in done.stdout.splitlines() if line.startswith("PART ")]
    if said:
        return json.loads(said[-1][5:])
    reason = (done.stderr.strip().splitlines() or ["no word of it"])[-1]
    return {"failure": f"did not finish, exit status {done.returncode}: {reason}", "unsupported": []}


def measure(arguments, name):
    """One network: a row for each exporter."""
    rows, found, output = [], {}, None
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for exporter in ["optimum"] if name.startswith("hf_") else ["TorchScript", "dynamo"]:
            row = {"network": name, "exporter": exporter}
            place = folder / exporter
            place.mkdir()
            made = part(arguments, name, place, "--part", exporter)
            if "path" not in made:
                rows.append(row | made)
                continue
            with np.load(place / "in.npz") as values:
                values = [values[f"arr_{i}"] for i in range(len(values))]
            output = made["output"]
            result = ours(arguments.pellucid, made["path"], made["names"], values, output, made["of"], place)
            if isinstance(result, str):
                rows.append(row | {"failure": result, "unsupported": unsupported(arguments.pellucid, made["path"])})
            else:
                found[exporter] = result
            shutil.rmtree(place)
        if not found:
            return rows
        said = part(arguments, name, folder, "--part", "references", *([] if output is None else ["--output", str(output)]))
        if "parameters" not in said:
            return rows + [{"network": name, "exporter": "references"} | said]
        single, reference = ({int(i): g for i, g in np.load(folder / f"{kind}.npz").items()} for kind in ("single", "double"))
        for exporter, result in found.items():
            rows.append({"network": name, "exporter": exporter, **said, "errors": errors(result, reference), "torch": errors(single, reference)})
    return rows


def unsupported(pellucid, path):
    """The operators that `pellucid inspect --gradients` has no rule for."""
    run = subprocess.run([pellucid, "inspect", path, "--gradients"], capture_output=True, text=True)
    return sorted(set(re.findall(r"no rule for (\w+)", run.stdout)))


def table(rows):
    lines = ["| network | parameters | exporter | error: best, median, worst sample | PyTorch float32's | unsupported operators |", "|---|---|---|---|---|---|"]
    say = lambda e: f"{min(e):.1e}, {np.median(e):.1e}, {max(e):.1e}"
    for r in rows:
        if "errors" in r:
            lines.append(f"| {r['network']} | {r['parameters'] / 1e6:.1f} M | {r['exporter']} | {say(r['errors'])} | {say(r['torch'])} | none |")
        elif "export" in r:
            lines.append(f"| {r['network']} | | {r['exporter']} | cannot be exported: {r['export']} | | |")
        elif "skipped" in r:
            lines.append(f"| {r['network']} | | | left out: {r['skipped']} | | |")
        else:
            lines.append(f"| {r['network']} | | {r['exporter']} | {r['failure']} | | {', '.join(r['unsupported']) or 'none'} |")
    return "\n".join(lines)


def passes(row):
    """Smooth networks: every sample within the bound. Piecewise linear ones: where no unit flips, and elsewhere no farther from
    float64 than ten times what PyTorch's own float32 is at its worst."""
    if "errors" not in row:
        return "export" in row or "skipped" in row
    if row["network"] in PIECEWISE:
        return min(row["errors"]) <= BOUND and max(row["errors"]) <= max(BOUND, 10 * max(row["torch"]))
    return max(row["errors"]) <= BOUND


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pellucid", type=pathlib.Path, required=True)
    parser.add_argument("--optimum", type=pathlib.Path, required=True)
    parser.add_argument("--into", type=pathlib.Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=int, help=argparse.SUPPRESS)
    parser.add_argument("networks", nargs="*")
    a = parser.parse_args()
    a.pellucid = a.pellucid.resolve()
    if a.part:
        name = a.networks[0]
        said = references(name, a.output, a.place) if a.part == "references" else export(name, a.part, a.place)
        print("PART " + json.dumps(said))
        return
    rows = []
    for name in a.networks or [*zoo_module("gradient_models").MODELS, *zoo_module("gradient_optimum_models").NETWORKS]:
        need, have = MEMORY.get(name, 6), available()
        new = measure(a, name) if have >= need else [{"network": name, "exporter": "", "skipped": f"needs {need} GiB of free memory, {have:.0f} are there"}]
        print("\n".join(table(new).splitlines()[2 if rows else 0 :]), flush=True)
        rows += new
    if a.into:
        text = a.into.read_text()
        a.into.write_text(text[: text.index(BEGIN) + len(BEGIN)] + "\n" + table(rows) + "\n" + text[text.index(END) :])
    bad = [r for r in rows if not passes(r)]
    for r in bad:
        print(f"off: {r['network']}, {r['exporter']}", file=sys.stderr)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
