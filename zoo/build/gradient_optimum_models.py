"""Networks as the Hugging Face project `optimum` exports them, with PyTorch float64 input gradients.

    python zoo/build/gradient_optimum_models.py            small copies for the tests, into zoo/gradients/models/

Needs what gradient_models.py needs and optimum-onnx, with the transformers and diffusers that it asks for
(benches/parity/requirements-optimum.txt). The files keep optimum's names of inputs and outputs; the reference's metadata
says which output the gradients are of. `make parity` builds the same networks at their published size.
"""

import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gradient_models as zoo

PICTURE = ["pixel_values"]


def vit(full):
    from transformers import ViTConfig, ViTForImageClassification
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, num_labels=10)
    return ViTForImageClassification(ViTConfig(**({"num_labels": 1000} if full else small))), "ViTOnnxConfig", "image-classification", PICTURE, "logits"


def resnet(full):
    from transformers import ResNetConfig, ResNetForImageClassification
    small = dict(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_labels=10)
    return ResNetForImageClassification(ResNetConfig(**({"num_labels": 1000} if full else small))), "ResNetOnnxConfig", "image-classification", PICTURE, "logits"


def clip_vision(full):
    from transformers import CLIPVisionConfig, CLIPVisionModel
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=16)
    return CLIPVisionModel(CLIPVisionConfig(**({} if full else small))), "CLIPVisionModelOnnxConfig", "feature-extraction", PICTURE, "pooler_output"


def clip(full):
    from transformers import CLIPConfig, CLIPModel
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=16)
    text = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4, vocab_size=50, max_position_embeddings=16, bos_token_id=1, eos_token_id=2)
    config = CLIPConfig() if full else CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    return CLIPModel(config), "CLIPOnnxConfig", "feature-extraction", ["pixel_values", "input_ids", "attention_mask"], "image_embeds"


def unet_condition(full):
    from diffusers import UNet2DConditionModel
    small = dict(sample_size=16, block_out_channels=(8, 16), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                 up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=12, attention_head_dim=4, norm_num_groups=4)
    full_size = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return UNet2DConditionModel(**(full_size if full else small)), "UNetOnnxConfig", "semantic-segmentation", ["sample", "timestep", "encoder_hidden_states"], "out_sample"


def vae_decoder(full):
    from diffusers import AutoencoderKL
    n = (128, 256, 512, 512) if full else (4, 8)
    model = AutoencoderKL(block_out_channels=n, down_block_types=("DownEncoderBlock2D",) * len(n), up_block_types=("UpDecoderBlock2D",) * len(n),
                          layers_per_block=2 if full else 1, latent_channels=4, norm_num_groups=32 if full else 4, sample_size=64)
    return model, "VaeDecoderOnnxConfig", "semantic-segmentation", ["latent_sample"], "sample"


NETWORKS = {"hf_vit": vit, "hf_resnet": resnet, "hf_clip_vision": clip_vision, "hf_clip": clip, "hf_unet_condition": unet_condition, "hf_vae_decoder": vae_decoder}


def inputs(name, full, samples=2):
    """Different samples as one batch, in the order of the network's inputs."""
    if name == "hf_vae_decoder":
        return (torch.randn(samples, 4, *(2 * [32 if full else 8])),)
    if name == "hf_unet_condition":
        size, tokens, width = (64, 77, 768) if full else (16, 5, 12)
        # The exported time-step is one number for the batch.
        return torch.randn(samples, 4, size, size), torch.tensor(300.0), torch.randn(samples, tokens, width)
    picture = torch.randn(samples, 3, *(2 * [224 if full else 32]))
    if name == "hf_clip":
        return picture, torch.tensor([[1, 7, 9, 2], [1, 5, 2, 2]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    return (picture,)


class Plain(torch.nn.Module):
    """The wrapped model, giving the tensor that optimum's output holds."""

    def __init__(self, model, name, output):
        super().__init__()
        self.model, self.name, self.output = model, name, output

    def forward(self, *values):
        if self.name == "hf_vae_decoder":
            return self.model.decode(*values).sample
        if self.name == "hf_clip":
            pixels, ids, mask = values
            return self.model(input_ids=ids, pixel_values=pixels, attention_mask=mask).image_embeds
        made = self.model(*values)
        return made.sample if self.name == "hf_unet_condition" else getattr(made, self.output)


def export(model, config_class, task, folder):
    """optimum's file for the model; external data stays beside it."""
    from optimum.exporters.onnx import export as optimum_export
    from optimum.exporters.onnx import model_configs
    if config_class == "VaeDecoderOnnxConfig":
        # optimum exports the decoder by putting decode() in forward()'s place.
        model.forward = lambda latent_sample: model.decode(z=latent_sample)
    constructor = getattr(model_configs, config_class)
    config = constructor(model.config, task=task) if config_class != "VaeDecoderOnnxConfig" else constructor(model.config)
    path = folder / "model.onnx"
    optimum_export(model, config, path, opset=max(config.DEFAULT_ONNX_OPSET, 17))
    return path


def build(name, full):
    """The settled module, what optimum needs to export it, its inputs' names and its output's."""
    torch.manual_seed(3)
    with torch.no_grad():
        model, config, task, names, output = NETWORKS[name](full)
        zoo.settle(model)
    return model, config, task, names, output


def make(name, out):
    model, config, task, names, output = build(name, False)
    torch.manual_seed(11)
    values = inputs(name, False)
    path = out / f"{name}.optimum.onnx"
    export(model, config, task, out).rename(path)
    zoo.strip(path)
    plain = Plain(model.double(), name, output)
    doubled = [v.double().requires_grad_() if v.is_floating_point() else v for v in values]
    # CLIP's causal mask is made in the default type.
    torch.set_default_dtype(torch.float64)
    y = plain(*doubled)
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(17)
    weight = torch.rand(y.shape) + 0.2
    floats = [(n, v) for n, v in zip(names, doubled) if v.is_floating_point()]
    gradients = torch.autograd.grad((y * weight.double()).sum(), [v for _, v in floats])
    tensors = {f"in|{n}": v.numpy() for n, v in zip(names, values)}
    tensors |= {f"grad|{n}": g.numpy().astype(np.float32) for (n, _), g in zip(floats, gradients)}
    tensors |= {"weight": weight.numpy(), "y": y.detach().numpy().astype(np.float32)}
    save_file({n: np.asarray(t, order="C") for n, t in tensors.items()}, out / f"{name}.safetensors", metadata={"output": output})
    print(name, path.stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or NETWORKS:
        make(name, zoo.HERE)
