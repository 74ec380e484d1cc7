"""Small checkpoints of every kind that is read, of random weights, with tokenizers of their kind: as transformers saves them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
    XLMRobertaTokenizer,
)

WORDS = "a photo of the shirt dress shoes hat ein foto von Kleid Hemd Schuhe una camisa vestido zapatos シャツ ドレス 靴 . , !"
LAYERS = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
SIDE = 64


def make_siglip(folder: Path) -> Path:
    """A SigLIP, whose tokenizer is of sentencepiece."""
    stored = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS.lower()] * 20),
        model_writer=stored,
        vocab_size=300,
        character_coverage=1.0,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(stored.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), pad_token="</s>", model_max_length=16)
    return _save_siglip(folder, tokenizer, {"pad_token_id": 1, "eos_token_id": 1, "bos_token_id": 1})


def make_siglip2(folder: Path) -> Path:
    """A SigLIP 2 of one resolution: its tokenizer is Gemma's, of byte pairs, and does not make capitals small."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        [WORDS.lower()] * 20, trainers.BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )
    return _save_siglip(folder, fast, {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2})


def _save_siglip(folder: Path, tokenizer: PreTrainedTokenizerFast | SiglipTokenizer, text: dict[str, int]) -> Path:
    torch.manual_seed(0)
    sizes = {"vocab_size": max(len(tokenizer), 256), "max_position_embeddings": 32, "projection_size": 64}
    model = SiglipModel(
        SiglipConfig(text_config={**LAYERS, **sizes, **text}, vision_config={**LAYERS, "image_size": SIDE, "patch_size": 16})
    )
    model.logit_scale.data.fill_(2.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def make_metaclip2(folder: Path) -> Path:
    """A MetaCLIP 2, whose tokenizer is XLM-R's and knows words of several languages."""
    torch.manual_seed(0)
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(f"▁{word}", -3.0) for word in WORDS.split()] + [(letter, -6.0) for letter in sorted({*WORDS, *"▁abcdefghijklm"})]
    letters = [(chr(code), -9.0) for code in range(0x20, 0x17F)]
    tokenizer = XLMRobertaTokenizer(vocab=[*special, *dict([*letters, *pieces]).items(), ("<mask>", 0.0)])
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    vision = {"image_size": SIDE, "patch_size": 16}
    model = MetaClip2Model(MetaClip2Config(text_config={**LAYERS, **text}, vision_config={**LAYERS, **vision}, projection_dim=48))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def make_open_clip(folder: Path) -> Path:
    """A ViT with CLIP's own tokenizer, which open_clip brings."""
    vision = {"image_size": SIDE, "layers": 3, "width": 64, "head_width": 16, "patch_size": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
    return _save_open_clip(folder, {"embed_dim": 48, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}, {})


def make_open_siglip(folder: Path) -> Path:
    """A SigLIP as open_clip has it: the image tower is one of timm's, the tokenizer is in the folder."""
    make_siglip2(folder)
    for path in folder.iterdir():
        if "token" not in path.name:
            path.unlink()
    vision = {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False}
    vision |= {"timm_pool": "map", "timm_proj": "none"}
    text = {
        "context_length": 32,
        "vocab_size": 600,
        "width": 192,
        "heads": 4,
        "layers": 2,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2",
    }
    text |= {"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model = {"embed_dim": 192, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    return _save_open_clip(folder, model, {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"})


def _save_open_clip(folder: Path, model: dict[str, Any], pixels: dict[str, Any]) -> Path:
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pixels}))
    torch.manual_seed(0)
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder


OPEN_CLIP = {"open_clip": make_open_clip, "open_clip with timm": make_open_siglip}
MAKERS = {"siglip": make_siglip, "siglip2": make_siglip2, "metaclip_2": make_metaclip2}
