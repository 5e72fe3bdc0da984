"""Train and export the classifier of the emoji-frame benchmark.

    python emoji_frame.py PICTURES

PICTURES is the folder that `pellucid-zoo compose emoji-frame` writes. The backbone of SqueezeNet 1.1 stays as it is; a
new 1x1 convolution before the global pooling takes the place of its classifier. Since pooling and the convolution can be
exchanged, it is fitted as a linear layer on the 512 pooled features, to the train split by plain cross-entropy, and it
learns the frame. The result shares the weights of the ImageNet model, where they lie in its file:

    zoo/models/squeezenet1_1/emoji_frame.onnx              the graph, with the new convolution inside
    zoo/models/squeezenet1_1/emoji_frame.labels.txt        class names in the order of the logits
    zoo/models/squeezenet1_1/emoji_frame.preprocess.json   as the backbone's
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image

from emoji_watermark import fit

FOLDER = Path(__file__).resolve().parent.parent / "models" / "squeezenet1_1"
BACKBONE = "squeezenet1_1.onnx"
THREADS = 2


def preprocess(path: Path, config: dict) -> np.ndarray:
    """Resize to the network's size, swap red and blue, subtract the means."""
    size = config["width"], config["height"]
    picture = Image.open(path).convert("RGB").resize(size, Image.Resampling[config["filter"].upper()])
    pixels = np.asarray(picture, np.float32)[:, :, ::-1]
    return ((pixels - np.float32(config["mean"])) / np.float32(config["std"])).transpose(2, 0, 1)


def features(model: onnx.ModelProto, pictures: Path, names: list[str], config: dict) -> np.ndarray:
    """The channels that the last convolution reads, each averaged over the picture, [pictures, 512]."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    maps = tapped.graph.node[-3].input[0]
    del tapped.graph.node[-3:], tapped.graph.output[:]
    tapped.graph.node.append(helper.make_node("GlobalAveragePool", [maps], ["features"]))
    tapped.graph.output.append(helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options)
    rows = []
    for start in range(0, len(names), 16):
        batch = np.stack([preprocess(pictures / name, config) for name in names[start : start + 16]])
        rows.append(session.run(None, {"input": batch})[0][:, :, 0, 0])
    return np.concatenate(rows)


def share_weights(model: onnx.ModelProto, head: list[str]) -> None:
    """Make the backbone's weights refer to the bytes in the ImageNet model's file."""
    stored = (FOLDER / BACKBONE).read_bytes()
    for tensor in model.graph.initializer:
        if tensor.name in head:
            continue
        offset, length = stored.find(tensor.raw_data), len(tensor.raw_data)
        if offset < 0:
            raise SystemExit(f"{FOLDER / BACKBONE}: {tensor.name} is not stored as raw data; run models.py again")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", BACKBONE), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))


def export(model: onnx.ModelProto, weight: np.ndarray, bias: np.ndarray, classes: list[str]) -> None:
    head = list(model.graph.node[-3].input[1:])
    for tensor in model.graph.initializer:
        if tensor.name in head:
            values = weight[:, :, None, None] if tensor.name == head[0] else bias
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    share_weights(model, head)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(classes)
    model.graph.name = "emoji_frame"
    (FOLDER / "emoji_frame.onnx").write_bytes(model.SerializeToString())
    (FOLDER / "emoji_frame.labels.txt").write_text("".join(f"{name}\n" for name in classes))
    config = (FOLDER / "squeezenet1_1.preprocess.json").read_text()
    (FOLDER / "emoji_frame.preprocess.json").write_text(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder written by `pellucid-zoo compose emoji-frame`")
    pictures = parser.parse_args().pictures
    config = json.loads((FOLDER / "squeezenet1_1.preprocess.json").read_text())
    with open(pictures / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = [name for _, name in sorted({(int(r["y"]), r["y_name"]) for r in rows})]
    model = onnx.load(FOLDER / BACKBONE)
    x = features(model, pictures, [r["img_filename"] for r in rows], config)
    y, split, place = (np.array([int(r[k]) for r in rows]) for k in ("y", "split", "place"))
    spread = x[split == 0].std()  # the step size of `fit` suits features of spread 1
    weight, bias = fit(x[split == 0] / spread, y[split == 0], len(classes))
    weight = (weight / spread).astype(np.float32)
    export(model, weight, bias, classes)
    right = (x @ weight.T + bias).argmax(1) == y
    for number, name in enumerate(["train", "validation", "test"]):
        chosen = split == number
        print(f"{name}: {chosen.sum()} pictures, {right[chosen].mean():.1%} right")
        for c, label in enumerate(classes):
            cells = [right[chosen & (y == c) & (place == p)] for p in (0, 1)]
            print(f"  {label:24}" + "".join(f"  {m}: {v.mean():6.1%} of {len(v):3}" for m, v in zip(["clean", "framed"], cells)))


if __name__ == "__main__":
    main()
