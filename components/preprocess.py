"""Step 1: images + captions -> dataset."""

from kfp.dsl import Dataset, Output

from components.image import component


@component
def preprocess(source: str, captions: str, inputs: str, config: str, dataset: Output[Dataset]):
    """Read the source, clean the captions, build the vocabulary, write the dataset.

    Args:
        source: Folder, .tgz or .zip with images, local or in cloud storage.
        captions: Folder or archive with the captions where they are not in the source; empty if they are.
        inputs: Fingerprint of the sources: KFP's cache knows their URIs only.
        config: Settings as YAML text.
        dataset: Packed images, captions, vocabulary.
    """
    from pathlib import Path

    from attngan.config import settings
    from attngan.steps import preprocess as step
    from attngan.storage import mistakes, places

    given = [source, captions, inputs, config, dataset.uri]
    with (
        mistakes.reported("preprocess", dataset.path, root=f"{dataset.uri}.state", given=given),
        places.local_input(source) as images,
        places.local_input(captions or None) as texts,
    ):
        info = step.preprocess(images, Path(dataset.path), settings.load(config), captions=texts, is_for_all=True)
    dataset.metadata["fingerprint"] = str(info.get("fingerprint", ""))
