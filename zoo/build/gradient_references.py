"""Makes zoo/gradients/operators.safetensors: small ONNX models, one per case, with PyTorch float64 gradients.

    python zoo/build/gradient_references.py            (needs numpy, torch, onnx, onnxruntime, safetensors)

Each case holds its model's bytes, its inputs, a weight r for every element of the output y, y itself and the gradient of
sum(r * y) with respect to every float input, computed by PyTorch autograd in float64. The forward pass of ONNX Runtime
must agree with PyTorch before a case is stored, so that both mean the same operator.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "gradients" / "operators.safetensors"
TENSORS: dict[str, np.ndarray] = {}
NAMES: list[str] = []


def numbers(*shape, low=-1.0, high=1.0, seed=0, gap=0.0):
    """Uniform numbers; `gap` keeps them away from 0, where a kink may lie."""
    rng = np.random.default_rng(sum(shape) * 31 + len(shape) + seed)
    v = rng.uniform(low, high, shape)
    return (np.where(v < 0, v - gap, v + gap) if gap else v).astype(np.float32)


def distinct(*shape, seed=0):
    """A shuffled grid of numbers: no ties, and no two nearer than 0.01."""
    n = int(np.prod(shape))
    rng = np.random.default_rng(n + seed)
    return ((rng.permutation(n) - n / 2 + 0.25) * max(0.01, 2.0 / n)).reshape(shape).astype(np.float32)


ELEMENT = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64, np.dtype("bool"): TensorProto.BOOL}


def case(name, nodes, inputs, torch_fn, consts=None, opset=18, fixed=False, tolerance=1e-5, functions=(), imports=()):
    """Stores one case. `nodes` is an operator name, a (name, attributes) pair or a list of nodes that end in `y`."""
    consts = consts or {}
    if isinstance(nodes, str):
        nodes = (nodes, {})
    if isinstance(nodes, tuple):
        op, attributes = nodes
        order = attributes.pop("_inputs", [*inputs, *consts])
        outputs = attributes.pop("_outputs", ["y"])
        nodes = [helper.make_node(op, order, outputs, **attributes)]

    def declare(n, a):
        shape = [a.shape[0] if fixed or a.ndim == 0 else "N", *a.shape[1:]] if a.ndim else []
        return helper.make_tensor_value_info(n, ELEMENT[a.dtype], shape)

    graph = helper.make_graph(
        nodes,
        name,
        [declare(n, a) for n, a in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in consts.items()],
    )
    opsets = [helper.make_opsetid("", opset), *imports]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)
    data = model.SerializeToString()
    tensors = {
        n: torch.tensor(a, dtype=torch.float64, requires_grad=True) if a.dtype == np.float32 else torch.tensor(a)
        for n, a in inputs.items()
    }
    fixed_tensors = {n: torch.tensor(np.asarray(a)).double() if np.asarray(a).dtype == np.float32 else torch.tensor(np.asarray(a)) for n, a in consts.items()}
    y = torch_fn(**tensors, **fixed_tensors)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(["y"], {n: a for n, a in inputs.items()})[0]
    assert found.shape == tuple(y.shape), f"{name}: {found.shape} and {tuple(y.shape)}"
    worst = np.abs(found - y.detach().numpy()).max() if found.size else 0
    assert worst <= tolerance * 10 * max(1.0, float(y.detach().abs().max())), f"{name}: outputs differ by {worst}"
    weight = np.asarray(numbers(*y.shape, low=0.2, seed=7), dtype=np.float32)
    wrt = [n for n, t in tensors.items() if t.is_floating_point()]
    grads = torch.autograd.grad((y * torch.tensor(weight).double()).sum(), [tensors[n] for n in wrt])
    TENSORS[f"{name}|model"] = np.frombuffer(data, dtype=np.uint8)
    TENSORS[f"{name}|weight"] = weight
    TENSORS[f"{name}|y"] = y.detach().numpy().astype(np.float32)
    if tolerance != 1e-5:
        TENSORS[f"{name}|tolerance"] = np.array([tolerance], dtype=np.float32)
    for n, a in inputs.items():
        TENSORS[f"{name}|in|{n}"] = a.astype(np.uint8) if a.dtype == bool else a
    for n, g in zip(wrt, grads):
        TENSORS[f"{name}|grad|{n}"] = g.numpy().astype(np.float32)
    NAMES.append(name)


def activations():
    x = numbers(2, 3, 4, low=-3, high=3, gap=0.05)
    small = numbers(2, 5, low=-0.9, high=0.9, gap=0.02)
    positive = numbers(2, 5, low=0.3, high=3)
    one = [
        ("Abs", {}, x, torch.abs), ("Neg", {}, x, torch.neg), ("Relu", {}, x, torch.relu), ("Exp", {}, x, torch.exp),
        ("Log", {}, positive, torch.log), ("Sqrt", {}, positive, torch.sqrt), ("Reciprocal", {}, positive, torch.reciprocal),
        ("Sigmoid", {}, x, torch.sigmoid), ("Tanh", {}, x, torch.tanh), ("Erf", {}, x, torch.erf),
        ("Softplus", {}, x, F.softplus), ("Softsign", {}, x, F.softsign), ("Mish", {}, x, F.mish),
        ("HardSwish", {}, x * 2, F.hardswish), ("Sin", {}, x, torch.sin), ("Cos", {}, x, torch.cos), ("Tan", {}, small, torch.tan),
        ("Asin", {}, small, torch.asin), ("Acos", {}, small, torch.acos), ("Atan", {}, x, torch.atan),
        ("Sinh", {}, x, torch.sinh), ("Cosh", {}, x, torch.cosh), ("Asinh", {}, x, torch.asinh),
        ("Acosh", {}, positive + 1, torch.acosh), ("Atanh", {}, small, torch.atanh), ("Identity", {}, x, lambda x: x * 1),
        ("Elu", {"alpha": 0.7}, x, lambda x: F.elu(x, 0.7)), ("Celu", {"alpha": 0.7}, x, lambda x: F.celu(x, 0.7)),
        ("Selu", {}, x, F.selu), ("LeakyRelu", {"alpha": 0.2}, x, lambda x: F.leaky_relu(x, 0.2)),
        ("ThresholdedRelu", {"alpha": 0.7}, x, lambda x: F.threshold(x, 0.7, 0.0)),
        ("HardSigmoid", {"alpha": 0.2, "beta": 0.4}, x * 2, lambda x: (0.2 * x + 0.4).clamp(0, 1)),
        ("Shrink", {"bias": 0.3, "lambd": 0.3}, x, lambda x: F.softshrink(x, 0.3)),
    ]
    for op, attributes, data, fn in one:
        case(f"{op}", (op, dict(attributes)), {"x": data}, lambda x, fn=fn: fn(x))
    case("Gelu", "Gelu", {"x": x}, lambda x: F.gelu(x), opset=20)
    case("Gelu tanh", ("Gelu", {"approximate": "tanh"}), {"x": x}, lambda x: F.gelu(x, approximate="tanh"), opset=20)
    case("Dropout", "Dropout", {"x": x}, lambda x: x * 1)
    bounds = {"low": np.float32(-1.0), "high": np.float32(1.5)}
    case("Clip", "Clip", {"x": x}, lambda x, low, high: x.clamp(-1, 1.5), bounds)
    case("Clip below", ("Clip", {}), {"x": x}, lambda x, low: x.clamp(min=-1), {"low": np.float32(-1)})
    case("Clip above", ("Clip", {"_inputs": ["x", "", "high"]}), {"x": x}, lambda x, high: x.clamp(max=1), {"high": np.float32(1)})
    case("Clip at opset 9", ("Clip", {"min": 0.0, "max": 6.0}), {"x": x * 3}, lambda x: x.clamp(0, 6), opset=9)
    # Steps have slope 0, so that only the other factor's gradient is left. The numbers lie off whole and half ones.
    stepped = (np.round(numbers(2, 3, 4, low=-3, high=3) * 2) / 2 + 0.2).astype(np.float32)
    for op, fn in [("Ceil", torch.ceil), ("Floor", torch.floor), ("Round", torch.round), ("Sign", torch.sign)]:
        nodes = [helper.make_node(op, ["x"], ["s"]), helper.make_node("Mul", ["s", "x"], ["y"])]
        case(f"{op} beside", nodes, {"x": stepped}, lambda x, fn=fn: fn(x) * x)
    for alpha in (1.0, 1.7):
        case(f"Swish {alpha}", ("Swish", {"alpha": alpha}), {"x": x}, lambda x, alpha=alpha: x * torch.sigmoid(alpha * x), opset=24)
    like = [helper.make_node("CastLike", ["x", "like"], ["h"]), helper.make_node("Sigmoid", ["h"], ["s"]),
            helper.make_node("CastLike", ["s", "x"], ["y"])]
    case("CastLike", like, {"x": x}, lambda x, like: torch.sigmoid(x), {"like": np.float64(1)}, opset=19)
    half = [helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), helper.make_node("Sigmoid", ["h"], ["s"]),
            helper.make_node("Mul", ["s", "h"], ["m"]), helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT)]
    case("Cast through float16", half, {"x": x}, lambda x: F.silu(x), tolerance=3e-3)
    double = [helper.make_node("Cast", ["x"], ["h"], to=TensorProto.DOUBLE), helper.make_node("Sigmoid", ["h"], ["s"]),
              helper.make_node("Relu", ["h"], ["r"]),
              helper.make_node("Mul", ["s", "r"], ["m"]), helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT)]
    case("Cast through float64", double, {"x": x}, lambda x: F.silu(x) * (x > 0))


def arithmetic():
    a, b = numbers(2, 3, 4), numbers(2, 3, 4, low=0.5, high=2, seed=1)
    row, column, lone = numbers(1, 1, 4, low=0.5, high=2), numbers(2, 3, 1, low=0.5, high=2), numbers(2, 1, 1, low=0.5, high=2)
    for op, fn in [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]:
        case(f"{op}", op, {"a": a, "b": b}, lambda a, b, fn=fn: fn(a, b))
        for label, other in [("row", row), ("column", column), ("lone", lone)]:
            case(f"{op} {label}", op, {"a": a, "b": other}, lambda a, b, fn=fn: fn(a, b), fixed=True)
            case(f"{op} {label} first", op, {"b": other, "a": a}, lambda a, b, fn=fn: fn(b, a), fixed=True)
        case(f"{op} vector constant", op, {"a": a}, lambda a, c, fn=fn: fn(a, c), {"c": numbers(4, low=0.5, high=2)})
        case(f"{op} scalar constant", op, {"a": a}, lambda a, c, fn=fn: fn(a, c), {"c": np.float32(1.7)})
    case("Mul by itself", ("Mul", {"_inputs": ["x", "x"]}), {"x": a}, lambda x: x * x)
    for power in [0.5, 1.0, 2.0, 3.0, -1.0, 1.7]:
        case(f"Pow {power}", "Pow", {"b": b}, lambda b, c, p=power: b**p, {"c": np.float32(power)})
    case("Pow of negatives", "Pow", {"a": a}, lambda a, c: a**3, {"c": np.float32(3)})
    case("Pow by an integer", "Pow", {"a": a}, lambda a, c: a**2, {"c": np.int64(2)})
    case("Pow of two variables", "Pow", {"b": b, "a": a}, lambda a, b: b**a)
    case("PRelu", "PRelu", {"a": numbers(2, 3, 4, gap=0.05)}, lambda a, c: torch.where(a > 0, a, c * a), {"c": numbers(3, 1, seed=4)})
    case("PRelu variable", "PRelu", {"a": numbers(2, 3, 4, gap=0.05), "c": numbers(2, 3, 4, seed=9)}, lambda a, c: torch.where(a > 0, a, c * a))
    far = (a + np.where(numbers(2, 3, 4, seed=5) > 0, 0.3, -0.3)).astype(np.float32)
    case("Max", "Max", {"a": a, "b": far}, lambda a, b: torch.maximum(a, b))
    case("Min", "Min", {"a": a, "b": far}, lambda a, b: torch.minimum(a, b))
    case("Max with a constant", "Max", {"a": numbers(2, 3, gap=0.1)}, lambda a, c: a.clamp(min=0), {"c": np.float32(0)})
    case("Sum of three", "Sum", {"a": a, "b": b, "c": row}, lambda a, b, c: a + b + c, fixed=True)
    case("Mean of two", "Mean", {"a": a, "b": b}, lambda a, b: (a + b) / 2)
    mask = numbers(2, 3, 4, seed=11) > 0
    case("Where", ("Where", {"_inputs": ["m", "a", "b"]}), {"a": a, "b": b, "m": mask}, lambda a, b, m: torch.where(m, a, b))
    case("Where broadcast", ("Where", {"_inputs": ["m", "a", "b"]}), {"a": a, "b": row, "m": mask[:, :1]}, lambda a, b, m: torch.where(m, a, b), fixed=True)
    case("Mod", ("Mod", {"fmod": 1}), {"b": b * 3}, lambda b, c: torch.fmod(b, 0.7), {"c": np.float32(0.7)})


def conv(name, x, w, bias=True, torch_kw=None, opset=18, **attributes):
    consts = {"w": w}
    if bias:
        consts["b"] = numbers(w.shape[0], seed=3)
    functions = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
    kw = torch_kw or {}

    def fn(x, w, b=None):
        pads = kw.get("manual")
        rest = {k: v for k, v in kw.items() if k != "manual"}
        return functions[w.ndim](F.pad(x, pads) if pads else x, w, b, **rest)

    case(name, ("Conv", attributes), {"x": x}, fn, consts, opset=opset)


def convolution():
    x, w = numbers(2, 4, 9, 8), numbers(6, 4, 3, 3, seed=1)
    conv("Conv", x, w)
    conv("Conv without bias", x, w, bias=False, pads=[1, 1, 1, 1], torch_kw={"padding": 1})
    conv("Conv stride 2", x, w, strides=[2, 2], pads=[1, 1, 1, 1], torch_kw={"padding": 1, "stride": 2})
    conv("Conv stride 2 without padding", x, w, strides=[2, 2], torch_kw={"stride": 2})
    conv("Conv stride 3 by 2", x, w, strides=[3, 2], pads=[1, 1, 1, 1], torch_kw={"padding": 1, "stride": (3, 2)})
    conv("Conv stride 4 kernel 4", numbers(2, 3, 16, 16), numbers(5, 3, 4, 4), strides=[4, 4], torch_kw={"stride": 4})
    conv("Conv stride 2 kernel 1", x, numbers(6, 4, 1, 1), strides=[2, 2], torch_kw={"stride": 2})
    conv("Conv stride 2 kernel 7", numbers(2, 3, 15, 16), numbers(4, 3, 7, 7), strides=[2, 2], pads=[3, 3, 3, 3], torch_kw={"padding": 3, "stride": 2})
    conv("Conv stride 2 kernel 5", numbers(2, 3, 12, 12), numbers(4, 3, 5, 5), strides=[2, 2], pads=[2, 2, 2, 2], torch_kw={"padding": 2, "stride": 2})
    conv("Conv kernel 1", x, numbers(6, 4, 1, 1))
    conv("Conv dilation 2", x, w, dilations=[2, 2], pads=[2, 2, 2, 2], torch_kw={"padding": 2, "dilation": 2})
    conv("Conv dilation and stride", numbers(2, 4, 13, 12), w, dilations=[2, 3], strides=[2, 2], pads=[2, 3, 2, 3], torch_kw={"padding": (2, 3), "dilation": (2, 3), "stride": 2})
    conv("Conv groups", x, numbers(6, 2, 3, 3), group=2, pads=[1, 1, 1, 1], torch_kw={"padding": 1, "groups": 2})
    conv("Conv groups stride 2", x, numbers(6, 2, 3, 3), group=2, strides=[2, 2], pads=[1, 1, 1, 1], torch_kw={"padding": 1, "groups": 2, "stride": 2})
    conv("Conv depthwise", x, numbers(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1], torch_kw={"padding": 1, "groups": 4})
    conv("Conv depthwise multiplied", x, numbers(8, 1, 3, 3), group=4, pads=[1, 1, 1, 1], torch_kw={"padding": 1, "groups": 4})
    conv("Conv depthwise stride 2", x, numbers(4, 1, 3, 3), group=4, strides=[2, 2], pads=[1, 1, 1, 1], torch_kw={"padding": 1, "groups": 4, "stride": 2})
    conv("Conv uneven padding", x, w, pads=[0, 1, 2, 1], torch_kw={"manual": (1, 1, 0, 2)})
    conv("Conv uneven padding stride 2", x, w, pads=[0, 0, 1, 1], strides=[2, 2], torch_kw={"manual": (0, 1, 0, 1), "stride": 2})
    conv("Conv padding beyond the kernel", x, w, pads=[4, 3, 3, 4], torch_kw={"manual": (3, 4, 4, 3)})
    conv("Conv auto_pad SAME_UPPER", x, w, auto_pad="SAME_UPPER", torch_kw={"padding": 1})
    conv("Conv auto_pad SAME_UPPER stride 2", x, w, auto_pad="SAME_UPPER", strides=[2, 2], torch_kw={"manual": (0, 1, 1, 1), "stride": 2})
    conv("Conv auto_pad SAME_LOWER stride 2", x, w, auto_pad="SAME_LOWER", strides=[2, 2], torch_kw={"manual": (1, 0, 1, 1), "stride": 2})
    conv("Conv auto_pad VALID", x, w, auto_pad="VALID")
    conv("Conv rectangular", x, numbers(5, 4, 1, 5), pads=[0, 2, 0, 2], torch_kw={"padding": (0, 2)})
    conv("Conv 1-D", numbers(2, 3, 11), numbers(4, 3, 3), pads=[1, 1], torch_kw={"padding": 1})
    conv("Conv 1-D stride 2", numbers(2, 3, 11), numbers(4, 3, 3), pads=[1, 1], strides=[2], torch_kw={"padding": 1, "stride": 2})
    conv("Conv 3-D", numbers(2, 2, 5, 6, 5), numbers(3, 2, 3, 3, 3), pads=[1] * 6, torch_kw={"padding": 1})
    conv("Conv 3-D stride 2", numbers(2, 2, 5, 6, 5), numbers(3, 2, 3, 3, 3), pads=[1] * 6, strides=[2] * 3, torch_kw={"padding": 1, "stride": 2})
    t, v = numbers(2, 4, 5, 6), numbers(4, 3, 3, 3, seed=2)
    up = [
        ("", {}, {}, v), (" stride 2", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"stride": 2, "padding": 1}, v),
        (" output padding", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, {"stride": 2, "padding": 1, "output_padding": 1}, v),
        (" kernel 4", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"stride": 2, "padding": 1}, numbers(4, 3, 4, 4)),
        (" kernel 2", {"strides": [2, 2]}, {"stride": 2}, numbers(4, 3, 2, 2)),
        (" groups", {"group": 2}, {"groups": 2}, v), (" dilation", {"dilations": [2, 2]}, {"dilation": 2}, v),
    ]
    for label, attributes, kw, weight in up:
        case(f"ConvTranspose{label}", ("ConvTranspose", dict(attributes)), {"x": t}, lambda x, w, kw=kw: F.conv_transpose2d(x, w, **kw), {"w": weight})
    case("ConvTranspose 1-D", ("ConvTranspose", {"strides": [2]}), {"x": numbers(2, 4, 7)}, lambda x, w: F.conv_transpose1d(x, w, stride=2), {"w": numbers(4, 3, 3)})
    stats = {"s": numbers(4, low=0.5, high=2), "o": numbers(4), "m": numbers(4, seed=2), "v": numbers(4, low=0.3, high=2, seed=3)}
    def normed(x, s, o, m, v):
        return F.batch_norm(x, m, v, s, o, eps=1e-3)
    case("BatchNormalization", ("BatchNormalization", {"epsilon": 1e-3}), {"x": x}, normed, stats)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"], epsilon=1e-3), helper.make_node("Relu", ["n"], ["y"])]
    case("Conv with BatchNormalization and Relu", nodes, {"x": x}, lambda x, w, **s: torch.relu(normed(F.conv2d(x, w, padding=1), **s)), {"w": numbers(4, 4, 3, 3, seed=1), **stats})


def linear():
    a, b = numbers(2, 3, 4), numbers(2, 4, 5, seed=1)
    case("MatMul", "MatMul", {"a": a, "b": b}, lambda a, b: a @ b)
    case("MatMul constant", "MatMul", {"a": a}, lambda a, c: a @ c, {"c": numbers(4, 5)})
    case("MatMul constant first", ("MatMul", {"_inputs": ["c", "a"]}), {"a": a}, lambda a, c: c @ a, {"c": numbers(5, 3)})
    case("MatMul broadcast", "MatMul", {"a": numbers(2, 3, 2, 4), "b": numbers(2, 1, 4, 3, seed=2)}, lambda a, b: a @ b)
    case("MatMul lower rank", "MatMul", {"a": numbers(2, 3, 2, 4), "b": numbers(4, 3, seed=2)}, lambda a, b: a @ b, fixed=True)
    case("MatMul vector right", "MatMul", {"a": a, "b": numbers(4, seed=2)}, lambda a, b: a @ b, fixed=True)
    case("MatMul vector left", "MatMul", {"a": numbers(3), "b": numbers(3, 4, seed=2)}, lambda a, b: a @ b, fixed=True)
    case("MatMul vectors", "MatMul", {"a": numbers(3), "b": numbers(3, seed=2)}, lambda a, b: a @ b, fixed=True)
    for ta in (0, 1):
        for tb in (0, 1):
            p, q = numbers(*((4, 3) if ta else (3, 4))), numbers(*((5, 4) if tb else (4, 5)), seed=3)
            case(f"Gemm {ta}{tb}", ("Gemm", {"transA": ta, "transB": tb, "alpha": 0.7, "beta": 1.3}), {"a": p, "b": q, "c": numbers(1, 5)},
                 lambda a, b, c, ta=ta, tb=tb: 0.7 * ((a.T if ta else a) @ (b.T if tb else b)) + 1.3 * c, fixed=True)
    case("Gemm head", ("Gemm", {"transB": 1}), {"x": numbers(2, 4)}, lambda x, w, b: F.linear(x, w, b), {"w": numbers(3, 4), "b": numbers(3)})
    for equation, shapes in [("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]), ("bi,bj->bij", [(2, 3), (2, 4)]), ("bij->bji", [(2, 3, 4)]), ("bij->b", [(2, 3, 4)]), ("bij,bj->bi", [(2, 3, 4), (2, 4)])]:
        ins = {f"a{i}": numbers(*s, seed=i) for i, s in enumerate(shapes)}
        case(f"Einsum {equation}", ("Einsum", {"equation": equation}), ins, lambda eq=equation, **k: torch.einsum(eq, *k.values()))
    case("Einsum with a constant", ("Einsum", {"equation": "nchw,cd->ndhw"}), {"x": numbers(2, 3, 4, 5)}, lambda x, c: torch.einsum("nchw,cd->ndhw", x, c), {"c": numbers(3, 4)})
    case("Einsum ellipsis", ("Einsum", {"equation": "...ij,jk->...ik"}), {"x": numbers(2, 3, 4, 5)}, lambda x, c: x @ c, {"c": numbers(5, 4)})


def pooling():
    x = numbers(2, 3, 9, 8)
    d = distinct(2, 3, 9, 8)
    for label, k, s, p, extra in [("", 2, 2, 0, {}), (" overlap", 3, 2, 1, {}), (" stride 1", 3, 1, 1, {}), (" ceil", 3, 2, 0, {"ceil_mode": True}), (" dilation", 2, 1, 0, {"dilation": 2}), (" gaps", 2, 3, 0, {})]:
        attributes = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4}
        if "ceil_mode" in extra:
            attributes["ceil_mode"] = 1
        if "dilation" in extra:
            attributes["dilations"] = [2, 2]
        case(f"MaxPool{label}", ("MaxPool", dict(attributes)), {"x": d}, lambda x, k=k, s=s, p=p, extra=extra: F.max_pool2d(x, k, s, p, **extra))
        if "dilation" in extra:
            continue
        for include in (0, 1):
            both = dict(attributes, count_include_pad=include)
            case(f"AveragePool{label} include {include}", ("AveragePool", both), {"x": x},
                 lambda x, k=k, s=s, p=p, extra=extra, include=include: F.avg_pool2d(x, k, s, p, count_include_pad=bool(include), **extra), opset=19)
    case("MaxPool 1-D", ("MaxPool", {"kernel_shape": [3], "strides": [2]}), {"x": distinct(2, 3, 9)}, lambda x: F.max_pool1d(x, 3, 2))
    case("MaxPool 3-D", ("MaxPool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}), {"x": distinct(2, 2, 4, 4, 4)}, lambda x: F.max_pool3d(x, 2))
    case("AveragePool 1-D", ("AveragePool", {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}), {"x": numbers(2, 3, 9)}, lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False))
    case("GlobalAveragePool", "GlobalAveragePool", {"x": x}, lambda x: x.mean((2, 3), keepdim=True))
    case("GlobalMaxPool", "GlobalMaxPool", {"x": d}, lambda x: x.amax((2, 3), keepdim=True))
    for p in (1, 2, 3):
        case(f"LpPool {p}", ("LpPool", {"kernel_shape": [2, 2], "strides": [2, 2], "p": p}), {"x": numbers(2, 3, 8, 8, gap=0.1)}, lambda x, p=p: F.avg_pool2d(x.abs() ** p, 2, divisor_override=1) ** (1 / p))
        case(f"GlobalLpPool {p}", ("GlobalLpPool", {"p": p}), {"x": numbers(2, 3, 4, 4, gap=0.1)}, lambda x, p=p: (x.abs() ** p).sum((2, 3), keepdim=True) ** (1 / p))


def normalisation():
    x = numbers(2, 4, 6)
    scale, bias = numbers(6, low=0.5, high=2), numbers(6, seed=5)
    case("LayerNormalization", ("LayerNormalization", {"epsilon": 1e-4}), {"x": x}, lambda x, s, b: F.layer_norm(x, (6,), s, b, 1e-4), {"s": scale, "b": bias})
    case("LayerNormalization axis 1", ("LayerNormalization", {"axis": 1, "epsilon": 1e-4}), {"x": x}, lambda x, s: F.layer_norm(x, (4, 6), s, None, 1e-4), {"s": numbers(4, 6, low=0.5, high=2)})
    case("InstanceNormalization", ("InstanceNormalization", {"epsilon": 1e-4}), {"x": numbers(2, 3, 4, 5)}, lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=1e-4), {"s": numbers(3, low=0.5, high=2), "b": numbers(3)})
    for name, low, high in (("plain", -1, 1), ("plain, far from 0", 9, 11), ("plain, nearly constant", 0.95, 1.05)):
        case(f"InstanceNormalization {name}", ("InstanceNormalization", {"epsilon": 1e-4}), {"x": numbers(2, 3, 40, low=low, high=high)},
             lambda x, s, b: F.instance_norm(x, eps=1e-4), {"s": np.ones(3, np.float32), "b": np.zeros(3, np.float32)})
    groups = {"x": numbers(2, 6, 4, 5)}
    case("GroupNormalization", ("GroupNormalization", {"num_groups": 3, "epsilon": 1e-4}), groups, lambda x, s, b: F.group_norm(x, 3, s, b, 1e-4), {"s": numbers(6, low=0.5, high=2), "b": numbers(6)}, opset=21)
    case("GroupNormalization at opset 18", ("GroupNormalization", {"num_groups": 3, "epsilon": 1e-4}), groups,
         lambda x, s, b: F.group_norm(x, 3, s.repeat_interleave(2), b.repeat_interleave(2), 1e-4), {"s": numbers(3, low=0.5, high=2), "b": numbers(3)})
    case("RMSNormalization", ("RMSNormalization", {"epsilon": 1e-4}), {"x": x}, lambda x, s: F.rms_norm(x, (6,), s, 1e-4), {"s": scale}, opset=23)
    case("LpNormalization 2", ("LpNormalization", {"axis": 1, "p": 2}), {"x": x}, lambda x: x / x.norm(dim=1, keepdim=True))
    case("LpNormalization 1", ("LpNormalization", {"axis": -1, "p": 1}), {"x": x}, lambda x: x / x.abs().sum(-1, keepdim=True))
    case("MeanVarianceNormalization", ("MeanVarianceNormalization", {"axes": [0, 2, 3]}), {"x": numbers(2, 3, 4, 5)},
         lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.std((0, 2, 3), keepdim=True, unbiased=False) + 1e-9))
    case("LRN", ("LRN", {"size": 3, "alpha": 0.3, "beta": 0.75, "bias": 1.0}), {"x": numbers(2, 5, 3, 3)}, lambda x: F.local_response_norm(x, 3, 0.3, 0.75, 1.0))
    for axis in (-1, 1):
        case(f"Softmax {axis}", ("Softmax", {"axis": axis}), {"x": x}, lambda x, axis=axis: x.softmax(axis))
        case(f"LogSoftmax {axis}", ("LogSoftmax", {"axis": axis}), {"x": x}, lambda x, axis=axis: x.log_softmax(axis))
    case("Softmax at opset 11", ("Softmax", {"axis": 1}), {"x": x}, lambda x: x.flatten(1).softmax(1).reshape(x.shape), opset=11)
    case("LogSoftmax at opset 11", "LogSoftmax", {"x": numbers(2, 5)}, lambda x: x.log_softmax(1), opset=11)


def reductions():
    x, positive = numbers(2, 3, 4, gap=0.1), numbers(2, 3, 4, low=0.3, high=2)
    d = distinct(2, 3, 4)
    table = [
        ("ReduceSum", x, lambda x, a, k: x.sum(a, keepdim=k)), ("ReduceMean", x, lambda x, a, k: x.mean(a, keepdim=k)),
        ("ReduceL1", x, lambda x, a, k: x.abs().sum(a, keepdim=k)), ("ReduceL2", x, lambda x, a, k: x.norm(dim=a, keepdim=k)),
        ("ReduceSumSquare", x, lambda x, a, k: (x * x).sum(a, keepdim=k)), ("ReduceMax", d, lambda x, a, k: x.amax(a, keepdim=k)),
        ("ReduceMin", d, lambda x, a, k: x.amin(a, keepdim=k)), ("ReduceLogSum", positive, lambda x, a, k: x.sum(a, keepdim=k).log()),
        ("ReduceLogSumExp", x, lambda x, a, k: x.logsumexp(a, keepdim=k)),
    ]
    for op, data, fn in table:
        for axes in ([1], [2], [1, 2], [-1]):
            for keep in (0, 1):
                case(f"{op} {axes} keep {keep}", (op, {"keepdims": keep}), {"x": data}, lambda x, axes, fn=fn, a=tuple(axes), k=bool(keep): fn(x, a, k), {"axes": np.array(axes)})
    case("ReduceSum of all", ("ReduceSum", {"keepdims": 0}), {"x": x}, lambda x: x.sum())
    case("ReduceMean of all", ("ReduceMean", {"keepdims": 1}), {"x": x}, lambda x: x.mean().reshape(1, 1, 1))
    case("ReduceMean over the batch", ("ReduceMean", {"keepdims": 0}), {"x": x}, lambda x, axes: x.mean(0), {"axes": np.array([0])})
    case("ReduceSum without axes", ("ReduceSum", {"noop_with_empty_axes": 1}), {"x": x}, lambda x: x * 1)
    case("ReduceMean at opset 13", ("ReduceMean", {"axes": [2], "keepdims": 1}), {"x": x}, lambda x: x.mean(2, keepdim=True), opset=13)
    case("ReduceSum at opset 11", ("ReduceSum", {"axes": [1], "keepdims": 0}), {"x": x}, lambda x: x.sum(1), opset=11)
    case("ReduceProd", ("ReduceProd", {"keepdims": 1}), {"x": positive}, lambda x, axes: x.prod(1, keepdim=True), {"axes": np.array([1])})
    for exclusive in (0, 1):
        for reverse in (0, 1):
            def total(x, axis, e=exclusive, r=reverse):
                s = (x.flip(1) if r else x).cumsum(1) - (((x.flip(1) if r else x)) if e else 0)
                return s.flip(1) if r else s
            case(f"CumSum {exclusive}{reverse}", ("CumSum", {"exclusive": exclusive, "reverse": reverse}), {"x": x}, total, {"axis": np.int64(1)})


def movement():
    x = numbers(2, 3, 4, 6)
    ints = lambda *v: np.array(v, dtype=np.int64)
    case("Reshape", "Reshape", {"x": x}, lambda x, s: x.reshape(x.shape[0], 12, 6), {"s": ints(0, -1, 6)})
    case("Flatten", ("Flatten", {"axis": 1}), {"x": x}, lambda x: x.flatten(1))
    case("Transpose", ("Transpose", {"perm": [0, 3, 1, 2]}), {"x": x}, lambda x: x.permute(0, 3, 1, 2))
    case("Transpose of all", ("Transpose", {}), {"x": x}, lambda x: x.permute(3, 2, 1, 0))
    case("Squeeze", "Squeeze", {"x": numbers(2, 1, 3, 1)}, lambda x, a: x.squeeze(1), {"a": ints(1)})
    case("Unsqueeze", "Unsqueeze", {"x": numbers(2, 3)}, lambda x, a: x[:, None, :, None], {"a": ints(1, 3)})
    case("Squeeze at opset 11", ("Squeeze", {"axes": [1]}), {"x": numbers(2, 1, 3)}, lambda x: x.squeeze(1), opset=11)
    case("Unsqueeze at opset 11", ("Unsqueeze", {"axes": [1]}), {"x": numbers(2, 3)}, lambda x: x[:, None], opset=11)
    case("Concat", ("Concat", {"axis": 1}), {"a": numbers(2, 3, 4), "b": numbers(2, 2, 4)}, lambda a, b: torch.cat([a, b], 1))
    case("Concat of the batch", ("Concat", {"axis": 0}), {"a": numbers(2, 3), "b": numbers(2, 3, seed=4)}, lambda a, b: torch.cat([a, b], 0))
    case("Concat with a constant", ("Concat", {"axis": -1}), {"a": numbers(2, 3)}, lambda a, c: torch.cat([a, c], 1), {"c": numbers(2, 2)}, fixed=True)
    split = [helper.make_node("Split", ["x", "s"], ["p", "q", "r"], axis=1), helper.make_node("Mul", ["p", "p"], ["pp"]), helper.make_node("Concat", ["r", "pp"], ["y"], axis=1)]
    case("Split with an unused part", split, {"x": numbers(2, 6, 3)}, lambda x, s: torch.cat([x[:, 4:], x[:, :1] ** 2], 1), {"s": ints(1, 3, 2)})
    halves = [helper.make_node("Split", ["x"], ["p", "q"], axis=1, num_outputs=2), helper.make_node("Mul", ["p", "q"], ["y"])]
    case("Split into halves", halves, {"x": numbers(2, 6, 3)}, lambda x: x[:, :3] * x[:, 3:])
    old = [helper.make_node("Split", ["x"], ["p", "q"], axis=1, split=[2, 4]), helper.make_node("ReduceSum", ["q"], ["s"], axes=[1], keepdims=1), helper.make_node("Mul", ["p", "s"], ["y"])]
    case("Split at opset 11", old, {"x": numbers(2, 6, 3)}, lambda x: x[:, :2] * x[:, 2:].sum(1, keepdim=True), opset=11)
    case("Expand", "Expand", {"x": numbers(2, 1, 4)}, lambda x, s: x.expand(2, 3, 4), {"s": ints(1, 3, 1)})
    case("Expand with a new axis", "Expand", {"x": numbers(3, 1)}, lambda x, s: x.expand(2, 3, 4), {"s": ints(2, 3, 4)}, fixed=True)
    for label, pieces, fn in [
        ("", ([1], [3], [1], None), lambda x: x[:, 1:3]), (" open end", ([1], [2**62], [2], None), lambda x: x[:, :, 1:]),
        (" from the end", ([-3], [-1], [3], None), lambda x: x[..., -3:-1]), (" step 2", ([0], [6], [3], [2]), lambda x: x[..., ::2]),
        (" step 2 from 1", ([1], [6], [3], [2]), lambda x: x[..., 1::2]), (" step 3", ([1], [6], [3], [3]), lambda x: x[..., 1::3]),
        (" reversed", ([-1], [-(2**62)], [3], [-1]), lambda x: x.flip(3)), (" backwards by 2", ([4], [-(2**62)], [3], [-2]), lambda x: x[..., [4, 2, 0]]),
        (" two axes", ([1, 0], [3, 5], [2, 3], [1, 2]), lambda x: x[:, :, 1:3, 0:5:2]),
    ]:
        consts = {n: np.array(v, dtype=np.int64) for n, v in zip(["starts", "ends", "axes", "steps"], pieces) if v}
        case(f"Slice{label}", "Slice", {"x": x}, lambda x, fn=fn, **_: fn(x), consts)
    case("Slice at opset 9", ("Slice", {"starts": [1], "ends": [3], "axes": [1]}), {"x": x}, lambda x: x[:, 1:3], opset=9)
    for label, axis, index in [("one", 1, np.int64(2)), ("several", 1, ints(2, 0, 2)), ("table", -1, np.array([[0, 5], [3, -1]])), ("a token", 2, np.int64(-1))]:
        case(f"Gather {label}", ("Gather", {"axis": axis}), {"x": x}, lambda x, i, axis=axis: x.index_select(axis, (i.reshape(-1) % x.shape[axis])).reshape(*x.shape[: axis % 4], *i.shape, *x.shape[axis % 4 + 1 :]), {"i": index})
    case("GatherElements", ("GatherElements", {"axis": 1}), {"x": numbers(2, 4, 3)}, lambda x, i: x.gather(1, i), {"i": np.array([[[0, 1, 2], [3, 3, 0]], [[1, 1, 1], [0, 2, 3]]])}, fixed=True)
    case("GatherND", "GatherND", {"x": numbers(2, 4, 3)}, lambda x, i: x[i[:, 0], i[:, 1]], {"i": np.array([[0, 1], [1, 3], [0, 1]])}, fixed=True)
    case("GatherND with a batch", ("GatherND", {"batch_dims": 1}), {"x": numbers(2, 4, 3)}, lambda x, i: x[torch.arange(2), i[:, 0]], {"i": np.array([[1], [3]])}, fixed=True)
    case("ScatterElements", ("ScatterElements", {"axis": 1, "_inputs": ["x", "i", "u"]}), {"x": numbers(2, 4, 3), "u": numbers(2, 2, 3)}, lambda x, u, i: x.scatter(1, i, u), {"i": np.array([[[0, 1, 2], [3, 3, 0]], [[1, 1, 1], [0, 2, 3]]])}, fixed=True)
    case("ScatterElements adding", ("ScatterElements", {"axis": 1, "reduction": "add", "_inputs": ["x", "i", "u"]}), {"x": numbers(2, 4, 3), "u": numbers(2, 2, 3)}, lambda x, u, i: x.scatter_add(1, i, u), {"i": np.array([[[0, 1, 2], [3, 1, 2]], [[1, 1, 1], [0, 1, 3]]])}, fixed=True)
    case("ScatterND", ("ScatterND", {"_inputs": ["x", "i", "u"]}), {"x": numbers(4, 3), "u": numbers(2, 3)}, lambda x, u, i: x.index_put((i[:, 0],), u), {"i": np.array([[1], [3]])}, fixed=True)
    case("Tile", "Tile", {"x": numbers(2, 3, 4)}, lambda x, r: x.repeat(1, 2, 3), {"r": ints(1, 2, 3)})
    case("Trilu lower", ("Trilu", {"upper": 0}), {"x": numbers(2, 4, 4)}, lambda x: x.tril())
    case("Trilu upper shifted", ("Trilu", {"upper": 1}), {"x": numbers(2, 4, 4)}, lambda x, k: x.triu(1), {"k": np.int64(1)})
    top = [helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=1)]
    case("TopK", top, {"x": distinct(2, 6, 3)}, lambda x, k: x.topk(2, 1)[0], {"k": ints(2)})
    for mode, torch_mode in [("constant", "constant"), ("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")]:
        pads = ints(0, 0, 1, 2, 0, 0, 2, 1)
        case(f"Pad {mode}", ("Pad", {"mode": mode}), {"x": x}, lambda x, p, m=torch_mode: F.pad(x, (2, 1, 1, 2), mode=m), {"p": pads}, opset=19)
    case("Pad that crops", ("Pad", {}), {"x": x}, lambda x, p: F.pad(x, (-1, 2, 1, -2)), {"p": ints(0, 0, 1, -1, 0, 0, -2, 2)})
    case("Pad at opset 10", ("Pad", {"pads": [0, 0, 1, 1, 0, 0, 0, 2]}), {"x": x}, lambda x: F.pad(x, (1, 2, 1, 0)), opset=10)
    case("DepthToSpace", ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}), {"x": numbers(2, 8, 3, 2)}, lambda x: F.pixel_shuffle(x, 2))
    dcr = lambda x: x.reshape(2, 2, 2, 2, 3, 2).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 6, 4)
    case("DepthToSpace DCR", ("DepthToSpace", {"blocksize": 2}), {"x": numbers(2, 8, 3, 2)}, dcr)
    std = lambda x: x.reshape(2, 2, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 8, 2, 3)
    case("SpaceToDepth", ("SpaceToDepth", {"blocksize": 2}), {"x": numbers(2, 2, 4, 6)}, std)


def resampling():
    x = numbers(2, 3, 4, 5)
    def up(name, attributes, fn, sizes=None, scales=None, data=x, opset=18):
        consts = {"sizes": np.array(sizes)} if sizes else {"scales": np.array(scales, dtype=np.float32)}
        order = ["x", "", "", "sizes"] if sizes else ["x", "", "scales"]
        case(name, ("Resize", {**attributes, "_inputs": order}), {"x": data}, lambda x, **_: fn(x), consts, opset=opset, fixed=bool(sizes))
    floor = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    up("Resize nearest by 2", floor, lambda x: F.interpolate(x, scale_factor=2), scales=[1, 1, 2, 2])
    up("Resize nearest by 2 and 3", floor, lambda x: F.interpolate(x, scale_factor=(2, 3)), scales=[1, 1, 2, 3])
    up("Resize nearest to a size", floor, lambda x: F.interpolate(x, size=(7, 9)), sizes=[2, 3, 7, 9])
    up("Resize nearest down", floor, lambda x: F.interpolate(x, size=(2, 3)), sizes=[2, 3, 2, 3])
    pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    up("Resize linear by 2", pixel, lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), scales=[1, 1, 2, 2])
    up("Resize linear to a size", {**pixel, "coordinate_transformation_mode": "pytorch_half_pixel"}, lambda x: F.interpolate(x, size=(7, 3), mode="bilinear", align_corners=False), sizes=[2, 3, 7, 3])
    corners = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    up("Resize linear with corners", corners, lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True), sizes=[2, 3, 7, 9])
    up("Resize linear 1-D", pixel, lambda x: F.interpolate(x, size=(9,), mode="linear", align_corners=False), sizes=[2, 3, 9], data=numbers(2, 3, 5))
    cubic = {"mode": "cubic", "cubic_coeff_a": -0.75}
    up("Resize cubic by 2", {**cubic, "coordinate_transformation_mode": "half_pixel"}, lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False), scales=[1, 1, 2, 2])
    up("Resize cubic to a size", {**cubic, "coordinate_transformation_mode": "pytorch_half_pixel"}, lambda x: F.interpolate(x, size=(7, 3), mode="bicubic", align_corners=False), sizes=[2, 3, 7, 3])
    case("Resize at opset 10", ("Resize", {"mode": "nearest"}), {"x": x}, lambda x, s: F.interpolate(x, scale_factor=2), {"s": np.array([1, 1, 2, 2], dtype=np.float32)}, opset=10)
    case("Upsample at opset 9", ("Upsample", {"mode": "nearest"}), {"x": x}, lambda x, s: F.interpolate(x, scale_factor=2), {"s": np.array([1, 1, 2, 2], dtype=np.float32)}, opset=9)
    for padding in ("zeros", "border"):
        for align in (0, 1):
            case(f"GridSample bilinear {padding} {align}", ("GridSample", {"mode": "bilinear", "padding_mode": padding, "align_corners": align}),
                 {"x": x, "grid": numbers(2, 3, 4, 2, low=-1.2, high=1.2)}, lambda x, grid, p=padding, a=align: F.grid_sample(x, grid, padding_mode=p, align_corners=bool(a)), opset=16)
    case("GridSample nearest", ("GridSample", {"mode": "nearest"}), {"x": x}, lambda x, g: F.grid_sample(x, g, mode="nearest", align_corners=False), {"g": numbers(2, 3, 4, 2, low=-1.2, high=1.2)}, opset=16, fixed=True)


def attention():
    q, k, v = numbers(2, 2, 3, 4), numbers(2, 2, 5, 4, seed=1), numbers(2, 2, 5, 6, seed=2)
    sdpa = F.scaled_dot_product_attention
    case("Attention", "Attention", {"q": q, "k": k, "v": v}, lambda q, k, v: sdpa(q, k, v), opset=23)
    case("Attention causal", ("Attention", {"is_causal": 1, "scale": 0.3}), {"q": k, "k": numbers(2, 2, 5, 4, seed=8), "v": v}, lambda q, k, v: sdpa(q, k, v, is_causal=True, scale=0.3), opset=23)
    case("Attention with a bias", "Attention", {"q": q, "k": k, "v": v, "m": numbers(2, 1, 3, 5, seed=3)}, lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), opset=23)
    seen = np.array([[True, True, False, True, True]] * 3)
    case("Attention with a mask", "Attention", {"q": q, "k": k, "v": v}, lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), {"m": seen}, opset=23)
    split = lambda t, h: t.reshape(2, t.shape[1], h, -1).transpose(1, 2)
    packed = {"q": numbers(2, 3, 8), "k": numbers(2, 5, 8, seed=1), "v": numbers(2, 5, 8, seed=2)}
    case("Attention of packed heads", ("Attention", {"q_num_heads": 2, "kv_num_heads": 2}), packed, lambda q, k, v: sdpa(split(q, 2), split(k, 2), split(v, 2)).transpose(1, 2).flatten(2), opset=23)
    shared = {"q": numbers(2, 3, 16), "k": numbers(2, 5, 8, seed=1), "v": numbers(2, 5, 8, seed=2)}
    case("Attention with shared keys", ("Attention", {"q_num_heads": 4, "kv_num_heads": 2}), shared, lambda q, k, v: sdpa(split(q, 4), split(k, 2), split(v, 2), enable_gqa=True).transpose(1, 2).flatten(2), opset=23)


def functions():
    x = numbers(2, 3, 4)
    inner = helper.make_function("local", "Scaled", ["a"], ["b"], [helper.make_node("Constant", [], ["two"], value_float=2.0), helper.make_node("Mul", ["a", "two"], ["b"])], [helper.make_opsetid("", 18)])
    leaky = helper.make_node("LeakyRelu", ["s"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    outer = helper.make_function("local", "Steep", ["a"], ["b"], [helper.make_node("Scaled", ["a"], ["s"], domain="local"), leaky], [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)], attributes=["slope"])
    nodes = [helper.make_node("Steep", ["x"], ["h"], domain="local", slope=0.3), helper.make_node("Steep", ["h"], ["y"], domain="local", slope=0.1)]
    case("Functions inside functions", nodes, {"x": numbers(2, 3, 4, gap=0.05)}, lambda x: F.leaky_relu(2 * F.leaky_relu(2 * x, 0.3), 0.1), functions=[inner, outer], imports=[helper.make_opsetid("local", 1)])


def main():
    families = [activations, arithmetic, convolution, linear, pooling, normalisation, reductions, movement, resampling, attention, functions]
    chosen = sys.argv[1:]
    for family in families:
        if not chosen or family.__name__ in chosen:
            family()
    OUT.parent.mkdir(exist_ok=True)
    save_file({n: np.asarray(t, order="C") for n, t in TENSORS.items()}, OUT, metadata={"made_with": f"torch {torch.__version__}, onnx {onnx.__version__}"})
    print(f"{len(NAMES)} cases, {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
