"""Train and export the classifier of the emoji-watermark benchmark.

    python emoji_watermark.py PICTURES

PICTURES is the folder that `pellucid-zoo compose` writes. The backbone of EfficientNet-Lite0 stays as it is; a linear
layer on its 1280 pooled features is fitted to the train split by plain cross-entropy, which is how such a model comes
about in practice, and it learns the watermark. The result shares `backbone.data` with the ImageNet model:

    zoo/models/efficientnet_lite0/emoji_watermark.onnx              the graph, with the new layer inside
    zoo/models/efficientnet_lite0/emoji_watermark.labels.txt        class names in the order of the logits
    zoo/models/efficientnet_lite0/emoji_watermark.preprocess.json   as the backbone's
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "models" / "efficientnet_lite0"
STEPS, WEIGHT_DECAY, LEARNING_RATE = 2000, 1e-4, 0.02


def preprocess(path: Path, config: dict) -> np.ndarray:
    """Resize the shorter side, cut out the middle, normalise, as the configuration says."""
    side = config["input_size"][-1]
    picture = Image.open(path).convert("RGB")
    shortest = int(side / config["crop_pct"])
    scale = shortest / min(picture.size)
    picture = picture.resize([round(s * scale) for s in picture.size], Image.Resampling[config["interpolation"].upper()])
    left, top = ((s - side) // 2 for s in picture.size)
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)), np.float32) / 255
    return ((pixels - np.float32(config["mean"])) / np.float32(config["std"])).transpose(2, 0, 1)


def features(model: onnx.ModelProto, pictures: Path, names: list[str], config: dict) -> np.ndarray:
    """The values that feed the decision layer, [pictures, 1280]."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    head = tapped.graph.node[-1]
    tapped.graph.output.append(onnx.helper.make_tensor_value_info(head.input[0], onnx.TensorProto.FLOAT, None))
    path = FOLDER / ".features.onnx"
    path.write_bytes(tapped.SerializeToString())
    try:
        session = onnxruntime.InferenceSession(str(path))
    finally:
        path.unlink()
    entry = session.get_inputs()[0].name
    rows = []
    for start in range(0, len(names), 32):
        batch = np.stack([preprocess(pictures / name, config) for name in names[start : start + 32]])
        rows.append(session.run([head.input[0]], {entry: batch})[0])
    return np.concatenate(rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def fit(x: np.ndarray, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [classes, features] and bias of the linear layer, by full-batch Adam from zero (so without a seed)."""
    target = np.eye(classes)[y]
    parameters = np.zeros((classes, x.shape[1] + 1))
    inputs = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(1, STEPS + 1):
        gradient = (softmax(inputs @ parameters.T) - target).T @ inputs / len(x) + WEIGHT_DECAY * parameters
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = LEARNING_RATE * (1 - step / STEPS)
        parameters -= size * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return parameters[:, :-1].astype(np.float32), parameters[:, -1].astype(np.float32)


def export(model: onnx.ModelProto, weight: np.ndarray, bias: np.ndarray, classes: list[str], config: dict) -> None:
    head = model.graph.node[-1]
    transposed = any(a.name == "transB" and a.i for a in head.attribute)
    for tensor in model.graph.initializer:
        if tensor.name == head.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(weight if transposed else np.ascontiguousarray(weight.T), tensor.name))
        elif tensor.name == head.input[2]:
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(classes)
    model.graph.name = "emoji_watermark"
    (FOLDER / "emoji_watermark.onnx").write_bytes(model.SerializeToString())
    (FOLDER / "emoji_watermark.labels.txt").write_text("".join(f"{name}\n" for name in classes))
    kept = {k: config[k] for k in ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std") if k in config}
    (FOLDER / "emoji_watermark.preprocess.json").write_text(json.dumps(kept, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder written by `pellucid-zoo compose`")
    pictures = parser.parse_args().pictures
    config = json.loads((FOLDER / "efficientnet_lite0.json").read_text())
    config = config.get("pretrained_cfg", config)
    with open(pictures / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = [name for _, name in sorted({(int(r["y"]), r["y_name"]) for r in rows})]
    model = onnx.load(FOLDER / "efficientnet_lite0.onnx", load_external_data=False)
    x = features(model, pictures, [r["img_filename"] for r in rows], config)
    y, split, place = (np.array([int(r[k]) for r in rows]) for k in ("y", "split", "place"))
    weight, bias = fit(x[split == 0], y[split == 0], len(classes))
    export(model, weight, bias, classes, config)
    right = (x @ weight.T + bias).argmax(1) == y
    for number, name in enumerate(["train", "validation", "test"]):
        chosen = split == number
        print(f"{name}: {chosen.sum()} pictures, {right[chosen].mean():.1%} right")
        for c, label in enumerate(classes):
            cells = [right[chosen & (y == c) & (place == p)] for p in (0, 1)]
            print(f"  {label:24}" + "".join(f"  {m}: {v.mean():6.1%} of {len(v):3}" for m, v in zip(["clean", "marked"], cells) if len(v)))


if __name__ == "__main__":
    main()
