"""CLIP's score, by a CLIP of a few weights that the test makes."""

import json

import pytest
import torch

from attngan.config import settings as configs
from attngan.errors import InputError
from attngan.evaluation.clip_score import open_clip

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as transformers writes it, with random weights and a vocabulary of letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={
            **small,
            "vocab_size": len(tokens),
            "max_position_embeddings": 12,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


def opened(folder, sha256=""):
    with open_clip(configs.WeightsFile(uri=str(folder), sha256=sha256), torch.device("cpu")) as clip:
        return clip


def test_the_score_is_the_cosine_of_picture_and_caption_whatever_stands_beside_it(folder):
    clip = opened(folder)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    captions = ["a red bird", "blue", "a bird of many words that is longer than all that a text may be here"]
    scores = clip.score(images, captions)
    alone = torch.cat([clip.score(images[i : i + 1], captions[i : i + 1]) for i in range(3)])
    assert torch.allclose(scores, alone, atol=1e-3) and len(set(scores.tolist())) == 3
    assert scores.abs().max() <= 100 and clip.name.startswith("clip-") and len(clip.conditions["sha256"]) == 64
    model, tokenizer, processor = (
        getattr(transformers, name).from_pretrained(folder)
        for name in ("CLIPModel", "CLIPTokenizer", "CLIPImageProcessor")
    )
    pixels = processor(torch.round((images[:1] + 1) * 127.5).to(torch.uint8), return_tensors="pt")["pixel_values"]
    seen = model(**tokenizer(captions[:1], return_tensors="pt"), pixel_values=pixels)
    cosine = torch.cosine_similarity(seen.text_embeds, seen.image_embeds)
    assert scores[0].item() == pytest.approx(100 * cosine.item(), abs=1e-2)


def test_no_clip_is_asked_for_where_none_is_given():
    with open_clip(configs.WeightsFile(), torch.device("cpu")) as clip:
        assert clip is None


def test_what_is_no_clip_is_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(
        InputError, match=rf"evaluate\.clip: {tmp_path}/model\.safetensors: expected a file of weights, "
    ):
        opened(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"no config\.json"):
        opened(tmp_path)
    other = transformers.CLIPConfig.from_pretrained(folder)
    other.vision_config.hidden_size = 24
    other.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    with pytest.raises(InputError, match="cannot be read as a CLIP"):
        opened(tmp_path)
    with pytest.raises(InputError, match="expected sha256 1234"):
        opened(folder, "1234")
