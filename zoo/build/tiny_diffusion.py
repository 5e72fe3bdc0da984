"""A small Stable Diffusion with random weights, and what diffusers samples with it: the parity cases of pellucid-diffusion.

    python zoo/build/tiny_diffusion.py zoo/models/tiny_diffusion          # what is committed, about 1.5 MB
    python zoo/build/tiny_diffusion.py FOLDER --full                      # Stable Diffusion 1.5's shape, 3.5 GB, never committed

    python zoo/build/tiny_diffusion.py zoo/models/tiny_ddpm --pixels      # class-conditional, on pixels, 0.3 MB
    python zoo/build/tiny_diffusion.py zoo/models/tiny_sdxl --xl          # Stable Diffusion XL's two text encoders, 0.8 MB

Same layout of blocks as Stable Diffusion 1 (43 modules in DF-CAM's published set), a few channels each. The references
(`references.safetensors`) are latents and decoded pictures of diffusers' own DDIM: epsilon and v, with and without guidance; DPM-Solver++; the encoder's mean.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

WORDS = ["a", "cat", "dog", "on", "red", "blue"]
CONTEXT = 8
PROMPT = "a cat on blue"
STEPS = 5


def build(full: bool):
    torch.manual_seed(0)
    channels = (320, 640, 1280, 1280) if full else (8, 8, 16, 16)
    width, heads, groups, side, context = (768, 8, 32, 64, 77) if full else (16, 2, 4, 16, CONTEXT)
    unet = UNet2DConditionModel(
        sample_size=side, block_out_channels=channels, cross_attention_dim=width, attention_head_dim=heads, norm_num_groups=groups
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=4 + len(WORDS), hidden_size=width, intermediate_size=4 * width if full else 2 * width,
            num_hidden_layers=12 if full else 1, num_attention_heads=12 if full else 2, max_position_embeddings=context,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    blocks = 4 if full else 2
    decoder = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512) if full else (4, 8), norm_num_groups=groups, sample_size=side * 2 ** (blocks - 1),
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks, latent_channels=4,
        layers_per_block=2 if full else 1,
    )  # fmt: skip
    # Zero biases and unit norms hide mistakes; random ones do not.
    for module in (unet, text, decoder):
        for parameter in module.parameters():
            if parameter.ndim == 1 and not full:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return unet.eval(), text.eval(), decoder.eval(), context


def tokenizer(context: int):
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<start>", "<end>", "<unk>", *WORDS])}
    t = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)])
    t.enable_padding(length=context, pad_id=0, pad_token="<pad>")
    return t


class Positional(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.module, self.call = call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def export(out: Path, name: str, module, call, inputs, names, results):
    (out / name).mkdir(parents=True, exist_ok=True)
    dynamic = {n: {0: "batch"} for n in (*names, *results)}
    wrapped = Positional((module, call)).eval()
    with torch.no_grad():
        torch.onnx.export(
            wrapped, inputs, str(out / name / "model.onnx"), input_names=list(names), output_names=list(results), dynamic_axes=dynamic,
            opset_version=17, dynamo=False,
        )  # fmt: skip


@torch.no_grad()
def sampled(unet, text, decoder, ids, noise, prediction: str, guidance: float):
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type=prediction,
    )  # fmt: skip
    scheduler.set_timesteps(STEPS)
    hidden = text(ids).last_hidden_state
    x = noise.clone()
    for t in scheduler.timesteps:
        u, c = unet(torch.cat([x, x]), t, encoder_hidden_states=hidden).sample.chunk(2)
        x = scheduler.step(u + guidance * (c - u), t, x).prev_sample
    return x, decoder.decode(x / decoder.config.scaling_factor).sample, scheduler


TRAINED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@torch.no_grad()
def multistep(unet, text, ids, noise, guidance: float):
    """DPM-Solver++ (2M) of diffusers on the timesteps that our own list gives: leading, offset 1, 8 of them."""
    scheduler = DPMSolverMultistepScheduler(**TRAINED, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(8)
    hidden = text(ids).last_hidden_state
    x = noise.clone()
    for t in scheduler.timesteps:
        u, c = unet(torch.cat([x, x]), t, encoder_hidden_states=hidden).sample.chunk(2)
        x = scheduler.step(u + guidance * (c - u), t, x).prev_sample
    return {"multistep.timesteps": scheduler.timesteps.to(torch.int64), "multistep.latent": x}


@torch.no_grad()
def pixels(out: Path):
    """A class-conditional model of pixels, as DDPM has them, and what diffusers' DDIM samples with it."""
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
        num_class_embeds=4,
    ).eval()  # fmt: skip
    inputs = (torch.randn(2, 3, 16, 16), torch.tensor([500, 500]), torch.tensor([1, 2]))
    export(out, "unet", unet, lambda m, x, t, c: m(x, t, class_labels=c, return_dict=False)[0], inputs, ["sample", "timestep", "class_labels"], ["out_sample"])
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(STEPS)
    noise = torch.randn(1, 3, 16, 16)
    tensors = {"noise": noise}
    for label in (1, 3):
        x = noise.clone()
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, class_labels=torch.tensor([label])).sample, t, x).prev_sample
        tensors[f"class.{label}.picture"] = x
    scheduler.save_pretrained(out / "scheduler")
    (out / "unet" / "config.json").write_text(json.dumps(json.loads(unet.to_json_string()), indent=1, sort_keys=True))
    (out / "model_index.json").write_text(json.dumps({"_class_name": "DDIMPipeline", "unet": ["diffusers", "OnnxRuntimeModel"], "scheduler": ["diffusers", "DDIMScheduler"]}, indent=1))
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "references.safetensors")


@torch.no_grad()
def xl(out: Path):
    """Stable Diffusion XL's conditions on a small U-Net: two text encoders, the last layer but one of both side by side, the
    pooled embedding of the second, sizes; nothing but zeros for the empty prompt. Names as optimum exports them."""
    torch.manual_seed(2)
    side, layers, pooled = 16, 3, 12
    unet = UNet2DConditionModel(
        sample_size=side, block_out_channels=(8, 16), cross_attention_dim=16 + 24, attention_head_dim=(2, 4), norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1,
        transformer_layers_per_block=(1, 2), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=pooled + 6 * 8, use_linear_projection=True,
    )  # fmt: skip
    shared = dict(vocab_size=4 + len(WORDS), num_hidden_layers=layers, max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    first = CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=32, num_attention_heads=2, **shared))
    second = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=24, intermediate_size=48, num_attention_heads=2, projection_dim=pooled, hidden_act="gelu", **shared))
    decoder = AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=4, sample_size=2 * side, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, layers_per_block=1, scaling_factor=0.13025,
    )  # fmt: skip
    for module in (unet, first, second, decoder):
        module.eval()
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    unet.set_attn_processor(AttnProcessor())
    first.set_attn_implementation("eager"), second.set_attn_implementation("eager")
    latent = torch.randn(2, 4, side, side)
    names = ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"]
    call = lambda m, x, t, h, e, s: m(x, t, encoder_hidden_states=h, added_cond_kwargs={"text_embeds": e, "time_ids": s}, return_dict=False)[0]
    inputs = (latent, torch.tensor([500, 500]), torch.randn(2, CONTEXT, 40), torch.randn(2, pooled), torch.full((2, 6), 32.0))
    export(out, "unet", unet, call, inputs, names, ["out_sample"])
    ids = torch.ones(2, CONTEXT, dtype=torch.long)
    hidden = [f"hidden_states.{i}" for i in range(layers + 1)]
    states = lambda m, i: m(i, output_hidden_states=True)
    export(out, "text_encoder", first, lambda m, i: (states(m, i).last_hidden_state, *states(m, i).hidden_states), (ids,), ["input_ids"], ["last_hidden_state", *hidden])
    export(out, "text_encoder_2", second, lambda m, i: (states(m, i).text_embeds, states(m, i).last_hidden_state, *states(m, i).hidden_states), (ids,), ["input_ids"], ["text_embeds", "last_hidden_state", *hidden])
    export(out, "vae_decoder", decoder, lambda m, z: m.decode(z).sample, (latent,), ["latent_sample"], ["sample"])
    tokens = tokenizer(CONTEXT)
    for folder in ("tokenizer", "tokenizer_2"):
        (out / folder).mkdir(exist_ok=True)
        tokens.save(str(out / folder / "tokenizer.json"))
    for name, module in (("unet", unet), ("text_encoder", first.config), ("text_encoder_2", second.config)):
        (out / name / "config.json").write_text(json.dumps(json.loads(module.to_json_string()), indent=1, sort_keys=True))
    (out / "vae_decoder" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", "scaling_factor": decoder.config.scaling_factor, "latent_channels": 4}, indent=1))
    runtime, words = ["diffusers", "OnnxRuntimeModel"], ["transformers", "PreTrainedTokenizerFast"]
    (out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, "unet": runtime, "text_encoder": runtime,
        "text_encoder_2": runtime, "vae_decoder": runtime, "tokenizer": words, "tokenizer_2": words, "scheduler": ["diffusers", "DDIMScheduler"]}, indent=1))  # fmt: skip
    scheduler = DDIMScheduler(**TRAINED, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.save_pretrained(out / "scheduler")
    # As StableDiffusionXLPipeline conditions: the empty prompt is zeros, the sizes are those of the picture.
    typed = torch.tensor([tokens.encode(PROMPT).ids])
    both = [module(typed, output_hidden_states=True) for module in (first, second)]
    state = torch.cat([one.hidden_states[-2] for one in both], dim=-1)
    state = torch.cat([torch.zeros_like(state), state])
    pool = torch.cat([torch.zeros_like(both[1].text_embeds), both[1].text_embeds])
    sizes = torch.tensor([[2.0 * side, 2.0 * side, 0, 0, 2.0 * side, 2.0 * side]] * 2)
    noise = torch.randn(1, 4, side, side)
    tensors = {"noise": noise}
    for guidance in (1.0, 5.0):
        x = noise.clone()
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            u, c = call(unet, torch.cat([x, x]), t, state, pool, sizes).chunk(2)
            x = scheduler.step(u + guidance * (c - u), t, x).prev_sample
        tensors[f"{guidance:g}.picture"] = decoder.decode(x / decoder.config.scaling_factor).sample
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "references.safetensors")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--full", action="store_true", help="Stable Diffusion 1.5's shape; needs 8 GB of memory")
    arguments.add_argument("--pixels", action="store_true", help="a class-conditional model of pixels")
    arguments.add_argument("--xl", action="store_true", help="two text encoders, as Stable Diffusion XL has them")
    a = arguments.parse_args()
    if a.xl:
        xl(a.out)
        return
    if a.pixels:
        pixels(a.out)
        return
    unet, text, decoder, context = build(a.full)
    unet.set_attn_processor(AttnProcessor())
    text.set_attn_implementation("eager")
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    latent = torch.randn(2, 4, side, side)
    export(
        a.out, "unet", unet, lambda m, x, t, h: m(x, t, encoder_hidden_states=h, return_dict=False)[0],
        (latent, torch.tensor([500, 500]), torch.randn(2, context, width)), ["sample", "timestep", "encoder_hidden_states"], ["out_sample"],
    )  # fmt: skip
    export(a.out, "text_encoder", text, lambda m, i: m(i).last_hidden_state, (torch.ones(2, context, dtype=torch.long),), ["input_ids"], ["last_hidden_state"])
    export(a.out, "vae_decoder", decoder, lambda m, z: m.decode(z).sample, (latent,), ["latent_sample"], ["sample"])
    export(a.out, "vae_encoder", decoder, lambda m, x: m.encode(x).latent_dist.parameters, (torch.randn(2, 3, decoder.config.sample_size, decoder.config.sample_size),), ["sample"], ["latent_parameters"])
    tokens = tokenizer(context)
    (a.out / "tokenizer").mkdir(exist_ok=True)
    tokens.save(str(a.out / "tokenizer" / "tokenizer.json"))
    ids = torch.tensor([tokens.encode("").ids, tokens.encode(PROMPT).ids])
    for name, module in (("unet", unet), ("text_encoder", text)):
        (a.out / name / "config.json").write_text(json.dumps(json.loads(module.config.to_json_string() if name == "text_encoder" else module.to_json_string()), indent=1, sort_keys=True))
    (a.out / "vae_decoder" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", "scaling_factor": decoder.config.scaling_factor, "latent_channels": 4}, indent=1))
    (a.out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "OnnxRuntimeModel"], "text_encoder": ["diffusers", "OnnxRuntimeModel"],
        "vae_decoder": ["diffusers", "OnnxRuntimeModel"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "scheduler": ["diffusers", "DDIMScheduler"]}, indent=1))  # fmt: skip
    noise = torch.randn(1, 4, side, side)
    tensors = {"noise": noise}
    for prediction in ("epsilon", "v_prediction") if not a.full else ("epsilon",):
        for guidance in (1.0, 3.0) if not a.full else ():
            x, picture, scheduler = sampled(unet, text, decoder, ids, noise, prediction, guidance)
            tensors |= {f"{prediction}.{guidance:g}.latent": x, f"{prediction}.{guidance:g}.picture": picture}
    if not a.full:
        tensors |= multistep(unet, text, ids, noise, 3.0)
        picture = torch.rand(1, 3, decoder.config.sample_size, decoder.config.sample_size) * 2 - 1
        with torch.no_grad():
            tensors |= {"encoder.picture": picture, "encoder.latent": decoder.encode(picture).latent_dist.mean * decoder.config.scaling_factor}
    scheduler = DDIMScheduler(**TRAINED, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.save_pretrained(a.out / "scheduler")
    if not a.full:
        save_file({k: v.contiguous() for k, v in tensors.items()}, a.out / "references.safetensors")


if __name__ == "__main__":
    main()
