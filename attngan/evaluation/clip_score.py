"""CLIP's opinion of a picture and its caption (Hessel et al. 2021), for evaluation only: nobody trained against it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from attngan.config import settings
from attngan.errors import InputError
from attngan.evaluation import extractors
from attngan.pages import pictures
from attngan.storage import artifacts, places, uris

WEIGHTS = "model.safetensors"
FILES = ("config.json", "preprocessor_config.json")  # without them transformers takes those of another CLIP


@dataclasses.dataclass(frozen=True)
class Clip:
    """An open CLIP.

    Args:
        name: "clip-" and the first digits of the weights' sha256.
        conditions: sha256, and how a picture is resized.
        score: images (B, 3, H, W) in [-1, 1] and their B captions -> (B,), 100 times the cosine of both.
    """

    name: str
    conditions: dict[str, str]
    score: Callable[[Tensor, Sequence[str]], Tensor]


@contextlib.contextmanager
def open_clip(given: settings.WeightsFile, device: torch.device) -> Iterator[Clip | None]:
    """Open a CLIP as transformers writes it: config, tokenizer, preprocessor and `model.safetensors`, no code.

    Args:
        given: folder, local or in cloud storage, and the sha256 of its `model.safetensors`; None where there is none.
        device: where it runs.

    Raises:
        InputError: transformers is not installed, or the folder holds no such model.
    """
    if not given.uri:
        yield None
        return
    try:
        import transformers
    except ImportError:
        raise InputError('evaluate.clip: needs transformers; install attngan with its extra "clip".') from None
    with places.local_input(given.uri) as folder:
        where = f"evaluate.clip: {uris.join(given.uri, WEIGHTS)}"
        sha256 = artifacts.checked_sha256(folder / WEIGHTS, given.sha256, "evaluate.clip.sha256", where=where)
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise InputError(f"evaluate.clip: {given.uri}: no {missing[0]}; give the folder of a CLIP, whole.")
        local = {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
        transformers.logging.set_verbosity_error()  # what is wrong is said below, once
        try:
            model, loaded = transformers.CLIPModel.from_pretrained(
                **local, use_safetensors=True, output_loading_info=True
            )
            if loaded["missing_keys"]:
                raise ValueError(f"{len(loaded['missing_keys'])} tensors are missing")
            tokenizer = transformers.CLIPTokenizer.from_pretrained(**local)
            processor = transformers.CLIPImageProcessor.from_pretrained(**local)
        except (OSError, ValueError, RuntimeError) as error:
            detail = " ".join(str(error).split())[:160]
            raise InputError(
                f"evaluate.clip: {given.uri}: cannot be read as a CLIP ({detail}); give its folder."
            ) from None
    model.to(device).eval()
    max_length = model.config.text_config.max_position_embeddings

    def score(images: Tensor, captions: Sequence[str]) -> Tensor:
        texts = tokenizer(list(captions), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        pixels = processor(pictures.to_pictures(images), return_tensors="pt")["pixel_values"]
        seen = model(**texts.to(device), pixel_values=pixels.to(device))
        return 100 * (seen.image_embeds * seen.text_embeds).sum(dim=1)

    conditions = {"sha256": sha256, "resize": "as its preprocessor says"}
    yield Clip(f"clip-{sha256[: extractors.NUM_DIGITS]}", conditions, score)
