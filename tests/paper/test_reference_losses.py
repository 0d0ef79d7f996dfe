"""Our losses, and their gradients, are the authors' numbers, array by array (see `reference_numbers.py`)."""

import pytest
import torch
from authors_files import discriminator_name
from reference_numbers import mean_and_rms, named

from attngan.losses.adversarial import discriminator_loss, generator_loss, loss_as_real
from attngan.losses.damsm import damsm_losses, sentence_loss, sentence_scores, word_loss, word_scores
from attngan.models.attention import attend_regions

GAMMAS = {"gamma1": 4.0, "gamma2": 5.0, "gamma3": 10.0}
GRADIENTS = {
    0: "img_code_s16.0.weight img_code_s16.3.weight img_code_s16.8.weight UNCOND_DNET.outlogits.0.weight "
    "COND_DNET.jointConv.0.weight COND_DNET.outlogits.0.bias",
    1: "",
    2: "img_code_s16.0.weight img_code_s64.0.weight img_code_s64_1.1.bias img_code_s64_2.0.weight "
    "COND_DNET.jointConv.1.weight UNCOND_DNET.outlogits.0.bias",
}


def masked(scores, class_ids):
    """Return scores with minus infinity where another pair is of the same class."""
    if class_ids is None:
        return scores
    same = (class_ids[:, None] == class_ids[None]) & ~torch.eye(len(scores), dtype=torch.bool)
    return scores.masked_fill(same, -torch.inf)


@pytest.mark.parametrize("which", ["class_ids", "no_class_ids"])
def test_the_word_loss(reference, which):
    class_ids = reference["inputs/class_ids"] if which == "class_ids" else None
    regions = reference.input("wl_img", (4, 256, 17, 17)).requires_grad_()
    words = reference["inputs/wl_words"].requires_grad_()
    is_padding = torch.arange(18)[None] >= reference["inputs/lens_a"][:, None]
    losses = word_loss(regions, words, is_padding, class_ids, **GAMMAS)
    sum(losses).backward()
    scores = 10.0 * word_scores(regions, words, is_padding, gamma1=4.0, gamma2=5.0)
    section = f"words_loss/{which}/"
    found = {
        "loss0": losses[0],
        "loss1": losses[1],
        "scores": masked(scores, class_ids),
        "grad_img_sub": regions.grad[:, ::16, ::4, ::4],
        "grad_img_stats": mean_and_rms(regions.grad),
        "grad_words_sub": words.grad[:, ::8],
        "grad_words_stats": mean_and_rms(words.grad),
    }
    found = {section + name: value for name, value in found.items()}
    found |= {f"f64/{section}loss{i}": loss for i, loss in enumerate(losses)}
    reference.compare(found, reference.under(section, f"f64/{section}"))


@torch.no_grad()
def test_the_maps_of_the_word_loss(reference):
    regions, words = reference.input("wl_img", (4, 256, 17, 17)), reference["inputs/wl_words"]
    is_padding = torch.arange(18)[None] >= reference["inputs/lens_a"][:, None]
    _, attention = attend_regions(regions.flatten(2), words, is_padding, gamma1=4.0)
    maps = attention.unflatten(3, (17, 17))
    length = int(reference["inputs/lens_a"][3])
    found = {"words_loss/att0_s4": maps[0, 0, :, ::4, ::4], "words_loss/att3": maps[3, 3, :length]}
    reference.compare(found, reference.under("words_loss/att"))


@pytest.mark.parametrize("which", ["class_ids", "no_class_ids"])
def test_the_sentence_loss(reference, which):
    class_ids = reference["inputs/class_ids"] if which == "class_ids" else None
    image, sentence = (reference[f"inputs/sl_{name}"].requires_grad_() for name in ("cnn", "rnn"))
    losses = sentence_loss(image, sentence, class_ids, gamma3=10.0)
    sum(losses).backward()
    section = f"sent_loss/{which}/"
    found = {
        "loss0": losses[0],
        "loss1": losses[1],
        "scores": masked(10.0 * sentence_scores(image, sentence), class_ids),
        "grad_cnn": image.grad,
        "grad_rnn": sentence.grad,
    }
    found = {section + name: value for name, value in found.items()}
    found |= {f"f64/{section}loss{i}": loss for i, loss in enumerate(losses)}
    reference.compare(found, reference.under(section, f"f64/{section}"))


@pytest.mark.parametrize("index", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_discriminators_loss(reference, load, index):
    side, section = 64 * 2**index, f"discriminator_loss/D{index}"
    discriminator = load(f"netD{index}").train()
    images = reference.images(f"real{side}"), reference.images(f"fake{side}")
    loss, _ = discriminator_loss(discriminator, *images, reference["text/sent_a"])
    loss.backward()
    parameters = named(discriminator, lambda name: discriminator_name(name, side))
    found = {section: loss, f"f64/{section}": loss}
    for name in GRADIENTS[index].split():
        found[f"{section}/grad/{name}/stats"] = mean_and_rms(parameters[name].grad)
        found[f"{section}/grad/{name}/first64"] = parameters[name].grad.flatten()[:64]
    reference.compare(found, reference.under(section, f"f64/{section}"))


@pytest.mark.slow
def test_the_generators_loss(reference, load):
    discriminators = [load(f"netD{index}").train().requires_grad_(False) for index in range(3)]
    image_encoder = load("image_encoder").requires_grad_(False)
    generated = [reference.images(f"fake{side}").requires_grad_() for side in (64, 128, 256)]
    words, sentence = reference["text/words_a"], reference["text/sent_a"]
    parts = []
    for discriminator, fake in zip(discriminators, generated):
        unconditional, conditional = discriminator(fake, sentence)
        parts += [loss_as_real(conditional), loss_as_real(unconditional)]
        torch.testing.assert_close(generator_loss(discriminator, fake, sentence), parts[-1] + parts[-2])
    is_padding = reference["inputs/captions_a"] == 0
    matching = damsm_losses(
        image_encoder(generated[-1]), (words, sentence), is_padding, reference["inputs/class_ids"], **GAMMAS
    )
    parts += list(matching.values())
    total = sum(parts[:6]) + 5 * sum(parts[6:])
    total.backward()
    found = {"generator_loss/total": total, "generator_loss/parts": torch.stack(parts).double()}
    found |= {f"f64/{name}": value for name, value in found.items()}
    for side, stride, fake in zip((64, 128, 256), (4, 8, 16), generated):
        found[f"generator_loss/grad_fake{side}_sub"] = fake.grad[:, :, ::stride, ::stride]
        found[f"generator_loss/grad_fake{side}_stats"] = mean_and_rms(fake.grad)
    reference.compare(found, reference.under("generator_loss/", "f64/generator_loss/"))
