"""Train the emoji-scene text-to-image diffusion model on a CPU.

    python train.py unet --out emoji-diffusion --minutes 65
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image
import patch_ae
from scenes import WORDS, compose
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel

MAX_TOKENS = 12
SCHEDULE = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
PROMPTS = ["a cat on blue", "a apple on white", "a rocket on gray", "a panda on green", "a heart and a star on white",
           "a frog left of a mushroom on yellow", "a car and a tree on gray", "a fish on red"]


def build_tokenizer():
    vocab = {w: i for i, w in enumerate(["<pad>", "<start>", "<end>", "<unk>", *WORDS])}
    t = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)])
    t.enable_padding(length=MAX_TOKENS, pad_id=0, pad_token="<pad>")
    t.enable_truncation(MAX_TOKENS)
    return t


def build_unet():
    return UNet2DConditionModel(sample_size=16, in_channels=12, out_channels=12, layers_per_block=1, block_out_channels=(48, 96), norm_num_groups=8,
                                cross_attention_dim=64, attention_head_dim=(2, 4), transformer_layers_per_block=1,
                                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))


def build_text():
    return CLIPTextModel(CLIPTextConfig(vocab_size=4 + len(WORDS), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                                        max_position_embeddings=MAX_TOKENS, projection_dim=64, bos_token_id=1, eos_token_id=2, pad_token_id=0))


def pool(n, seed):
    rng = np.random.default_rng(seed)
    sc = [compose(rng) for _ in range(n)]
    return torch.tensor(np.stack([s.image for s in sc])).permute(0, 3, 1, 2).mul(2).sub(1), [s.caption for s in sc]


def cosine_lr(opt, lr, step, frac):
    for g in opt.param_groups:
        g["lr"] = lr * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(frac, 1))) + 1e-5


def grid(x, tag):
    im = ((x.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(im[i:i + 8]), 1) for i in range(0, len(im), 8)]
    Image.fromarray(np.concatenate(rows, 0)).resize((8 * 128, 128 * len(rows)), Image.NEAREST).save(f"sample_{tag}.png")


def train_unet(out, minutes, resume=False, batch=64, lr=8e-4):
    X, captions = pool(30000, 2)
    ae = patch_ae.fit(X[:4000]); Path(out).mkdir(exist_ok=True); torch.save(ae, Path(out) / "patch_ae.pt")
    grid(torch.cat([X[:8], patch_ae.Decoder(ae)(patch_ae.encode(ae, X[:8]) / ae["scale"])]).detach(), "ae")
    Z = torch.cat([patch_ae.encode(ae, X[i:i + 256]) for i in range(0, len(X), 256)])
    print("latent std", Z.std((0, 2, 3)).tolist(), "scale", ae["scale"], flush=True)
    del X
    tok = build_tokenizer(); ids = torch.tensor([tok.encode(c).ids for c in captions]); empty = torch.tensor(tok.encode("").ids)
    unet, text = build_unet().to(memory_format=torch.channels_last), build_text()
    params = [*unet.parameters(), *text.parameters()]
    print("unet params", sum(p.numel() for p in unet.parameters()), "text", sum(p.numel() for p in text.parameters()), flush=True)
    sched = DDIMScheduler(**SCHEDULE); ac = sched.alphas_cumprod; snr = ac / (1 - ac); w = snr.clamp(max=5) / (snr + 1)  # min-SNR weighting for v-prediction
    a_, s_ = ac.sqrt(), (1 - ac).sqrt()
    if resume: unet.load_state_dict(UNet2DConditionModel.from_pretrained(Path(out) / "unet").state_dict()); text.load_state_dict(CLIPTextModel.from_pretrained(Path(out) / "text_encoder").state_dict())
    opt = torch.optim.AdamW(params, lr=lr, weight_decay=1e-3, betas=(0.9, 0.99)); ema = [p.detach().clone() for p in params]
    start, step, run, last = time.time(), 0, None, time.time()
    while (frac := (time.time() - start) / (minutes * 60)) < 1:
        cosine_lr(opt, lr, step, frac)
        i = torch.randint(0, len(Z), (batch,)); c = ids[i].clone(); c[torch.rand(batch) < 0.1] = empty
        t = torch.randint(0, 1000, (batch,)); n = torch.randn(batch, 12, 16, 16)
        x = sched.add_noise(Z[i], n, t).contiguous(memory_format=torch.channels_last)
        e = unet(x, t, encoder_hidden_states=text(c).last_hidden_state).sample
        k = lambda v: v[t][:, None, None, None]
        loss = (w[t] * (e - (k(a_) * n - k(s_) * Z[i])).pow(2).mean((1, 2, 3))).mean()
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step()
        d = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad(): torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - d)
        step += 1; run = loss.item() if run is None else 0.98 * run + 0.02 * loss.item()
        if step % 100 == 0: print(step, f"{run:.4f}", f"{(time.time()-start)/step:.3f} s/step", flush=True)
        if time.time() - last > 720: last = time.time(); finish(out, unet, text, tok, params, ema, f"{int((time.time()-start)/60)}min")
    finish(out, unet, text, tok, params, ema, "final")


@torch.no_grad()
def finish(out, unet, text, tok, params, ema, tag):
    """Save the averaged weights and draw the sample sheet from them."""
    out = Path(out); cur = [p.detach().clone() for p in params]
    for p, q in zip(params, ema): p.copy_(q)
    unet.save_pretrained(out / "unet"); text.save_pretrained(out / "text_encoder"); (out / "tokenizer").mkdir(parents=True, exist_ok=True)
    tok.save(str(out / "tokenizer" / "tokenizer.json")); DDIMScheduler(**SCHEDULE).save_pretrained(out / "scheduler")
    sample(out, tag)
    for p, q in zip(params, cur): p.copy_(q)


@torch.no_grad()
def sample(out, tag, steps=30, guidance=3.0):
    u = UNet2DConditionModel.from_pretrained(Path(out) / "unet").eval(); tx = CLIPTextModel.from_pretrained(Path(out) / "text_encoder").eval()
    ae = torch.load(Path(out) / "patch_ae.pt"); tok = build_tokenizer()
    h = tx(torch.tensor([tok.encode(p).ids for p in PROMPTS] + [tok.encode("").ids] * len(PROMPTS))).last_hidden_state
    s = DDIMScheduler(**SCHEDULE); s.set_timesteps(steps)
    x = torch.randn(len(PROMPTS), 12, 16, 16, generator=torch.Generator().manual_seed(1))
    for t in s.timesteps:
        c, n = u(torch.cat([x, x]), t, encoder_hidden_states=h).sample.chunk(2)
        x = s.step(n + guidance * (c - n), t, x).prev_sample
    grid(patch_ae.Decoder(ae)(x / ae["scale"]), tag)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(); ap.add_argument("what", choices=["unet", "sample"]); ap.add_argument("--out", default="emoji-diffusion"); ap.add_argument("--minutes", type=float, default=10); ap.add_argument("--resume", action="store_true", help="start from the weights in --out")
    a = ap.parse_args(); torch.manual_seed(0)
    {"unet": lambda: train_unet(a.out, a.minutes, a.resume), "sample": lambda: sample(a.out, "sample")}[a.what]()
