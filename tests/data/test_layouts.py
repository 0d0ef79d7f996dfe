"""Which reader a folder gets, and what is said of folders that have none, or several."""

import json
import os
import random
import re
from pathlib import Path

import pytest
from PIL import Image
from small_sources import write_cub

from attngan.data import records
from attngan.data.sources import layouts, source_files
from attngan.errors import InputError
from attngan.storage import json_text

LISTS = {
    "captions.jsonl": '{"file": "a.png", "captions": ["own"]}\n',
    "metadata.jsonl": '{"file_name": "a.png", "text": "hugging face"}\n',
    "pairs.csv": "image,caption\na.png,table\n",
    "pairs.tsv": "image\tcaption\na.png\ttable\n",
    "captions.txt": "image,caption\na.png,table\n",
    "coco.json": json.dumps(
        {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "coco"}]}
    ),
    "a.txt": "text file\n",
}
KINDS = {
    "captions.jsonl": ("captioned folder", "own"),
    "metadata.jsonl": ("Hugging Face metadata", "hugging face"),
    "pairs.csv": ("table", "table"),
    "pairs.tsv": ("table", "table"),
    "captions.txt": ("table", "table"),
    "coco.json": ("COCO captions", "coco"),
    "a.txt": ("captioned folder", "text file"),
}
PAGE = Path(__file__).parents[2] / "docs" / "your-pictures.md"
OTHERS = ["metadata.jsonl", "pairs.csv", "pairs.tsv", "captions.txt", "coco.json"]


def write(folder, *names):
    folder.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (10, 10)).save(folder / "a.png")
    for name in names:
        (folder / name).write_text(LISTS[name])
    return folder


def examples():
    """Return the example of each layout on the page about them, by its heading."""
    section = PAGE.read_text(encoding="utf-8").split("\n## A folder of your own\n")[1].split("\n## ")[0]
    parts = re.findall(r"\n### (.+?)\n(?:(?!\n###).)*?```\w+\n(.*?)```", section, re.DOTALL)
    return dict(parts)


@pytest.mark.parametrize(
    ("heading", "name", "captions"),
    [
        ("captions.jsonl", "captions.jsonl", {"owl.jpg": 1, "more/owl.png": 2, "two.jpg": 1}),
        ("metadata.jsonl (Hugging Face)", "metadata.jsonl", {"owl.jpg": 2, "more/owl.png": 2}),
        ("A CSV or TSV file", "any.csv", {"owl.jpg": 2}),
        ("COCO captions", "any.json", {"owl.jpg": 1}),
        ("NAME.txt", "a.txt", {"a.png": 3}),
    ],
)
def test_the_example_of_each_layout_in_the_docs_is_read(tmp_path, heading, name, captions):
    write(tmp_path).joinpath(name).write_text(examples()[heading])
    source = layouts.read(tmp_path)
    assert {record.name: len(record.captions) for record in source.records} == captions
    assert source.rejected == []


def found(source):
    ((record,), kind) = source.records, source.kind
    return kind, *record.captions


@pytest.mark.parametrize("below", ["", "wrapped"])
@pytest.mark.parametrize("name", LISTS)
def test_every_layout_is_recognised_by_itself_at_the_root_and_one_folder_below(tmp_path, name, below):
    folder = write(tmp_path / below, name)
    source = layouts.read(tmp_path)
    assert found(source) == KINDS[name]
    assert source.records[0].path == folder / "a.png"
    assert (source.rejected, source.warnings) == ([], [])


@pytest.mark.parametrize("name", LISTS)
def test_every_layout_may_lie_apart_from_its_pictures(tmp_path, name):
    pictures, texts = write(tmp_path / "pictures"), write(tmp_path / "texts", name)
    source = layouts.read(pictures, texts)
    assert found(source) == KINDS[name]
    assert source.records[0].path == pictures / "a.png"


@pytest.mark.parametrize("name", LISTS)
def test_captions_beside_are_taken_where_the_folder_has_none(tmp_path, name):
    pictures, beside = write(tmp_path / "pictures"), write(tmp_path / "text", name)
    assert found(layouts.read(pictures, beside=beside)) == KINDS[name]
    write(pictures, "captions.jsonl")
    assert found(layouts.read(pictures, beside=beside)) == KINDS["captions.jsonl"]


def test_a_list_with_nothing_but_mistakes_is_told_and_not_passed_over(tmp_path):
    write(tmp_path / "pictures").joinpath("metadata.jsonl").write_text("wrong\n")
    source = layouts.read(tmp_path / "pictures", beside=write(tmp_path / "text", "a.txt"))
    assert [entry.file for entry in source.rejected] == ["metadata.jsonl, line 1"]


def test_cub_rules_over_lists_that_lie_in_it(tmp_path):
    write_cub(tmp_path)
    (tmp_path / "CUB_200_2011" / "metadata.jsonl").write_text(LISTS["metadata.jsonl"])
    assert layouts.read(tmp_path).kind == "cub"


@pytest.mark.parametrize("other", [*OTHERS, "a.txt"])
def test_the_list_of_attngan_rules_over_every_other(tmp_path, other):
    assert found(layouts.read(write(tmp_path, "captions.jsonl", other))) == KINDS["captions.jsonl"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_list_rules_over_text_files(tmp_path, name):
    assert found(layouts.read(write(tmp_path, name, "a.txt"))) == KINDS[name]


@pytest.mark.parametrize(("one", "other"), [(one, other) for one in OTHERS for other in OTHERS if one < other])
def test_two_other_lists_are_refused_in_one_sentence_that_names_both(tmp_path, one, other):
    with pytest.raises(InputError, match=r"expected one list of captions, found .*; move all but one away") as caught:
        layouts.read(write(tmp_path, one, other))
    assert one in str(caught.value) and other in str(caught.value)


@pytest.mark.parametrize("name", ["captions.jsonl", *OTHERS])
def test_lists_in_two_folders_are_refused_in_one_sentence_that_names_both(tmp_path, name):
    write(tmp_path / "one", name), write(tmp_path / "two", name)
    with pytest.raises(InputError, match=f"found one/{name} and two/{name}; move all but one away"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl", "pairs.csv", "coco.json"])
def test_an_empty_list_is_told_with_its_name(tmp_path, name):
    empty = {"pairs.csv": "image,caption\n", "coco.json": '{"images": [], "annotations": [], "caption": ""}'}
    write(tmp_path).joinpath(name).write_text(empty.get(name, "\n"))
    with pytest.raises(InputError, match=f"{name}: expected pictures with captions, found none"):
        layouts.read(tmp_path)


def test_a_folder_without_captions_is_told_all_layouts(tmp_path):
    with pytest.raises(InputError, match="found none of them") as caught:
        layouts.read(write(tmp_path))
    for name in ("images.txt", "captions.jsonl", "metadata.jsonl", ".csv or .tsv", "COCO", "NAME.txt"):
        assert name in str(caught.value)


def test_what_macos_adds_is_no_list(tmp_path):
    write(tmp_path, "a.txt")
    for name in LISTS:
        (tmp_path / f"._{name}").write_text(LISTS[name])
    write(tmp_path / "__MACOSX", "metadata.jsonl")
    assert found(layouts.read(tmp_path)) == KINDS["a.txt"]


@pytest.mark.parametrize("name", ["captions.jsonl", *OTHERS])
def test_pictures_that_nobody_lists_are_counted_in_one_line(tmp_path, name):
    write(tmp_path, name)
    for extra in ("b.jpg", "deep/c.GIF", "._d.png", "notes.md"):
        (tmp_path / extra).parent.mkdir(exist_ok=True)
        (tmp_path / extra).write_bytes(b"x")
    assert layouts.read(tmp_path).warnings == ["pictures that are not listed, and so not used: 2, such as b.jpg"]


def test_a_folder_that_cannot_be_read_is_no_layout(tmp_path, monkeypatch):
    write(tmp_path, "a.txt")
    (tmp_path / "lost+found").mkdir()
    listdir = os.listdir

    def refuse(path):
        if "lost" in str(path):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert found(layouts.read(tmp_path)) == KINDS["a.txt"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_picture_in_a_folder_whose_name_is_no_utf_8_is_not_looked_for(tmp_path, name):
    folder = write(tmp_path / os.fsdecode(b"\xff"))
    (tmp_path / name).write_text(LISTS[name])
    source = layouts.read(tmp_path)
    assert [record.path for record in source.records] == [tmp_path / "a.png"]
    assert source.warnings == ["pictures that are not listed, and so not used: 1, such as \\udcff/a.png"]
    assert (folder / "a.png").is_file()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LISTS)
def test_a_damaged_list_is_read_or_refused_in_a_sentence(tmp_path, name, seed):
    draw = random.Random(seed)
    write(tmp_path, name)
    for _ in range(40):
        content = bytearray(LISTS[name].encode() * draw.choice((1, 3)))
        for _ in range(draw.choice((1, 2, 8))):
            place = draw.randrange(len(content))
            content[place : place + draw.choice((0, 1, 5))] = draw.choice(
                (draw.randbytes(draw.choice((0, 1, 4))), b'"', b"\n", b",", b"\\ud800", b"../", b"[" * 200, b"\0")
            )
        (tmp_path / name).write_bytes(content)
        told = []
        try:
            source = layouts.read(tmp_path)
        except InputError as error:
            told = [str(error)]
        else:
            told += [text for record in source.records for text in (record.name, *record.captions)]
            told += [text for entry in source.rejected for text in (entry.file, entry.reason)] + source.warnings
        assert told and all(source_files.is_utf8(text) for text in told)


def test_a_picture_of_a_rejected_line_is_listed(tmp_path):
    write(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "captions": 3}\n')
    source = layouts.read(tmp_path)
    assert (len(source.rejected), source.warnings) == (1, [])


def test_links_to_folders_that_go_round_are_followed_once(tmp_path):
    write(tmp_path / "source", "captions.jsonl")
    (tmp_path / "source" / "round").symlink_to(tmp_path / "source")
    write(tmp_path / "elsewhere")
    (tmp_path / "source" / "more").symlink_to(tmp_path / "elsewhere")
    warnings = layouts.read(tmp_path / "source").warnings
    assert warnings == ["pictures that are not listed, and so not used: 1, such as more/a.png"]


def test_pictures_in_linked_folders_are_read_with_their_text_files_and_others_are_counted(tmp_path):
    write(tmp_path / "elsewhere", "a.txt")
    for name in ("b.gif", "deep/c.TIF"):
        (tmp_path / "elsewhere" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / name).write_bytes(b"x")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "more").symlink_to(tmp_path / "elsewhere")
    source = layouts.read(tmp_path / "source")
    assert [record.name for record in source.records] == ["more/a.png"]
    (warning,) = source.warnings
    assert warning == (
        "pictures that are not used (no text file beside it, or another kind of file): 2, such as more/b.gif"
    )


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_folder_with_two_names_has_the_first_one_however_its_disk_lists_them(tmp_path, monkeypatch, is_reversed):
    write(tmp_path / "elsewhere")
    for name in ("a/in/more", "b/more", "c"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).symlink_to(tmp_path / "elsewhere")
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(listdir(folder), reverse=is_reversed))
    assert [name.as_posix() for name in source_files.pictures_below(tmp_path / "source")] == ["a/in/more/a.png"]


def test_a_link_to_itself_hides_no_picture(tmp_path):
    write(tmp_path, "captions.jsonl")
    for number in range(9):
        (tmp_path / f"{number}.png").touch()
        (tmp_path / f"loop {number}").symlink_to(f"loop {number}")
    assert layouts.read(tmp_path).warnings == ["pictures that are not listed, and so not used: 9, such as 0.png"]


def test_pictures_of_cub_that_its_list_lacks_are_counted_and_masks_beside_them_are_not(tmp_path):
    root = write_cub(tmp_path) / "CUB_200_2011"
    for name in ("images/extra.jpg", "segmentations/mask.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    assert layouts.read(tmp_path).warnings == ["pictures that are not listed, and so not used: 1, such as extra.jpg"]


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl", "pairs.csv", "pairs.tsv", "captions.txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_enormous_line_is_refused_with_its_number_before_it_is_taken_apart(tmp_path, name, end, monkeypatch):
    monkeypatch.setattr(json_text, "parse", lambda line, *_, **__: pytest.fail("read") if len(line) > 2**20 else {})
    start = LISTS[name].replace("\n", end)
    (tmp_path / name).write_bytes((start + "x" * (2**20 + 1) + end).encode())
    number = start.count(end) + 1
    with pytest.raises(InputError) as caught:
        layouts.read(tmp_path)
    expected = f"line {number}: expected at most 1,048,576 bytes, found 1,048,577; shorten it"
    assert str(caught.value) == f"{tmp_path / name}: {expected}."


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_of_far_too_many_lines_is_refused_before_it_is_taken_apart(tmp_path, end, monkeypatch):
    monkeypatch.setattr(source_files, "MAX_LINES", 3)
    path = tmp_path / "list.txt"
    for text in (end.join("123"), end.join("123") + end):
        path.write_bytes(text.encode())
        assert b"".join(source_files.lines_in_bytes(path)) == b"123"
    for text in (end.join("1234"), end.join("1234") + end):
        path.write_bytes(text.encode())
        with pytest.raises(InputError) as caught:
            source_files.lines_in_bytes(path)
        assert str(caught.value) == f"{path}: expected at most 3 lines, found 4; shorten it."


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
def test_a_list_that_is_a_json_array_is_told_in_one_sentence(tmp_path, name, indent):
    (tmp_path / name).write_text("\n" + json.dumps([json.loads(LISTS[name])] * 2, indent=indent) + "\n\n")
    with pytest.raises(InputError) as caught:
        layouts.read(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: expected one JSON object a line, found a JSON array."


def test_a_source_is_given_up_where_far_too_much_of_it_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_REJECTED", 3)
    (tmp_path / "captions.jsonl").write_text("{}\n" * 3)
    assert len(layouts.read(tmp_path).rejected) == 3
    (tmp_path / "captions.jsonl").write_text("{}\n" * 9)
    with pytest.raises(
        InputError, match="more than 3 pictures or lines of the source cannot be used, the first is cap"
    ):
        layouts.read(tmp_path)


def test_an_enormous_line_of_a_text_file_costs_its_picture_alone(tmp_path):
    write(tmp_path, "a.txt").joinpath("a.txt").write_text("x" * (2**20 + 1))
    ((place, reason),) = [(entry.file, entry.reason) for entry in layouts.read(tmp_path).rejected]
    assert place == "a.png" and "line 1: expected at most 1,048,576 bytes" in reason
