"""Masked passes per second, the whole of `explain`, and its memory, against diffusers.

    python benches/rivals/diffusion.py --pellucid target/release/pellucid [--rounds 3] [--threads N]

Both sides run the same U-Net (that of the emoji-scene model; the rival's weights are random, which costs the same) under
guidance with the same number of masks and the same batch. The rival is what the published method does with diffusers in eager
PyTorch: DDIM, the masked passes of DF-RISE with local structure, word maps from attention probabilities kept by a processor, and
DF-CAM from hooks. Its whole is given twice: as it is written plainly, sampling anew up to each step and one module of DF-CAM after
the other, and with what pellucid does better borrowed, one trajectory and one backward pass for all modules. The two sides
alternate; both stop after the same number of masks.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "zoo/models/emoji_diffusion"
PROMPT = "a frog left of a mushroom on yellow"
PASS_STEPS, PASS_MASKS, STEPS, MASKS, GUIDANCE, BATCH = 2, 500, 20, 100, 3.0, 64


def structure(reference, others):
    """Local structural similarity, mean over channels, with a Gaussian window of 15 and sigma 1.5."""
    import torch
    from torch.nn import functional as f

    at = torch.arange(15) - 7.0
    window = torch.exp(-(at**2) / (2 * 1.5**2))
    window = torch.outer(window, window) / window.sum() ** 2
    channels = reference.shape[1]
    smooth = lambda x: f.conv2d(x, window.expand(channels, 1, 15, 15), padding=7, groups=channels)
    mean, means = smooth(reference), smooth(others)
    deviation = (smooth(reference**2) - mean**2).clamp(min=0).sqrt()
    deviations = (smooth(others**2) - means**2).clamp(min=0).sqrt()
    together = smooth(reference * others) - mean * means
    return ((together + 4.5e-4) / (deviation * deviations + 4.5e-4)).mean(1)


class Kept:
    """An attention processor that keeps the conditional half's probabilities, mean over heads."""

    def __init__(self, maps):
        self.maps = maps

    def __call__(self, attention, hidden, encoder_hidden_states=None, attention_mask=None, **_):
        batch = hidden.shape[0]
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        split = attention.head_to_batch_dim
        query, key, value = split(attention.to_q(hidden)), split(attention.to_k(context)), split(attention.to_v(context))
        probabilities = attention.get_attention_scores(query, key, attention_mask)
        if encoder_hidden_states is not None:
            heads = probabilities.view(batch, -1, *probabilities.shape[1:])
            self.maps.append(heads[batch // 2 :].mean(1).detach())
        out = attention.batch_to_head_dim(probabilities @ value)
        return attention.to_out[1](attention.to_out[0](out))


def work(steps, masks, whole):
    """The rival; prints the seconds of its parts and its peak memory."""
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from torch.nn import functional as f

    torch.manual_seed(0)
    config = json.loads((MODEL / "unet/config.json").read_text())
    unet = UNet2DConditionModel.from_config(config).eval()
    scheduler = DDIMScheduler.from_config(json.loads((MODEL / "scheduler/scheduler_config.json").read_text()))
    scheduler.set_timesteps(steps)
    side, channels = unet.config.sample_size, unet.config.in_channels
    conditions = torch.randn(2, 12, unet.config.cross_attention_dim)

    def guided(x, t):
        tokens = conditions.repeat_interleave(len(x), 0)
        free, conditional = unet(torch.cat([x, x]), t, encoder_hidden_states=tokens).sample.chunk(2)
        return free + GUIDANCE * (conditional - free)

    def clean(x, epsilon, t):
        alpha = scheduler.alphas_cumprod[t]
        return alpha.sqrt() * x - (1 - alpha).sqrt() * epsilon

    seconds, begin = {}, time.perf_counter()
    x = torch.randn(1, channels, side, side)
    latents = []
    with torch.no_grad():
        for t in scheduler.timesteps:
            latents.append(x)
            x = scheduler.step(guided(x, t), t, x).prev_sample
    seconds["trajectory"] = time.perf_counter() - begin
    begin = time.perf_counter()
    with torch.no_grad():
        for t, x in zip(scheduler.timesteps, latents):
            whole_result, total, kept = clean(x, guided(x, t), t), 0, 0
            for at in range(0, masks, BATCH // 2):
                count = min(BATCH // 2, masks - at)
                mask = torch.randint(0, 2, (count, 1, side, side)).float()
                score = structure(whole_result, clean(x * mask, guided(x * mask, t), t))
                total, kept = total + (mask[:, 0] * score).sum(0), kept + mask[:, 0].sum(0)
            _ = total / kept
    seconds["masks"] = time.perf_counter() - begin
    if whole:
        begin = time.perf_counter()
        ordinary = unet.attn_processors
        for t, x in zip(scheduler.timesteps, latents):
            maps = []
            unet.set_attn_processor(Kept(maps))
            with torch.no_grad():
                guided(x, t)
        unet.set_attn_processor(ordinary)
        seconds["attention"] = time.perf_counter() - begin
        modules = [m for n, m in unet.named_modules() if n.split(".")[-2:-1] in (["resnets"], ["attentions"], ["downsamplers"], ["upsamplers"])]

        def cam(x, t, modules):
            kept = []

            def keep(module, inputs, output):
                output = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
                output.retain_grad()
                kept.append(output)

            hooks = [m.register_forward_hook(keep) for m in modules]
            unet(torch.cat([x, x]).requires_grad_(), t, encoder_hidden_states=conditions).sample.sum().backward()
            for hook in hooks:
                hook.remove()
            for a in kept:
                act, grad = (v[0] + GUIDANCE * (v[1] - v[0]) for v in (a.detach(), a.grad))
                f.interpolate((grad.mean((1, 2))[:, None, None] * act).sum(0).relu()[None, None], (side, side), mode="bilinear")
            unet.zero_grad()

        begin = time.perf_counter()
        for t, x in zip(scheduler.timesteps, latents):
            cam(x, t, modules)
        seconds["cam"] = time.perf_counter() - begin
        begin = time.perf_counter()
        for t, x in zip(scheduler.timesteps, latents):
            for module in modules:
                cam(x, t, [module])
        seconds["cam, module by module"] = time.perf_counter() - begin
        begin = time.perf_counter()
        with torch.no_grad():
            for last in range(len(latents)):
                x = latents[0]
                for t in scheduler.timesteps[:last]:
                    x = scheduler.step(guided(x, t), t, x).prev_sample
        seconds["trajectory, again for each step"] = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "memory": high_water("self")}))


def high_water(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def pellucid(arguments, job, steps, masks, *more):
    """One run of the command in a fresh folder of runs, so that nothing is cached: its stages' seconds, peak memory."""
    with tempfile.TemporaryDirectory() as runs:
        command = [arguments.pellucid, "diffusion", job, MODEL, PROMPT, "--guidance", GUIDANCE, "--steps", steps, "--masks", masks,
                   "--threads", arguments.threads, "--runs", runs, "--json", "--quiet", "--no-supervisor", *more]  # fmt: skip
        out, peak = Path(runs) / "out.json", 0
        with out.open("w") as file:
            process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=file, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                try:
                    peak = max(peak, high_water(process.pid))
                except OSError:
                    pass
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"pellucid ended with {process.returncode}")
        return dict(json.loads(out.read_text())["explained"][0]["timings"]), peak


def rival(arguments, steps, masks, whole):
    command = [sys.executable, __file__, "--work", str(steps), str(masks), str(int(whole)), "--threads", str(arguments.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def shown(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pellucid", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        import torch

        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        work(*arguments.work)
        return
    passes, wholes, plain = [], [], []
    for _ in range(arguments.rounds):
        ours, _ = pellucid(arguments, "rise", PASS_STEPS, PASS_MASKS, "--reliability", 1, "--rise", "x0")
        theirs = rival(arguments, PASS_STEPS, PASS_MASKS, False)["seconds"]["masks"]
        count = PASS_STEPS * PASS_MASKS
        passes.append(theirs / ours["rise"])
        print(f"masked passes a second: pellucid {count / ours['rise']:.0f}, diffusers {count / theirs:.0f}", flush=True)
    for _ in range(arguments.rounds):
        ours, memory = pellucid(arguments, "explain", STEPS, MASKS, "--reliability", 1)
        theirs = rival(arguments, STEPS, MASKS, True)
        own, seconds = sum(ours.values()), theirs["seconds"]
        shared = seconds["masks"] + seconds["attention"]
        best = shared + seconds["trajectory"] + seconds["cam"]
        plainly = shared + seconds["trajectory, again for each step"] + seconds["cam, module by module"]
        wholes.append(best / own)
        plain.append(plainly / own)
        print(f"explain, {STEPS} steps, {MASKS} masks: pellucid {own:.1f} s {ours}, {memory} MiB; diffusers with a kept trajectory and one "
              f"backward pass for all modules {best:.1f} s, plainly {plainly:.1f} s {seconds}, {theirs['memory']} MiB", flush=True)  # fmt: skip
    print(f"ratio of masked passes {shown(passes)}; of the whole explanation, to diffusers with a kept trajectory and one backward pass for "
          f"all modules {shown(wholes)}, written plainly {shown(plain)}")  # fmt: skip
    for steps in (5, 20, 80):
        print(f"peak memory of explain with {steps} steps: {pellucid(arguments, 'explain', steps, 10)[1]} MiB", flush=True)


if __name__ == "__main__":
    main()
