"""Step 1: read the source, clean the captions, build the vocabulary, write the dataset."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data import dataset_files, dataset_writer, feasible, images, sampling
from attngan.data.captions import Vocabulary, read_otherwise, tokenize, words_of
from attngan.data.dataset import FORMAT_VERSION, Dataset
from attngan.data.records import Record, Source, Split, caption_labels, divide, number_classes
from attngan.data.sources import archives, cub, layouts
from attngan.data.sources.source_files import shown
from attngan.errors import InputError
from attngan.pages import contact_sheet, pictures
from attngan.runtime import scratch
from attngan.runtime.console import progress, say
from attngan.storage import artifacts, sources
from attngan.storage.result_folder import result

SPLITS: tuple[Split, ...] = ("train", "test")
REASONS_SHOWN = 3  # in the sentence that ends the step
NUM_LOOKED_AT = 200  # pictures, to know their size, and whether they can be read
LOOKED_AT_SIDE = 16  # pixels that they are decoded to
HINTS = {  # what to do where a split is empty, by the kind of the source
    cub.KIND: "the source must have classes of both splits",
    "captioned folder": 'add images, or name some with "split" in captions.jsonl',
}
LINES_SHOWN = 100  # of rejections and the like, before it


def preprocess(
    source: Path,
    out: Path,
    config: Config,
    *,
    captions: Path | None = None,
    vocabulary: Path | None = None,
    is_for_all: bool = False,
) -> dict[str, Any]:
    """Turn images with captions into the packed dataset.

    Args:
        source: folder or archive: CUB-200-2011, or any images with captions.
        out: the dataset folder.
        config: reads `data`.
        captions: folder or archive with the captions, where they are not in the source.
        vocabulary: `vocabulary.json` of a model that training goes on from; else the training captions give the words.
        is_for_all: all steps follow with this config: what one of them cannot do ends this one, and is not only said.

    Returns:
        The content of `dataset.json`.

    Raises:
        InputError: nothing usable is left, more than `data.max_rejected_share` of the images is unusable, or a later
            step has too few pictures.
    """
    inputs = [source, captions or _captions_beside(source), vocabulary]
    with result(out, "dataset", inputs=inputs) as draft, _read(source, captions) as found:
        given = None if vocabulary is None else Vocabulary.load(vocabulary)
        info = _Run(found, draft, config, source, given, is_for_all=is_for_all).write()
    say(f"preprocess: {contact_sheet.FILE} in the dataset folder shows what will be learnt, as cropped, with captions")
    return info


def look(source: Path, config: Config, captions: Path | None = None) -> tuple[int, int]:
    """Return what can be known of a source in seconds, before all of it is read.

    Args:
        source: as for `preprocess`.
        config: reads `data.max_rejected_share`.
        captions: as for `preprocess`.

    Returns:
        The number of pictures with captions, and the pixels on their shorter side, in the middle of some of them.

    Raises:
        InputError: see `preprocess`, as far as lists and these pictures show it.
    """
    with _read(source, captions) as found:
        num_images, sides = len(found.records) + len(found.rejected), []
        looked_at = [found.records[index] for index in sampling.spread(len(found.records), NUM_LOOKED_AT)]
        for record, pixels in images.prepare_all(looked_at, LOOKED_AT_SIDE):
            if isinstance(pixels, str):
                found.reject(record.name, pixels)
            else:
                sides.append(images.shorter_side(record.path, record.box))
        try:
            _check_rejected(found, num_images, config.data.max_rejected_share, source)
        except InputError:
            _tell_rejections(found)
            raise
        return num_images - len(found.rejected), int(statistics.median(sides)) if sides else 0


class _Run:
    """What one preprocessing keeps count of."""

    def __init__(
        self, source: Source, out: Path, config: Config, where: Path, given: Vocabulary | None, *, is_for_all: bool
    ):
        self.source, self.out, self.config, self.where, self.given = source, out, config, where, given
        self.is_for_all = is_for_all
        self.test_pictures: list[bytes] = []  # a digest of each
        self.num_images = len(source.records) + len(source.rejected)
        self.unknown = {split: collections.Counter[str]() for split in SPLITS}  # words that the vocabulary lacks
        self.dropped: list[dict[str, str]] = []  # captions without a usable word
        read = tokenize if source.kind == cub.KIND else words_of
        self.tokens = functools.cache(lambda caption: tuple(map(sys.intern, read(caption))))  # asked for three times
        self.records: dict[Split, list[Record]] = {split: [] for split in SPLITS}
        self.indices: dict[Split, list[tuple[int, int, int]]] = {split: [] for split in SPLITS}
        self.cut_boxes: list[str] = []  # names of pictures whose box reaches out of them
        self.digests: dict[str, str] = {}  # sha256 of files that were read while they were written

    def write(self) -> dict[str, Any]:
        try:
            return self._write()
        except InputError:
            _tell_rejections(self.source)
            raise

    def _write(self) -> dict[str, Any]:
        waiting = divide(self.source.records)
        if not all(waiting[split] for split in SPLITS):
            self._check_usable(waiting)
        if self.is_for_all:
            self._tell_enough(waiting)
        with progress("preprocess", total=len(self.source.records), unit="images") as advance:
            self._pack("train", waiting["train"], lambda token: True, advance)
            if not self.indices["train"]:  # no vocabulary then; what is wrong with the others is found all the same
                self._pack("test", waiting["test"], lambda token: True, advance)
                self._check_usable(self.records)
            vocabulary = self._vocabulary()
            self._keep_encodable("train", vocabulary)
            self._pack("test", waiting["test"], vocabulary.__contains__, advance)
        self._check_usable(self.records)
        return self._finish(vocabulary)

    def _pack(
        self, split: Split, records: Sequence[Record], is_known: Callable[[str], bool], advance: Callable[..., None]
    ) -> None:
        """Decode, crop and resize in parallel, and append to `pixels.bin` in the order of the source.

        Captions are read meanwhile; pictures that they say nothing of are not decoded.
        """

        def described() -> Iterator[Record]:
            for record in records:
                if kept := self._with_usable_captions(record, is_known):
                    yield kept
                else:
                    advance(1)

        with dataset_writer.pixel_writer(self.out / split) as writer:
            for record, pixels in images.prepare_all(
                described(),
                self.config.data.resolution,
                on_cut_box=lambda record: self.cut_boxes.append(record.name),
            ):
                if isinstance(pixels, str):
                    self.source.reject(record.name, pixels)
                else:
                    writer.append(pixels)
                    self.records[split].append(record)
                    if split == "test":
                        self.test_pictures.append(hashlib.sha256(pixels).digest())
                advance(1)
            self.indices[split] = writer.index
            self.digests[f"{split}/{dataset_files.PIXELS}"] = writer.digest()

    def _vocabulary(self) -> Vocabulary:
        if self.given is not None:
            return self.given
        tokenised = (self.tokens(caption) for record in self.records["train"] for caption in record.captions)
        vocabulary = Vocabulary.from_captions(tokenised, self.config.data.min_word_count)
        if len(vocabulary) == 1:
            raise InputError(
                f"{self.where}: no word occurs {self.config.data.min_word_count} times in the training captions; "
                "lower data.min_word_count."
            )
        return vocabulary

    def _keep_encodable(self, split: Split, vocabulary: Vocabulary) -> None:
        """Drop the captions, and the pictures, that rare words alone described; their pixels stay behind, unused."""
        known = [self._with_usable_captions(record, vocabulary.__contains__) for record in self.records[split]]
        pairs = zip(known, self.indices[split], strict=True)
        kept = [(record, entry) for record, entry in pairs if record is not None]
        self.records[split], self.indices[split] = [pair[0] for pair in kept], [pair[1] for pair in kept]

    def _with_usable_captions(self, record: Record, is_known: Callable[[str], bool]) -> Record | None:
        """Return the record with the captions that have a known word, or None and a rejection where none has."""
        usable = tuple(caption for caption in record.captions if any(map(is_known, self.tokens(caption))))
        if not usable:
            has_words, text = any(map(self.tokens, record.captions)), "".join(record.captions)
            is_other_script = not has_words and any(map(str.isalpha, text))
            what = "word in Latin letters (a to z)" if is_other_script else "usable word"
            self.source.reject(record.name, f"none of its captions has a {what}")
            return None
        if len(usable) < len(record.captions):
            lost = [caption for caption in record.captions if caption not in usable]
            self.dropped.extend({"file": record.name, "caption": caption} for caption in lost)
        return dataclasses.replace(record, captions=usable)

    def _check_usable(self, records: dict[Split, list[Record]]) -> None:
        """Stop if too many pictures were rejected, or none is left for a split."""
        _check_rejected(self.source, self.num_images, self.config.data.max_rejected_share, self.where)
        for split in SPLITS:
            if not records[split]:
                hint = HINTS.get(self.source.kind, "add images, or name some of that split in the lists")
                raise InputError(f"{self.where}: no usable image is left for the {split} split; {hint}.")

    def _tell_enough(self, records: dict[Split, list[Record]], *, are_alike: bool = False) -> list[str]:
        """Return what later steps cannot do, or have less of than was set; InputError where they follow and cannot."""
        ids = number_classes([record for split in SPLITS for record in records[split]])[len(records["train"]) :]
        labels = caption_labels(ids, [record.captions for record in records["test"]])
        sizes = feasible.sizes_of(len(records["train"]), labels, are_alike=are_alike)
        problems = feasible.problems(self.config, sizes)
        if problems and self.is_for_all:
            raise feasible.refusal(self.where, problems)
        return [f"with this config a later step stops: {problem}." for problem in problems] or feasible.notes(
            self.config, sizes
        )

    def _finish(self, vocabulary: Vocabulary) -> dict[str, Any]:
        tests = self.test_pictures
        are_alike = all(one == tests[(number + len(tests) // 2) % len(tests)] for number, one in enumerate(tests))
        enough = self._tell_enough(self.records, are_alike=are_alike)
        ids = iter(number_classes([record for split in SPLITS for record in self.records[split]]))
        class_ids = {split: list(itertools.islice(ids, len(self.records[split]))) for split in SPLITS}
        counts = {split: self._write_split(split, class_ids[split], vocabulary) for split in SPLITS}
        vocabulary.save(self.out / "vocabulary.json")
        artifacts.write_text(self.out / "config.yaml", configs.dump(self.config))
        digests = dataset_writer.content_digests(self.out, self.digests)
        if self.source.kind != cub.KIND:
            self.source.warnings += self._about_letters()
        if self.cut_boxes:
            count, example = len(self.cut_boxes), shown(min(self.cut_boxes))
            self.source.warnings.append(
                f"boxes that reach out of their picture, and were cut: {count:,}, such as {example}"
            )
        info = {
            "format_version": FORMAT_VERSION,
            "source": self.source.kind,
            "resolution": self.config.data.resolution,
            "stored_short_side": images.stored_side(self.config.data.resolution),
            "counts": counts,
            "vocabulary_size": len(vocabulary),
            **{
                f"unknown_{split}_words": {"kinds": len(words), "occurrences": words.total()}
                for split, words in self.unknown.items()
            },
            "rejected": [dataclasses.asdict(entry) for entry in self.source.rejected],
            "dropped_captions": self.dropped,
            "warnings": self.source.warnings,
            "fingerprint": dataset_writer.content_fingerprint(digests),
            "palette": self.source.palette,
        }
        artifacts.write_json(self.out / "dataset.json", info)
        self._write_contact_sheet(info)
        files = [f"{split}/{name}" for split in SPLITS for name in dataset_files.SPLIT_FILES]
        files += ["dataset.json", "vocabulary.json", "config.yaml", contact_sheet.FILE]
        facts = {"fingerprint": info["fingerprint"], "counts": counts}
        artifacts.finish(self.out, "dataset", files, digests=digests, **facts)
        _tell_rejections(self.source)
        _say_all([f"preprocess: {warning}" for warning in self.source.warnings])
        _summarise(info)
        for sentence in enough:
            say(sentence)
        return info

    def _about_letters(self) -> list[str]:
        """Return how words with letters beyond a to z are read, in a sentence, and which are not, in another."""
        kept = (text for split in SPLITS for record in self.records[split] for text in record.captions)
        words = read_otherwise(itertools.chain(kept, (entry["caption"] for entry in self.dropped)))
        found = []
        if spelt := {word: read for word, read in words.items() if read}:
            example = " as ".join(shown(repr(text)) for text in next(iter(spelt.items())))
            found.append(f"words are read in the letters a to z: {example} ({_num_words(spelt)})")
        if left_out := [word for word, read in words.items() if not read]:
            example = shown(repr(left_out[0]))
            found.append(f"words in other letters than a to z are left out: {example} ({_num_words(left_out)})")
        return found

    def _write_contact_sheet(self, info: dict[str, Any]) -> None:
        """Draw pictures of the training split with their first captions."""
        train = Dataset(self.out, "train", {}, info)
        chosen = sampling.spread(len(train), contact_sheet.COUNT)
        batch = train.evaluation_batch(chosen, [0] * len(chosen), resolutions=[train.resolution], max_words=1)
        squares = pictures.to_pictures(batch.images[0], side=contact_sheet.SIDE)
        captions = [self.records["train"][number].captions[0] for number in chosen]
        contact_sheet.save(squares, captions, self.out / contact_sheet.FILE)

    def _write_split(self, split: Split, class_ids: list[int], vocabulary: Vocabulary) -> dict[str, int]:
        """Write all of a split but its pixels, and return its counts."""
        records = self.records[split]
        tokenised = [[self.tokens(caption) for caption in record.captions] for record in records]
        tokens = [word for of_image in tokenised for caption in of_image for word in caption]
        self.unknown[split].update(word for word in tokens if word not in vocabulary)
        dataset_writer.write_split(
            self.out / split,
            index=self.indices[split],
            records=records,
            class_ids=class_ids,
            word_ids=[[vocabulary.encode(caption) for caption in of_image] for of_image in tokenised],
        )
        return {
            "images": len(records),
            "captions": sum(map(len, tokenised)),
            "classes": len(set(class_ids)),
            "words": len(tokens),
        }


@contextlib.contextmanager
def _read(source: Path, captions: Path | None) -> Iterator[Source]:
    """Give what is found in a source, whose pictures are there while the block runs."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(_as_folder(source))
        texts = None if captions is None else stack.enter_context(_as_folder(captions))
        yield layouts.read(root, texts, beside=_captions_beside(source))


def _captions_beside(source: Path) -> Path | None:
    beside = sources.captions_beside(str(source))
    return Path(beside) if beside else None


@contextlib.contextmanager
def _as_folder(path: Path) -> Iterator[Path]:
    """Give a source as a folder while the block runs; an archive is unpacked into a scratch folder."""
    if os.path.isdir(path):
        yield path
        return
    with scratch.folder("unpacked") as place:
        folder = place / "source"  # so that nothing of others lies beside it
        folder.mkdir()
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        with progress(f"unpack {shown(path.name)}", total=size, unit="bytes") as advance:
            skipped = archives.unpack(path, folder, advance)
        _say_all([f"{shown(path.name)}: {line}" for line in skipped])
        try:
            yield folder
        except InputError as error:  # whoever reads it knows the archive, not the scratch folder
            raise InputError(str(error).replace(str(folder), str(path))) from None


def _check_rejected(source: Source, num_images: int, share: float, where: Path) -> None:
    """Stop if more pictures were rejected than that share of all; one may always be, unless the share is 0."""
    rejected = source.rejected
    if len(rejected) > max(share * num_images, 1 if share else 0):
        reasons = "; ".join(f"{shown(entry.file)}: {entry.reason}" for entry in rejected[:REASONS_SHOWN])
        needed = min(10, 10 * len(rejected) // num_images + 1) / 10
        raised = f", or raise the share: --set data.max_rejected_share={needed}" if len(rejected) < num_images else ""
        raise InputError(
            f"{where}: {len(rejected)} of {num_images} images cannot be used, more than the "
            f"{share:.1%} of data.max_rejected_share ({reasons}); mend or remove them{raised}."
        )


def _tell_rejections(source: Source) -> None:
    _say_all([f"rejected: {shown(entry.file)}: {shown(entry.reason)}" for entry in source.rejected])


def _num_words(words: Sized) -> str:
    return "1 word" if len(words) == 1 else f"{len(words):,} words"


def _say_all(lines: list[str]) -> None:
    """Print lines, of which a damaged source may have any number."""
    for line in lines[:LINES_SHOWN]:
        say(line)
    if len(lines) > LINES_SHOWN:
        say(f"... and {len(lines) - LINES_SHOWN:,} more")


def _summarise(info: dict[str, Any]) -> None:
    train, test = info["counts"]["train"], info["counts"]["test"]
    say(
        f"preprocess: {train['images']:,} images to train and {test['images']:,} to test, "
        f"{info['vocabulary_size']:,} words; {len(info['rejected']):,} rejected"
    )
