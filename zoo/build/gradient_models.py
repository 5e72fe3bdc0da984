"""Makes zoo/gradients/models/: reduced-width copies of well-known networks with PyTorch float64 input gradients.

    python zoo/build/gradient_models.py

`make parity` builds the same networks at their published size (FULL).

Needs torch, torchvision, timm, transformers, diffusers, onnx, onnxscript. Weights are random (seeded): what is compared
is the arithmetic, not the pictures. Each network goes through both of PyTorch's exporters; one file of references serves
both. The objective is the sum over two samples of weighted outputs.
"""

import pathlib
import sys
import traceback
import warnings

import numpy as np
import onnx
import torch
from safetensors.numpy import save_file

warnings.filterwarnings("ignore")
torch.backends.mha.set_fastpath_enabled(False)
HERE = pathlib.Path(__file__).resolve().parent.parent / "gradients" / "models"
FULL = False


def resnet(name, small_layers):
    def build():
        import timm
        return timm.create_model(name) if FULL else timm.models.resnet.ResNet(
            timm.models.resnet.BasicBlock if name == "resnet18" else timm.models.resnet.Bottleneck, small_layers, channels=(8, 12, 16, 20), stem_width=8, num_classes=10)
    return build


def resnet_torchvision():
    import torchvision
    return torchvision.models.resnet50()


def mobilenet_v2():
    import torchvision
    return torchvision.models.mobilenet_v2() if FULL else torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=10, inverted_residual_setting=[[1, 8, 1, 1], [6, 16, 2, 2], [6, 16, 2, 2]])


def mobilenet_v3():
    import torchvision
    from torchvision.models.mobilenetv3 import InvertedResidualConfig as C, MobileNetV3
    if FULL:
        return torchvision.models.mobilenet_v3_large()
    return MobileNetV3([C(8, 3, 8, 8, True, "RE", 2, 1, 1.0), C(8, 3, 24, 12, False, "RE", 2, 1, 1.0), C(12, 5, 32, 12, True, "HS", 1, 1, 1.0)], 32, num_classes=10)


def efficientnet_b0():
    import timm
    return timm.create_model("efficientnet_b0") if FULL else timm.models.efficientnet._gen_efficientnet("efficientnet_b0", channel_multiplier=0.1, depth_multiplier=0.3, num_classes=10)


def vgg11_bn():
    import torchvision
    if FULL:
        return torchvision.models.vgg11_bn()
    m = torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers([8, "M", 12, "M", 16, 16, "M", 20, "M"], batch_norm=True), num_classes=10)
    m.avgpool = torch.nn.AdaptiveAvgPool2d((2, 2))
    m.classifier = torch.nn.Sequential(torch.nn.Linear(80, 24), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(24, 10))
    return m


def densenet121():
    import torchvision
    return torchvision.models.densenet121() if FULL else torchvision.models.DenseNet(4, (2, 2, 2, 2), 8, num_classes=10)


def convnext_tiny():
    import timm
    return timm.create_model("convnext_tiny") if FULL else timm.models.convnext.ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 12, 16, 24), num_classes=10)


def regnet():
    import timm
    return timm.create_model("regnety_008") if FULL else timm.models.regnet.RegNet(timm.models.regnet.RegNetCfg(w0=8, wa=12.0, wm=2.5, group_size=4, depth=7, se_ratio=0.25, stem_width=8), num_classes=10)


def vit():
    import timm
    return timm.create_model("vit_base_patch16_224") if FULL else timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=4, num_classes=10)


def vit_torchvision():
    import torchvision
    return torchvision.models.vit_b_16() if FULL else torchvision.models.VisionTransformer(32, 8, 2, 4, 24, 48, num_classes=10)


def swin():
    import torchvision
    return torchvision.models.swin_t() if FULL else torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=10, stochastic_depth_prob=0.0)


class Picked(torch.nn.Module):
    """A model whose output is a field of what the wrapped one returns, with constant inputs filled in."""

    def __init__(self, inner, pick, **fixed):
        super().__init__()
        self.inner, self.pick, self.fixed = inner, pick, fixed

    def forward(self, *inputs):
        return self.pick(self.inner, *inputs)


def clip_vision():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    config = CLIPVisionConfig() if FULL else CLIPVisionConfig(hidden_size=24, intermediate_size=48, projection_dim=16, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    return Picked(CLIPVisionModelWithProjection(config), lambda m, x: m(pixel_values=x).image_embeds)


def clip_text():
    from transformers import CLIPTextConfig, CLIPTextModel
    config = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=99, max_position_embeddings=16)
    return CLIPTextModel(config)


def unet_condition():
    from diffusers import UNet2DConditionModel
    small = dict(sample_size=16, block_out_channels=(8, 16), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=12, attention_head_dim=4, norm_num_groups=4)
    full = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    m = UNet2DConditionModel(**(full if FULL else small))
    return Picked(m, lambda m, x, t, c: m(x, t, c).sample)


def unet():
    from diffusers import UNet2DModel
    small = dict(sample_size=16, block_out_channels=(8, 16), layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, attention_head_dim=8)
    full = dict(sample_size=32, block_out_channels=(64, 128, 256), layers_per_block=2, down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"))
    return Picked(UNet2DModel(**(full if FULL else small)), lambda m, x, t: m(x, t).sample)


def vae_decoder():
    from diffusers import AutoencoderKL
    n = (128, 256, 512, 512) if FULL else (8, 16)
    m = AutoencoderKL(block_out_channels=n, down_block_types=("DownEncoderBlock2D",) * len(n), up_block_types=("UpDecoderBlock2D",) * len(n), layers_per_block=2 if FULL else 1, latent_channels=4, norm_num_groups=32 if FULL else 4, sample_size=64)
    return Picked(torch.nn.ModuleDict({"post": m.post_quant_conv, "decoder": m.decoder}), lambda m, z: m["decoder"](m["post"](z)))


def dit():
    from diffusers import DiTTransformer2DModel
    config = dict(num_attention_heads=16, attention_head_dim=72, num_layers=28, sample_size=32) if FULL else dict(num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8, in_channels=4, out_channels=8, norm_num_groups=4, num_embeds_ada_norm=16)
    m = DiTTransformer2DModel(**config)
    return Picked(m, lambda m, x, t, c: m(x, timestep=t, class_labels=c).sample)


def picture(size):
    return lambda: (torch.randn(2, 3, size, size),)


def latent(channels, size, *rest):
    return lambda: (torch.randn(2, channels, size, size), *[r() for r in rest])


STEPS = lambda: torch.tensor([10, 700])
P = lambda: picture(224 if FULL else 32)

# name: builder, inputs, names of the inputs, those to differentiate
MODELS = {
    "resnet18": (resnet("resnet18", [1, 1, 1, 1]), P, ["x"]),
    "resnet50": (resnet("resnet50", [1, 1, 1, 1]), P, ["x"]),
    "mobilenet_v2": (mobilenet_v2, P, ["x"]),
    "mobilenet_v3": (mobilenet_v3, P, ["x"]),
    "efficientnet_b0": (efficientnet_b0, P, ["x"]),
    "vgg11_bn": (vgg11_bn, P, ["x"]),
    "densenet121": (densenet121, P, ["x"]),
    "convnext_tiny": (convnext_tiny, P, ["x"]),
    "regnet": (regnet, P, ["x"]),
    "vit": (vit, P, ["x"]),
    "vit_torchvision": (vit_torchvision, P, ["x"]),
    # Five patches a side are no whole number of windows.
    "swin": (swin, lambda: picture(224 if FULL else 40), ["x"]),
    "clip_vision": (clip_vision, P, ["x"]),
    "unet_condition": (unet_condition, lambda: (lambda: (torch.randn(2, 4, 64 if FULL else 16, 64 if FULL else 16), STEPS(), torch.randn(2, 77 if FULL else 5, 768 if FULL else 12))), ["x", "t", "c"]),
    "unet": (unet, lambda: (lambda: (torch.randn(2, 3, 32 if FULL else 16, 32 if FULL else 16), STEPS())), ["x", "t"]),
    "vae_decoder": (vae_decoder, lambda: latent(4, 32 if FULL else 8), ["x"]),
    "dit": (dit, lambda: (lambda: (torch.randn(2, 4, 32 if FULL else 8, 32 if FULL else 8), STEPS(), torch.tensor([3, 7]))), ["x", "t", "c"]),
}


def settle(model):
    """Random statistics and offsets where new networks have zeros and ones, so that no term vanishes."""
    generator = torch.Generator().manual_seed(5)
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=generator) * 0.2)
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=generator) + 0.5)
    for name, p in model.named_parameters():
        if (p == 0).all() or (p == 1).all() or p.detach().abs().max() < 1e-4:
            p.data += torch.randn(p.shape, generator=generator) * 0.1
    return model.eval()


def export(model, inputs, names, path, dynamo):
    with torch.no_grad():
        if dynamo:
            batch = torch.export.Dim("batch", min=2, max=64)
            shapes = tuple({0: batch} for _ in inputs)
            dynamic = ((*shapes,),) if isinstance(model, Picked) else shapes
            torch.onnx.export(model, inputs, str(path), dynamo=True, dynamic_shapes=dynamic, input_names=names, output_names=["y"], external_data=FULL, verbose=False, optimize=True)
        else:
            torch.onnx.export(model, inputs, str(path), dynamo=False, dynamic_axes={n: {0: "batch"} for n in [*names, "y"]}, input_names=names, output_names=["y"])


def strip(path):
    """Drops what says where and how the file was made."""
    model = onnx.load(path, load_external_data=False)

    def clean(nodes):
        for node in nodes:
            node.ClearField("doc_string")
            del node.metadata_props[:]
            for attribute in node.attribute:
                for graph in [attribute.g, *attribute.graphs]:
                    clean(graph.node)

    clean(model.graph.node)
    for function in model.functions:
        clean(function.node)
        function.ClearField("doc_string")
        del function.metadata_props[:]
    for holder in [model, model.graph, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        holder.ClearField("doc_string")
        del holder.metadata_props[:]
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())


def make(name, out):
    build, inputs, names = MODELS[name]
    torch.manual_seed(3)
    with torch.no_grad():
        model = settle(build())
    torch.manual_seed(11)
    values = inputs()()
    done = {}
    for dynamo in (False, True):
        kind = "dynamo" if dynamo else "script"
        path = out / f"{name}.{kind}.onnx"
        try:
            export(model, values, names, path, dynamo)
            strip(path)
            done[kind] = path.stat().st_size
        except Exception as e:
            path.unlink(missing_ok=True)
            traceback.print_exc(limit=-3)
            print(f"{name} {kind}: {str(e)[:300]}", file=sys.stderr)
    model = model.double()
    doubled = [v.double().requires_grad_() if v.is_floating_point() else v for v in values]
    y = model(*doubled)
    torch.manual_seed(17)
    weight = torch.rand(y.shape) + 0.2
    floats = [(n, v) for n, v in zip(names, doubled) if v.is_floating_point()]
    gradients = torch.autograd.grad((y * weight.double()).sum(), [v for _, v in floats])
    tensors = {f"in|{n}": v.numpy() for n, v in zip(names, values)}
    tensors |= {f"grad|{n}": g.numpy().astype(np.float32) for (n, _), g in zip(floats, gradients)}
    tensors |= {"weight": weight.numpy(), "y": y.detach().numpy().astype(np.float32)}
    save_file({n: np.asarray(t, order="C") for n, t in tensors.items()}, out / f"{name}.safetensors")
    print(name, done, "parameters", sum(p.numel() for p in model.parameters()), flush=True)


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or MODELS:
        try:
            make(name, HERE)
        except Exception:
            traceback.print_exc()


if __name__ == "__main__":
    main()
