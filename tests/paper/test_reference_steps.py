"""Whole optimization steps of the full-size networks give the authors' numbers (see `reference_numbers.py`)."""

import contextlib
import functools
import types

import numpy as np
import pytest
import torch
from authors_files import discriminator_name, generator_name, image_encoder_name, text_encoder_name
from reference_numbers import (
    mean_and_rms,
    mean_and_std,
    named,
    tiled_attend_words,
)
from torch import nn

from attngan.config import settings as configs
from attngan.data.dataset import Batch
from attngan.losses.adversarial import discriminator_loss, kl_loss, loss_as_real
from attngan.losses.damsm import DAMSM_LOSSES, damsm_losses
from attngan.models import generator as generator_module
from attngan.models.ema import averaged_copy
from attngan.training import damsm_step, gan_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.learner import Learner

pytestmark = pytest.mark.slow


def batch_of(reference, *images):
    ids, lengths = reference["inputs/captions_a"], reference["inputs/lens_a"]
    numbers, is_cut = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.bool)
    pictures = [reference.images(name) for name in images]
    return Batch(pictures, ids, lengths, reference["inputs/class_ids"], numbers, numbers, is_cut)


class KeptWords(nn.Module):
    """Dropout with a mask that is known."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, embedded):
        return embedded * self.kept / 0.5


def as_it_is(function, *arguments, kind=""):
    """Stand in for what records and compiles."""
    return function(*arguments)


def damsm_parameters(run):
    ours = named(run.text_encoder, lambda name: f"text_encoder.{text_encoder_name(name)}")
    return ours | named(run.image_encoder, lambda name: f"image_encoder.{image_encoder_name(name)}")


@pytest.mark.parametrize("which", ["damsm_step_dropout", "damsm_step_nodropout"])
def test_steps_of_damsm_pretraining(reference, load, monkeypatch, which):
    """Two steps; `training_step` is the one that pretraining takes."""
    config = configs.load()
    run = types.SimpleNamespace(
        config=config,
        device=torch.device("cpu"),
        step=0,
        seed=0,
        autocast=contextlib.nullcontext,
        loss_sums=torch.zeros(4),
    )
    run.text_encoder, run.image_encoder, run.trunk = load("text_encoder"), load("image_encoder"), None
    run.recorder, run.padded_to, run.perform = None, 0, as_it_is
    run.see, run.pictures_of = functools.partial(DamsmRun.see, run), functools.partial(DamsmRun.pictures_of, run)
    shape = (*reference["inputs/captions_a"].shape, 300)
    kept = np.unpackbits(reference.arrays["inputs/dropout_keep_packed"])[: np.prod(shape)].reshape(shape)
    run.text_encoder.dropout = KeptWords(torch.from_numpy(kept)) if which == "damsm_step_dropout" else nn.Identity()
    encoders = nn.ModuleList([run.text_encoder, run.image_encoder])
    trained = [parameter for parameter in encoders.parameters() if parameter.requires_grad]
    assert len(trained) == 12
    run.optimizer = torch.optim.Adam(trained, lr=config.damsm.learning_rate, betas=(0.5, 0.999))
    run.learner = Learner(encoders, run.optimizer)
    batch, found = batch_of(reference, "img299"), {}
    parameters = damsm_parameters(run)
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    forward, norms, gradients = {}, [], {}
    clip = nn.utils.clip_grad_norm_

    def keep_and_clip(clipped, limit):
        if not norms:
            gradients.update({name: each.grad.clone() for name, each in parameters.items() if each.grad is not None})
        norms.append(clip(clipped, limit))
        return norms[-1]

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", keep_and_clip)
    hooks = [
        network.register_forward_hook(lambda module, inputs, outputs, name=name: forward.setdefault(name, outputs))
        for name, network in (("image", run.image_encoder), ("text", run.text_encoder))
    ]

    def step():
        run.loss_sums.zero_()
        damsm_step.training_step(run, batch)
        return torch.cat([run.loss_sums, run.loss_sums.sum()[None]])

    found["losses_before"] = step()
    for hook in hooks:
        hook.remove()
    if which == "damsm_step_dropout":
        (regions, code), (words, sentence) = forward["image"], forward["text"]
        found |= {"forward/regions_c16": regions[:, ::16], "forward/code": code}
        found |= {"forward/words_c8": words[:, ::8], "forward/sent": sentence}
    wanted = sorted(name.removeprefix(f"{which}/") for name in reference.under(f"{which}/"))
    rows = reference["inputs/captions_a"][0, :4]
    for name in wanted:
        part, _, rest = name.partition("/")
        key, _, what = rest.rpartition("/")
        if part == "bn_after":
            found[name] = parameters[f"image_encoder.{rest}"][:16].clone()
        elif part == "adam":
            found[name] = run.optimizer.state[parameters[key]][what.removesuffix("_first64")].flatten()[:64].clone()
        elif part in ("grad", "after", "update"):
            tensor = gradients[key] if part == "grad" else parameters[key].detach().clone()
            tensor = tensor - before[key] if part == "update" else tensor
            shown = {
                "stats": (mean_and_std if part == "after" else mean_and_rms)(tensor),
                "first64": tensor.flatten()[:64],
                "first8": tensor.flatten()[:8],
            }
            found[name] = tensor[rows, :16] if what == "rows" else shown[what]
    found["losses_after"] = step()
    found["losses_after_2_steps"] = step()
    found |= {"rnn_grad_norm": norms[0], "rnn_grad_norm_step2": norms[1]}
    found = {f"{which}/{name}": value for name, value in found.items()}
    exact = reference.under(f"f64/{which}/")
    found |= {name: found[name.removeprefix("f64/")] for name in exact}
    reference.compare(found, reference.under(f"{which}/") | exact)


@pytest.mark.parametrize(
    ("which", "weight", "adam_epsilon", "num_steps"),
    [
        ("gan_step", 5.0, 1e-8, 1),
        ("gan_step_smooth", 0.0, 1.0, 2),
    ],
)
def test_steps_of_the_adversarial_training(reference, load, monkeypatch, which, weight, adam_epsilon, num_steps):
    """`training_step` is the one that training takes; the mask is the released code's, put in place by this test."""
    config = configs.load(overrides=[f"training.damsm_weight={weight}"])
    run = types.SimpleNamespace(
        config=config, device=torch.device("cpu"), step=0, seed=0, autocast=contextlib.nullcontext
    )
    run.text_encoder, run.image_encoder = (
        load(name).requires_grad_(False) for name in ("text_encoder", "image_encoder")
    )
    run.generator = load("netG").train()
    run.generator_ema = averaged_copy(run.generator)
    run.discriminators = nn.ModuleList(load(f"netD{index}").train() for index in range(3))

    def adam(network):
        return torch.optim.Adam(network.parameters(), lr=0.0002, betas=(0.5, 0.999), eps=adam_epsilon)

    def read(batch):
        return *run.text_encoder(batch.word_ids, batch.lengths), batch.is_padding

    run.captions, run.perform, run.compute = types.SimpleNamespace(take=read), as_it_is, as_it_is
    run.ema_decay = config.training.ema_decay
    run.generator_learner = Learner(run.generator, adam(run.generator))
    run.discriminator_learners = [Learner(each, adam(each)) for each in run.discriminators]
    run.projected_learner, run.projects_now = None, False
    networks = {
        "G": named(run.generator, generator_name),
        "EMA": named(run.generator_ema, generator_name),
        **{
            f"D{index}": named(each, lambda name, side=64 * 2**index: discriminator_name(name, side))
            for index, each in enumerate(run.discriminators)
        },
    }
    before = {net: {name: each.detach().clone() for name, each in own.items()} for net, own in networks.items()}
    noise = [reference["inputs/z"], reference["inputs/eps"]]
    draws = iter(noise * (num_steps + 1))
    errors, logits, generated = [], [], []

    def recorded_loss(*arguments):
        loss, opinions = discriminator_loss(*arguments)
        errors.append(loss)
        return loss, opinions

    monkeypatch.setattr(torch, "randn", lambda *size, **kinds: next(draws))
    monkeypatch.setattr(gan_step, "discriminator_loss", recorded_loss)
    monkeypatch.setattr(generator_module, "attend_words", tiled_attend_words)
    hooks = [each.register_forward_hook(lambda m, i, out: logits.append(out)) for each in run.discriminators]
    hooks.append(run.generator.register_forward_hook(lambda m, i, out: generated.append(out.images)))
    batch = batch_of(reference, "real64", "real128", "real256")
    rows = []
    for run.step in range(num_steps):
        losses = gan_step.training_step(run, batch)
        rows.append(torch.stack([*(each.detach() for each in errors[-3:]), losses["generator"], losses["kl"]]))
    for hook in hooks:
        hook.remove()
    found = {
        "fake_stats_before": torch.stack([mean_and_std(images) for images in generated[0]]),
        "step_losses": torch.stack(rows).double(),
        "D_logits_on_fakes_after_D_update": torch.stack(
            [torch.stack([conditional, unconditional]) for unconditional, conditional in logits[:3]]
        ),
    }
    optimizers = {"G": run.generator_learner.optimizer}
    optimizers |= {f"D{index}": each.optimizer for index, each in enumerate(run.discriminator_learners)}
    for name in sorted(each.removeprefix(f"{which}/") for each in reference.under(f"{which}/")):
        part, _, rest = name.partition("/")
        if part in networks:
            key, _, what = rest.rpartition("/")
            found[name] = _describe(networks[part][key], before[part][key], what)
        elif part == "adam":
            net, key, what = rest.split("/")
            state = optimizers[net].state[networks[net][key]]
            found[name] = state[what.removesuffix("_first64")].flatten()[:64].clone()
        elif part == "bn_after":
            net, key = rest.split("/")
            statistic = networks[net][key].detach().clone()
            found[name] = statistic[:16] if statistic.dim() else statistic
        elif name == "grad_rms_G_all":
            parameters = [networks["G"][key] for key, _, _ in reference.layouts["netG"]]
            gradients = [each.grad for each in parameters if isinstance(each, nn.Parameter)]
            found[name] = torch.stack([mean_and_rms(gradient)[1] for gradient in gradients])
    found |= _after(run, batch)
    found = {f"{which}/{name}": value for name, value in found.items()}
    exact = reference.under(f"f64/{which}/")
    found |= {name: found[name.removeprefix("f64/")] for name in exact}
    reference.compare(found, reference.under(f"{which}/") | exact)


def _describe(tensor, before, what):
    """Return what the reference keeps of a parameter after the steps."""
    now = tensor.detach().clone()
    return {
        "stats": lambda: mean_and_std(now),
        "first8": lambda: now.flatten()[:8],
        "update_stats": lambda: mean_and_rms(now - before),
        "update_first64": lambda: (now - before).flatten()[:64],
        "grad_stats": lambda: mean_and_rms(tensor.grad),
        "grad_first64": lambda: tensor.grad.flatten()[:64],
    }[what]()


@torch.no_grad()
def _after(run, batch):
    """Return the losses with the updated networks on the same data, in training mode."""
    words, sentence = run.text_encoder(batch.word_ids, batch.lengths)
    noise, epsilon = torch.randn(4, 100), torch.randn(4, run.generator.condition_dim)
    drawn = run.generator(noise, sentence, words, batch.is_padding, epsilon=epsilon)
    errors = [
        discriminator_loss(each, real, fake, sentence)[0]
        for each, real, fake in zip(run.discriminators, batch.images, drawn.images)
    ]
    parts = []
    for discriminator, fake in zip(run.discriminators, drawn.images):
        unconditional, conditional = discriminator(fake, sentence)
        parts += [loss_as_real(conditional), loss_as_real(unconditional)]
    features = run.image_encoder(drawn.images[-1])
    matching = damsm_losses(features, (words, sentence), batch.is_padding, batch.class_ids, **run.config.damsm.gammas)
    assert tuple(matching) == tuple(DAMSM_LOSSES)
    parts += list(matching.values())
    kl = kl_loss(drawn.mean, drawn.log_variance)
    return {
        "errD_after": torch.stack(errors),
        "g_parts_after": torch.stack(parts),
        "kl_after": kl,
        "errG_after": sum(parts[:6]) + run.config.training.damsm_weight * sum(parts[6:]) + kl,
        "fake64_after_s4": drawn.images[0][:, :, ::4, ::4],
    }
