"""Train sample_catalog/model: a CLIP small enough to ship, from Fashion-MNIST and photos of clothing.

    python sample_catalog/build/train_model.py --fashion-mnist DIR --photos DIR --output sample_catalog/model

DIR with Fashion-MNIST's four .gz files, and DIR with one folder of JPEGs per class. Both go through one text side: a
step asks several questions ("which of these labels is it?"), each a softmax over the prompts of its labels, which is
the image-to-text half of CLIP's loss (Radford et al. 2021, figure 3) with every label as a candidate. Half of the image
patches are left out until the last fifth of the steps (FLIP, Li et al. 2023), photos are mixed (mixup, Zhang et al.
2018; CutMix, Yun et al. 2019), and what is saved is the moving average of the weights. Nothing is chosen by looking at
test data: the last state is the model. Killed, it continues from `--state`.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fashion_mnist import read
from PIL import Image, ImageOps
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

CARD = """\
# A sample model

This CLIP is for trying Tagger out, not for tagging a real catalogue: it has seen 62,048 pictures of clothing and knows
some thirty words. `../README.md` says how it was made and what it reaches.
"""
SIZE = 64
PHOTO_CLASSES = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
# The classes of both sources in one list: 0-9 are Fashion-MNIST's, 10-19 the photos'.
FASHION, PHOTO = 0, 10

# question -> label -> the classes for which it is the answer. A picture takes part where it has an answer.
QUESTIONS: dict[str, dict[str, list[int]]] = {
    "fashion": {
        "t-shirt": [0], "trousers": [1], "pullover": [2], "dress": [3], "coat": [4],
        "sandal": [5], "shirt": [6], "sneaker": [7], "bag": [8], "ankle boot": [9],
    },
    "photo": {name: [PHOTO + index] for index, name in enumerate(PHOTO_CLASSES)},
    "department": {
        "tops": [0, 2, 6, 12, 15, 19], "outerwear": [4, 13], "bottoms": [1, 14, 17, 18],
        "dresses": [3, 10], "footwear": [5, 7, 9, 16], "accessories": [8, 11],
    },
    "garment": {
        "t-shirt": [0, 19], "pants": [1, 14], "sweater": [2], "dress": [3, 10], "jacket": [4, 13], "shirt": [6, 15],
        "shoes": [5, 7, 9, 16], "bag": [8], "hat": [11], "shorts": [17], "skirt": [18],
    },
    "study": {"shirt": [6, 15], "dress": [3, 10], "shoes": [5, 7, 9, 16]},
}  # fmt: skip
WEIGHTS = {"fashion": 1.0, "photo": 1.0, "department": 0.3, "garment": 0.3, "study": 0.3}
TEMPLATES = (
    "A photo of a {}.", "A photo of {}.", "a picture of a {}", "a product photo of a {}", "{}", "a {}",
    "a photo of the {}, a piece of clothing", "a {} on a plain background", "a catalogue image of a {}",
)  # fmt: skip


def make_tokenizer() -> CLIPTokenizer:
    """Train a byte-pair vocabulary on the prompts, in the form of CLIP's own (bytes, `</w>` at the end of a word)."""
    labels = sorted({label for question in QUESTIONS.values() for label in question})
    words = "man woman kids leather cotton denim blue red black white green summer winter boot sandals sneakers jeans"
    corpus = [template.format(label) for template in TEMPLATES for label in [*labels, *words.split()]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=1024, initial_alphabet=alphabet, end_of_word_suffix="</w>", min_frequency=1)
    tokenizer.train_from_iterator(corpus, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    # CLIP's order: bytes, bytes that end a word, merges, specials.
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(merge) for merge in merges), *specials]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2}
    vision = {"hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 6, "num_attention_heads": 5}
    return CLIPModel(
        CLIPConfig(
            text_config={**text, **ids, "pad_token_id": tokenizer.eos_token_id, "num_attention_heads": 4},
            vision_config={**vision, "image_size": SIZE, "patch_size": 8},
            projection_dim=128,
        )
    )


def read_photos(folder: Path, side: int = 96) -> tuple[Tensor, Tensor]:
    """Centre squares, uint8 (N, 3, side, side), and classes int64 (N,)."""
    pictures, classes = [], []
    for index, name in enumerate(PHOTO_CLASSES):
        for path in sorted((folder / name).iterdir()):
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
            pictures.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
            classes.append(PHOTO + index)
    return torch.stack(pictures), torch.tensor(classes)


def uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count).uniform_(low, high)


def warp(images: Tensor, degrees: float, zoom: tuple[float, float], stretch: float, shift: float) -> Tensor:
    """Rotate, scale, stretch, shift and flip float images (N, C, H, W), each by its own draw, into (N, C, SIZE, SIZE)."""
    count = len(images)
    angle = uniform(count, -degrees, degrees) * math.pi / 180
    scale, aspect = uniform(count, *zoom), uniform(count, -stretch, stretch).exp()
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * scale * aspect * flip, -sin * scale, uniform(count, -shift, shift)]
    columns = [sin * scale * flip, cos * scale / aspect, uniform(count, -shift, shift)]
    theta = torch.stack([torch.stack(rows, 1), torch.stack(columns, 1)], 1)
    grid = F.affine_grid(theta, [count, images.shape[1], SIZE, SIZE], align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def augment_fashion(images: Tensor, plain: float) -> Tensor:
    """uint8 (N, 28, 28) -> float (N, 3, SIZE, SIZE): the share `plain` stays grey on black, the rest is coloured."""
    grey = warp(images[:, None].float() / 255, degrees=8, zoom=(0.88, 1.12), stretch=0.08, shift=0.08)
    garment, ground = torch.rand(2, len(grey), 3, 1, 1)
    cover = (grey * 8).clamp(0, 1)
    coloured = cover * grey * (0.3 + 0.7 * garment) + (1 - cover) * ground
    keep = (torch.rand(len(grey)) < plain)[:, None, None, None]
    return torch.where(keep, grey.expand(-1, 3, -1, -1), coloured)


def augment_photos(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, H, W) and one-hot (N, classes) -> warped, recoloured and, half the time, mixed in pairs."""
    pixels = warp(images.float() / 255, degrees=15, zoom=(0.65, 1.1), stretch=0.2, shift=0.15)
    count = len(pixels)
    brightness, contrast, saturation = (uniform(count, 0.65, 1.35)[:, None, None, None] for _ in range(3))
    pixels = (pixels * brightness).clamp(0, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean
    grey = pixels.mean(1, keepdim=True)
    saturation = torch.where(torch.rand(count, 1, 1, 1) < 0.1, 0.0, saturation)
    pixels = ((pixels - grey) * saturation + grey).clamp(0, 1)
    choice, share, other = random.random(), random.betavariate(0.8, 0.8), torch.randperm(count)
    if choice < 0.3:
        pixels = share * pixels + (1 - share) * pixels[other]
    elif choice < 0.6:
        side = round(SIZE * math.sqrt(1 - share))
        top, left = random.randint(0, SIZE - side), random.randint(0, SIZE - side)
        pixels[:, :, top : top + side, left : left + side] = pixels[other, :, top : top + side, left : left + side]
        share = 1 - side**2 / SIZE**2
    else:
        share = 1.0
    return pixels, share * targets + (1 - share) * targets[other]


def encode_images(model: CLIPModel, pixels: Tensor, kept: int | None) -> Tensor:
    """CLIP's image tower on `kept` patches drawn anew for each image (all if None): float32 (N, D), normalised."""
    tower = model.vision_model
    hidden = tower.embeddings(pixels)
    if kept is not None:
        chosen = torch.rand(len(hidden), hidden.shape[1] - 1).argsort(1)[:, :kept] + 1
        chosen = torch.cat([torch.zeros(len(hidden), 1, dtype=torch.long), chosen], 1)
        hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[2]))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state
    return F.normalize(model.visual_projection(tower.post_layernorm(hidden[:, 0])), dim=1)


def question_loss(logits: Tensor, targets: Tensor, labels: dict[str, list[int]], smoothing: float = 0.05) -> Tensor:
    """Cross-entropy of logits (N, K) where the soft targets (N, classes) have an answer, weighted by how much of one."""
    answers = torch.stack([targets[:, classes].sum(1) for classes in labels.values()], 1)
    answered = answers.sum(1)
    wanted = (1 - smoothing) * answers + smoothing / answers.shape[1] * answered[:, None]
    return -(wanted * logits.log_softmax(1)).sum() / answered.sum().clamp(min=1)


class Prompts:
    """Every label's prompt in every template, tokenized once."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.labels = sorted({label for question in QUESTIONS.values() for label in question})
        prompts = [template.format(label) for template in TEMPLATES for label in self.labels]
        ids = tokenizer(prompts, padding=True, return_tensors="pt")["input_ids"]
        self.ids = ids.view(len(TEMPLATES), len(self.labels), -1)

    def draw(self) -> Tensor:
        """One template for each label: int64 (labels, length)."""
        return self.ids[torch.randint(len(TEMPLATES), (len(self.labels),)), torch.arange(len(self.labels))]


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    random.seed(0)
    tokenizer = make_tokenizer()
    prompts = Prompts(tokenizer)
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    model = make_model(tokenizer)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=False
    )
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens", flush=True)

    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=options.steps, pct_start=0.1)

    fashion, fashion_classes = (torch.from_numpy(a.copy()) for a in read(options.fashion_mnist, "train"))
    photos, photo_classes = read_photos(options.photos)
    # Each class of photos is drawn equally often to the power of one half: the rarest is seen more, not as often.
    photo_weights = 1 / photo_classes.bincount()[photo_classes].sqrt()
    one_hot = torch.eye(PHOTO + len(PHOTO_CLASSES))
    encode = torch.compile(encode_images) if options.compile else encode_images

    first = 0
    if options.state.exists():
        state = torch.load(options.state, weights_only=True)
        for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
        first = state["step"]
        torch.manual_seed(first)
        random.seed(first)
    start, shown = time.monotonic(), 0.0
    for step in range(first, options.steps):
        rows = torch.randint(len(fashion), (options.fashion_batch,))
        picks = photo_weights.multinomial(options.photo_batch, replacement=False)
        grey = augment_fashion(fashion[rows], plain=0.7)
        colour, soft = augment_photos(photos[picks], one_hot[photo_classes[picks]])
        targets = torch.cat([one_hot[fashion_classes[rows].long()], soft])
        kept = 32 if step < 0.8 * options.steps else None
        images = encode(model, (torch.cat([grey, colour]) - mean) / deviation, kept)
        texts = F.normalize(model.get_text_features(input_ids=prompts.draw()).pooler_output, dim=1)
        logits = model.logit_scale.exp() * images @ texts.T
        loss = sum(
            WEIGHTS[name] * question_loss(logits[:, [prompts.labels.index(label) for label in labels]], targets, labels)
            for name, labels in QUESTIONS.items()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        average.update_parameters(model)
        shown = loss.item() if step == first else 0.99 * shown + 0.01 * loss.item()
        if (step + 1) % 100 == 0:
            pace = (step + 1 - first) / (time.monotonic() - start)
            print(f"step {step + 1} loss {shown:.3f} scale {model.logit_scale.exp():.1f} {pace:.2f} steps/s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            save(options.output, average.module, tokenizer, processor)
            parts = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
            torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, options.state)


def save(folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessor) -> None:
    """Write the checkpoint in transformers' own format, weights in fp16."""
    half = CLIPModel(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion-mnist", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=Path("train_state.pt"), help="where to continue from")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--fashion-batch", type=int, default=76)
    parser.add_argument("--photo-batch", type=int, default=52)
    parser.add_argument("--compile", action="store_true", help="torch.compile the image tower: faster, needs a compiler")
    train(parser.parse_args())
