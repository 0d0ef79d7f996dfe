"""Our networks with the authors' weights give the authors' numbers, array by array (see `reference_numbers.py`)."""

import pytest
import torch
from reference_numbers import mean_and_std, tiled_attend_words
from torch.nn import functional

from attngan.losses.adversarial import kl_loss
from attngan.models import generator as generator_module
from attngan.models.attention import attend_regions, attend_words


def test_every_section_has_a_test(reference):
    """Each of these files compares whole sections, and fails where an array of one is left out."""
    here = {"text", "image", "image_align_corners", "attention", "attention_b3", "func_attention", "kl"}
    here |= {f"{net}_{mode}" for net in ("gen", "disc") for mode in ("eval", "train")}
    here |= {"gen_eval_own_mask", "gen_train_own_mask"}
    losses = {"words_loss", "sent_loss", "discriminator_loss", "generator_loss"}
    steps = {"damsm_step_dropout", "damsm_step_nodropout", "gan_step", "gan_step_smooth"}
    made_from = {"inputs", "inputs_check", "weights_check"}
    sections = {name.removeprefix("f64/").partition("/")[0] for name in reference.arrays}
    assert sections == here | losses | steps | made_from


def per_image(values):
    """Return mean and standard deviation of each image's values, (B, 2)."""
    return torch.stack([mean_and_std(each) for each in values])


@torch.no_grad()
def test_the_text_encoder(reference, load):
    encoder, found = load("text_encoder"), {}
    for name in "ab":
        words, sentence = encoder(reference[f"inputs/captions_{name}"], reference[f"inputs/lens_{name}"])
        found |= {f"text/words_{name}": words, f"text/sent_{name}": sentence}
    reference.compare(found, reference.under("text/"))


@torch.no_grad()
def test_the_text_encoder_takes_captions_in_any_order(reference, load):
    order = torch.tensor([2, 0, 3, 1])
    words, sentence = load("text_encoder")(reference["inputs/captions_a"][order], reference["inputs/lens_a"][order])
    back = order.argsort()
    found = {"text/words_a": words[back], "text/sent_a": sentence[back]}
    reference.compare(found, set(found))


@torch.no_grad()
@pytest.mark.slow
def test_the_image_encoder(reference, load):
    encoder, images = load("image_encoder"), reference.images("img256")
    resized = functional.interpolate(images, (299, 299), mode="bilinear")
    regions, code = encoder(images)
    found = {
        "image/input299_s16": resized[:, :, ::16, ::16],
        "image/regions_c4": regions[:, ::4],
        "image/regions_stats": per_image(regions),
        "image/code": code,
    }
    reference.compare(found, reference.under("image/"))
    aligned = functional.interpolate(images, (299, 299), mode="bilinear", align_corners=True)  # torch 0.3's resize
    regions, code = encoder(aligned)
    found = {"image_align_corners/code": code, "image_align_corners/regions_stats": per_image(regions)}
    reference.compare(found, reference.under("image_align_corners/"))


@torch.no_grad()
@pytest.mark.parametrize("section", ["attention", "attention_b3"])
def test_the_generators_attention(reference, section):
    """`own_mask` is ours; `mask` is the released code's, in which rows get other captions' masks."""
    hidden = reference[f"inputs/{section}_h"]
    count = len(hidden)
    weight = reference.weight("attention", "conv_context.weight", (32, 256, 1, 1))[..., 0]
    words = functional.conv1d(reference["text/words_a"][:count], weight)
    is_padding = reference["inputs/captions_a"][:count] == 0
    found = {}
    for name, attend, mask in (
        ("own_mask", attend_words, is_padding),
        ("no_mask", attend_words, torch.zeros_like(is_padding)),
        ("mask", tiled_attend_words, is_padding),
    ):
        found[f"{section}/{name}/context"], found[f"{section}/{name}/att"] = attend(hidden, words, mask)
    reference.compare(found, reference.under(f"{section}/"))
    assert found[f"{section}/own_mask/att"][is_padding].eq(0).all()


@torch.no_grad()
def test_the_damsms_attention(reference):
    regions = reference.input("fa_context", (4, 256, 17, 17)).flatten(2)
    words = reference["inputs/fa_query"]
    context, attention = attend_regions(regions, words, torch.zeros(4, 7, dtype=torch.bool), gamma1=4.0)
    own = torch.arange(4)
    found = {
        "func_attention/context": context[own, own],
        "func_attention/att": attention[own, own].unflatten(2, (17, 17)),
    }
    reference.compare(found, reference.under("func_attention/"))


def pictures_of(section, drawn):
    _, middle, fine = drawn.images
    return {
        f"{section}/img128_s8": middle[:, :, ::8, ::8],
        f"{section}/img256_s8": fine[:, :, ::8, ::8],
        f"{section}/img_stats": torch.stack([per_image(images) for images in drawn.images]),
        f"{section}/att1_s4": drawn.attention[0][:, :, ::4, ::4],
        f"{section}/att2_s4": drawn.attention[1][:, :, ::4, ::4],
    }


@torch.no_grad()
@pytest.mark.parametrize("mode", ["eval", pytest.param("train", marks=pytest.mark.slow)])
def test_the_generator(reference, load, mode, monkeypatch):
    """`gen_*_own_mask` is ours; `gen_*` has the released code's mask, put in place by this test alone."""
    generator = load("netG").train(mode == "train")
    sentence, epsilon = reference["text/sent_a"], reference["inputs/eps"]
    given = (
        reference["inputs/z"],
        sentence,
        reference["text/words_a"],
        reference["inputs/captions_a"] == 0,
    )
    monkeypatch.setattr(generator_module, "attend_words", tiled_attend_words)
    drawn = generator(*given, epsilon=epsilon)
    section = f"gen_{mode}"
    found = pictures_of(section, drawn) | {
        f"{section}/img64": drawn.images[0],
        f"{section}/mu": drawn.mean,
        f"{section}/logvar": drawn.log_variance,
        f"{section}/c_code": generator.augment_condition(sentence, epsilon)[0],
    }
    if mode == "train":
        statistics = {
            "h_net1.fc.1": generator.initial.project[1],
            "h_net2.residual.0.block.1": generator.refinements[0].residual[0].block[1],
            "h_net3.upsample.2": generator.refinements[1].upsample[2],
        }
        for name, norm in statistics.items():
            found[f"{section}/bn_after/{name}.running_mean"] = norm.running_mean[:16]
            found[f"{section}/bn_after/{name}.running_var"] = norm.running_var[:16]
    reference.compare(found, reference.under(f"{section}/"))
    monkeypatch.undo()
    drawn = load("netG").train(mode == "train")(*given, epsilon=epsilon)
    found = pictures_of(f"gen_{mode}_own_mask", drawn)
    reference.compare(found, reference.under(f"gen_{mode}_own_mask/"))


@torch.no_grad()
def test_the_divergence_of_the_condition(reference, load):
    _, mean, log_variance = load("netG").augment_condition(reference["text/sent_a"], reference["inputs/eps"])
    found = {"kl/mu": mean, "kl/logvar": log_variance, "kl/loss": kl_loss(mean, log_variance)}
    found["f64/kl/loss"] = found["kl/loss"]
    reference.compare(found, reference.under("kl/", "f64/kl/"))


@torch.no_grad()
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("index", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_discriminators(reference, load, mode, index):
    discriminator = load(f"netD{index}").train(mode == "train")
    images, sentence = reference.images(f"real{64 * 2**index}"), reference["text/sent_a"]
    features = discriminator.features(images)
    unconditional, conditional = discriminator(images, sentence)
    wrong = discriminator.judge_pair(features[:-1], sentence[1:])
    values = {
        "features_c8": features[:, ::8],
        "features_stats": per_image(features),
        "cond": conditional.sigmoid(),
        "uncond": unconditional.sigmoid(),
        "cond_wrong": wrong.sigmoid(),
        "cond_logit": conditional,
        "uncond_logit": unconditional,
    }
    section = f"disc_{mode}/D{index}/"
    reference.compare({section + name: value for name, value in values.items()}, reference.under(section))
