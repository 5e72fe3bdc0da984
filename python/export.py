#!/usr/bin/env python3
"""Export a PyTorch image classifier to ONNX, with its preprocessing beside it, and check parity.

    python export.py timm resnet50.a1_in1k                       --out model/
    python export.py torchvision resnet18 --weights DEFAULT      --out model/
    python export.py mine my_package.models:build --checkpoint best.pt --size 224 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --classes names.txt --out model/

Writes, in the folder --out:

    model.onnx               the network in evaluation mode, batch free, logits out
    model.onnx.data          its weights, where they exceed what one file may hold
    model.preprocess.json    how a picture becomes the input (pellucid reads it by itself)
    classes.txt              class names, one a line, where they are known

`mine` takes `module:callable`; the callable returns the torch.nn.Module, and --checkpoint is loaded into it
(`state_dict`, or a dict with one under `state_dict` or `model`). Nothing is guessed: without --mean and --std a
model of one's own is refused, since a wrong normalisation gives a model that seems to work.

Needs: torch, onnx, onnxruntime, numpy; and timm or torchvision for models of theirs.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest", "lanczos": "lanczos"}


def numbers(text):
    values = [float(v) for v in text.split(",")]
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError("expected one number or three, separated by commas")
    return values * 3 if len(values) == 1 else values


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=["timm", "torchvision", "mine"])
    parser.add_argument("model", help="a model's name, or module:callable")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--checkpoint", type=Path, help="weights to load (.pt, .pth, .safetensors)")
    parser.add_argument("--weights", help="torchvision's weights, for example DEFAULT; none: random")
    parser.add_argument("--num-classes", type=int, help="size of the head, where the checkpoint changes it")
    parser.add_argument("--size", type=int, help="input size in pixels")
    parser.add_argument("--crop-pct", type=float, help="the shorter side is resized to size / crop-pct before the centre crop")
    parser.add_argument("--filter", choices=FILTERS, help="filter of the resize")
    parser.add_argument("--mean", type=numbers, help="R,G,B of pictures in [0, 1]")
    parser.add_argument("--std", type=numbers, help="R,G,B of pictures in [0, 1]")
    parser.add_argument("--classes", type=Path, help="file of class names, one a line, in the order of the logits")
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest relative difference allowed between PyTorch and ONNX")
    return parser.parse_args()


def load_checkpoint(path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {k.removeprefix("module."): v for k, v in state.items()}


def from_timm(args):
    import timm

    extra = {} if args.num_classes is None else {"num_classes": args.num_classes}
    model = timm.create_model(args.model, pretrained=args.checkpoint is None, **extra)
    cfg = timm.data.resolve_data_config({}, model=model)
    found = dict(size=cfg["input_size"][-1], crop_pct=cfg["crop_pct"], filter=cfg["interpolation"], mean=list(cfg["mean"]), std=list(cfg["std"]))
    return model, found, None, f"timm's configuration of {args.model}"


def from_torchvision(args):
    import torchvision

    weights = torchvision.models.get_model_weights(args.model)[args.weights] if args.weights else None
    extra = {} if args.num_classes is None else {"num_classes": args.num_classes}
    model = torchvision.models.get_model(args.model, weights=weights, **extra)
    if weights is None:
        return model, {}, None, "the command line"
    t = weights.transforms()
    size = t.crop_size[0]
    found = dict(size=size, crop_pct=size / t.resize_size[0], filter=t.interpolation.value, mean=list(t.mean), std=list(t.std))
    return model, found, weights.meta.get("categories"), f"torchvision's transforms of {weights}"


def from_factory(args):
    module, _, name = args.model.partition(":")
    if not name:
        sys.exit(f"error: '{args.model}' is not module:callable")
    sys.path.insert(0, ".")
    return getattr(importlib.import_module(module), name)(), {}, None, "the command line"


def settings(args, found, source):
    """The preprocessing: what the library says, with the command line on top."""
    given = dict(size=args.size, crop_pct=args.crop_pct, filter=args.filter, mean=args.mean, std=args.std)
    merged = {**{"crop_pct": 1.0, "filter": "bilinear"}, **found, **{k: v for k, v in given.items() if v is not None}}
    missing = [k for k in ("size", "mean", "std") if k not in merged]
    if missing:
        sys.exit("error: the preprocessing is not known; give " + ", ".join("--" + m for m in missing))
    if merged["filter"] not in FILTERS:
        sys.exit(f"error: filter '{merged['filter']}' is not one of {', '.join(FILTERS)}; give --filter")
    changed = [k for k, v in given.items() if v is not None and k in found]
    return merged, source + (f", {', '.join(changed)} from the command line" if changed else "")


def write_preprocessing(path, s, source):
    config = dict(
        width=s["size"], height=s["size"], resize={"crop_pct": s["crop_pct"]}, filter=FILTERS[s["filter"]], channels="rgb", layout="nchw",
        scale=1 / 255, mean=s["mean"], std=s["std"], source=source,
    )
    path.write_text(json.dumps(config, indent=2) + "\n")


def export(model, path, size, opset):
    sample = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.onnx.export(
            model, (sample,), str(path), input_names=["input"], output_names=["logits"], opset_version=opset,
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}}, dynamo=False,
        )


def check(model, path, size, tolerance):
    """Compares PyTorch and ONNX Runtime on a batch of another size than the export's."""
    import onnxruntime

    sample = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(sample).numpy()
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": sample.numpy()})[0]
    difference = float(np.abs(expected - found).max() / max(1e-6, np.abs(expected).max()))
    if found.shape != expected.shape or not difference <= tolerance:
        sys.exit(f"error: ONNX differs from PyTorch by {difference:.2e} of the largest logit (allowed {tolerance:.0e}); the export is not faithful")
    return expected.shape[1], difference


def main():
    args = arguments()
    model, found, names, source = {"timm": from_timm, "torchvision": from_torchvision, "mine": from_factory}[args.source](args)
    if args.checkpoint:
        model.load_state_dict(load_checkpoint(args.checkpoint))
    model = model.float().eval()
    chosen, source = settings(args, found, source)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "model.onnx"
    export(model, path, chosen["size"], args.opset)
    classes, difference = check(model, path, chosen["size"], args.tolerance)
    write_preprocessing(args.out / "model.preprocess.json", chosen, source)
    if args.classes:
        names = args.classes.read_text(encoding="utf-8").splitlines()
    if names and len(names) != classes:
        sys.exit(f"error: {len(names)} class names for {classes} logits")
    if names:
        (args.out / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    print(f"{path}: {classes} classes, {chosen['size']} pixels, differs from PyTorch by {difference:.1e} of the largest logit")
    print(f"next: pellucid debug {path} PICTURES/" + (f" --classes {args.out / 'classes.txt'}" if names else ""))


if __name__ == "__main__":
    main()
