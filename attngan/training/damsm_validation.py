"""The retrieval test that the encoders' training takes now and then (`damsm.validate_every_epochs`)."""

import torch

from attngan import seeding
from attngan.data.dataset import Dataset
from attngan.metrics.retrieval import recall_at
from attngan.training.damsm_run import DamsmRun

RETRIEVAL_POOL = 100  # captions that a picture chooses among in validation
RETRIEVAL_ROUNDS = 5  # validation asks with as many captions of each picture: one alone would choose the best by luck


@torch.no_grad()
def validate(run: DamsmRun, test: Dataset) -> dict[str, float]:
    """Return recall at 1 and 5 of held-out pictures among pools of 100 captions: centre crop, first captions.

    Captions of a picture's own class do not count as wrong.
    """
    run.text_encoder.eval()
    run.image_encoder.eval()
    data = run.config.data
    order = torch.randperm(len(test), generator=seeding.rng_for(run.config.seed, "damsm validation"))
    pools = list(order.split(RETRIEVAL_POOL))
    if len(pools) > 1 and len(pools[-1]) < RETRIEVAL_POOL:
        pools.pop()  # a smaller pool is an easier question
    found = {1: 0.0, 5: 0.0}
    for pool in (part.tolist() for part in pools):
        if run.test_trunk is None:
            images = test.evaluation_batch(pool, [0] * len(pool), resolutions=[data.resolution], max_words=1)
            _, image_feature = run.image_encoder(images.to(run.device).images[-1])
        else:
            numbers = torch.tensor(pool)
            _, image_feature = run.image_encoder.project(
                *run.test_trunk.take(numbers, torch.zeros_like(numbers), run.device, torch.float32)
            )
        for caption in range(RETRIEVAL_ROUNDS):
            chosen = [(index, caption % test.captions_per_image(index)) for index in pool]
            texts = [test.records[index]["captions"][number] for index, number in chosen]
            word_ids, lengths = test.captions(*zip(*chosen, strict=True), max_words=data.max_words)
            _, sentence_feature = run.text_encoder(word_ids.to(run.device), lengths)
            for k in found:
                recall = recall_at(image_feature, sentence_feature, texts, test.class_ids[pool], k=k)
                found[k] += recall / (len(pools) * RETRIEVAL_ROUNDS)
    return {"recall_at_1": found[1], "recall_at_5": found[5]}
