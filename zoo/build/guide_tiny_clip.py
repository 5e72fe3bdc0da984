"""Rebuild zoo/guides/tiny_clip: a CLIP of random weights in the files that Hugging Face's ONNX exports have.

    python guide_tiny_clip.py

It knows nothing; it is there to compare both towers and the tokeniser with `transformers` (`reference.safetensors`:
token ids, unit-norm text embeddings and picture embeddings). Needs torch, transformers, onnx, tokenizers, safetensors, pillow.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "guides/tiny_clip"
TEXTS = ["a photo of a balloon", "Flamingo!", "a close-up picture of food, apple pie", "zebra's 2 stripes"]
CONTEXT, SIDE = 40, 32


def tokenizer(names: list[str]) -> CLIPTokenizerFast:
    """A byte-pair vocabulary of 600 entries, with CLIP's own normaliser, pattern and special tokens."""
    words = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
    words.train_from_iterator([name.lower().replace(" ", "") for name in names] + [n.lower() for n in names], trainer)
    learnt = json.loads(words.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt["merges"]]
    pieces = sorted(set(alphabet)) + [f"{letter}</w>" for letter in sorted(set(alphabet))]
    for left, right in merges:
        pieces += [left + right]
    pieces = list(dict.fromkeys(pieces)) + ["<|startoftext|>", "<|endoftext|>"]
    known = set(pieces)
    merges = [m for m in merges if m[0] in known and m[1] in known]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizerFast(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    names = (HERE.parent / "models/squeezenet1_1/squeezenet1_1.labels.txt").read_text().splitlines()
    words = tokenizer(names + TEXTS)
    words.backend_tokenizer.save(str(OUT / "tokenizer.json"))
    (OUT / "tokenizer_config.json").write_text(json.dumps({"model_max_length": CONTEXT}) + "\n")
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "quick_gelu"}
    eos, bos = words.eos_token_id, words.bos_token_id
    config = CLIPConfig(
        text_config={**tower, "vocab_size": len(words), "max_position_embeddings": CONTEXT, "eos_token_id": eos, "bos_token_id": bos, "pad_token_id": eos},
        vision_config={**tower, "image_size": SIDE, "patch_size": 8},
        projection_dim=24,
    )
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(OUT)

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

    class Vision(Tower):
        def forward(self, pixel_values):
            return model.visual_projection(model.vision_model(pixel_values).pooler_output)

    class Text(Tower):
        def forward(self, input_ids, attention_mask):
            return model.text_projection(model.text_model(input_ids, attention_mask).pooler_output)

    vision, text = Vision(), Text()
    pixels = torch.zeros(2, 3, SIDE, SIDE)
    ids = torch.tensor([[bos, 5, eos], [bos, 6, eos]])
    options = {"dynamo": False, "opset_version": 17, "do_constant_folding": True}
    torch.onnx.export(vision, (pixels,), OUT / "vision_model.onnx", input_names=["pixel_values"], output_names=["image_embeds"],
                      dynamic_axes={"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}}, **options)  # fmt: skip
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    torch.onnx.export(text, (ids, torch.ones_like(ids)), OUT / "text_model.onnx", input_names=["input_ids", "attention_mask"],
                      output_names=["text_embeds"], dynamic_axes={**axes, "text_embeds": {0: "batch"}}, **options)  # fmt: skip

    reference = {}
    for index, sentence in enumerate(TEXTS):
        batch = words([sentence], return_tensors="pt")
        with torch.no_grad():
            embedding = text(batch["input_ids"], batch["attention_mask"])
        reference[f"ids.{index}"] = batch["input_ids"][0].numpy()
        reference[f"text.{index}"] = torch.nn.functional.normalize(embedding)[0].numpy()
    # Of the towers' own size: resizing has tests of its own.
    rng = np.random.default_rng(0)
    ramp = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="xy"), -1)
    picture = np.concatenate([ramp * 7, rng.integers(0, 255, (SIDE, SIDE, 1))], -1).astype(np.uint8)
    Image.fromarray(picture).save(OUT / "picture.png")
    with torch.no_grad():
        seen = processor(Image.open(OUT / "picture.png"), return_tensors="pt")["pixel_values"]
        reference["picture"] = vision(seen)[0].numpy()
    save_file(reference, OUT / "reference.safetensors")
    (OUT / "texts.txt").write_text("\n".join(TEXTS) + "\n")


if __name__ == "__main__":
    main()
