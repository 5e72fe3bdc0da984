"""Does the emoji-scene model draw what it is asked for? An independent classifier of scenes answers.

    python judge.py train --out judge.pt                      # a few minutes on two cores
    python judge.py prompts --out prompts.txt                 # 200 prompts, one a line
    pellucid diffusion sample zoo/models/emoji_diffusion --prompts prompts.txt --guidance 3 --out runs/judged
    python judge.py judge --weights judge.pt runs/judged

The classifier learns from composed scenes alone and never sees a generated picture. `train` prints its accuracy on scenes that
it did not see; `judge` reads the prompt from each picture's name.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scenes import BACKGROUNDS, OBJECTS, compose
from torch import nn

NAMES = [*OBJECTS, *BACKGROUNDS]


def scenes(count, seed):
    """Pictures in [-1, 1], and which objects and background each holds."""
    rng = np.random.default_rng(seed)
    pictures, truth = [], np.zeros((count, len(NAMES)), np.float32)
    for i in range(count):
        scene = compose(rng)
        pictures.append(scene.image)
        for name in [*scene.objects, scene.background]:
            truth[i, NAMES.index(name)] = 1
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2) * 2 - 1, torch.tensor(truth)


def network():
    def block(inside, outside, stride):
        return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]

    layers = [*block(3, 24, 2), *block(24, 48, 2), *block(48, 96, 2), *block(96, 96, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(96, len(NAMES))]
    return nn.Sequential(*layers)


def blurred(x):
    """Half of the batch a little blurred and noisy, so that a decoder's softness is not what decides."""
    soft = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    share = torch.rand(len(x), 1, 1, 1) * (torch.rand(len(x), 1, 1, 1) < 0.5)
    return x + share * (soft - x) + 0.05 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)


def answers(logits):
    """The named objects (those above one half, or the likeliest) and the background of each row."""
    objects, grounds = logits[:, : len(OBJECTS)], logits[:, len(OBJECTS) :]
    named = []
    for row, ground in zip(objects, grounds):
        over = {NAMES[i] for i in torch.nonzero(row > 0).flatten().tolist()} or {NAMES[int(row.argmax())]}
        named.append((over, NAMES[len(OBJECTS) + int(ground.argmax())]))
    return named


def interval(hits, count, z=1.96):
    """Wilson's interval of a proportion."""
    p = hits / count
    centre, half = (p + z * z / (2 * count)), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return f"{hits} of {count}, {p:.1%} ({(centre - half) / (1 + z * z / count):.1%} to {(centre + half) / (1 + z * z / count):.1%})"


def train(out, count, epochs):
    torch.manual_seed(0)
    pictures, truth = scenes(count, 101)
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    steps = epochs * (count // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        for batch in torch.randperm(count)[: count // 128 * 128].view(-1, 128):
            loss = nn.functional.binary_cross_entropy_with_logits(net(blurred(pictures[batch])), truth[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.4f}", flush=True)
    torch.save(net.state_dict(), out)
    net.eval()
    held, truth = scenes(4000, 202)
    with torch.no_grad():
        named = answers(torch.cat([net(held[i : i + 256]) for i in range(0, len(held), 256)]))
    wanted = [{NAMES[j] for j in torch.nonzero(row).flatten().tolist()} for row in truth]
    print("held-out scenes, every object and the background right:", interval(sum(o | {g} == w for (o, g), w in zip(named, wanted)), len(wanted)))


def prompts(out):
    """12 objects on 6 backgrounds, over and over, to 200; the seed is the same, the prompts differ or the line's number does."""
    lines = [f"a {o} on {g}" for g in BACKGROUNDS for o in OBJECTS]
    pairs = [f"a {a} and a {b} on {g}" for a in OBJECTS for b, g in zip(OBJECTS, [*BACKGROUNDS] * 2) if a != b]
    rng = np.random.default_rng(7)
    chosen = rng.choice(len(pairs), 200 - len(lines), replace=False)
    Path(out).write_text("\n".join(lines + [pairs[i] for i in sorted(chosen)]) + "\n")


def judge(weights, runs):
    net = network()
    net.load_state_dict(torch.load(weights))
    net.eval()
    rows = []
    for file in sorted(Path(runs).glob("*.png")):
        prompt = file.stem.replace("-", " ")
        picture = np.asarray(Image.open(file).convert("RGB").resize((64, 64), Image.BOX), np.float32)
        x = torch.tensor(picture / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.no_grad():
            rows.append((prompt, *answers(net(x))[0]))
    words = [(set(p.split()) & set(OBJECTS), (set(p.split()) & set(BACKGROUNDS)), o, g) for p, o, g in rows]
    single = [w for w in words if len(w[0]) == 1]
    double = [w for w in words if len(w[0]) == 2]
    for title, some in [("all prompts", words), ("one object", single), ("two objects", double)]:
        if some:
            print(f"{title}: every prompted object named in", interval(sum(w <= o for w, _, o, _ in some), len(some)))
            print(f"{title}: and nothing else            in", interval(sum(w == o for w, _, o, _ in some), len(some)))
    print("background named in", interval(sum(g in b for _, b, _, g in words), len(words)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "prompts", "judge"])
    parser.add_argument("runs", nargs="?", help="folder of pictures to judge")
    parser.add_argument("--out", default="judge.pt")
    parser.add_argument("--weights", default="judge.pt")
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_intermixed_args()
    {"train": lambda: train(arguments.out, arguments.scenes, arguments.epochs), "prompts": lambda: prompts(arguments.out), "judge": lambda: judge(arguments.weights, arguments.runs)}[arguments.what]()
