"""COCO's captions."""

import json

import pytest

from attngan.data.records import Record
from attngan.data.sources import layouts
from attngan.errors import InputError


def content(*, images, annotations, **more):
    return json.dumps({"info": {}, "licenses": [], **more, "images": images, "annotations": annotations})


def image(number, file="", **more):
    return {"id": number, "file_name": file or f"{number}.jpg", "width": 640, **more}


def caption(number, text):
    return {"image_id": number, "id": 1, "caption": text}


def write(path, *, images, annotations):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content(images=images, annotations=annotations))


@pytest.mark.parametrize("name", ["captions.json", "annotations/captions.json"])
def test_an_image_gets_all_captions_of_its_id(tmp_path, name):
    write(
        tmp_path / name,
        images=[image(7), image("x", "deep/x.jpg")],
        annotations=[caption("x", "one"), caption(7, " a cat\n"), caption("x", "two")],
    )
    source = layouts.read(tmp_path)
    assert source.records == [
        Record("7.jpg", tmp_path / "7.jpg", None, None, None, ("a cat",)),
        Record("deep/x.jpg", tmp_path / "deep" / "x.jpg", None, None, None, ("one", "two")),
    ]
    assert (source.rejected, source.warnings) == ([], [])


def test_two_files_give_the_splits_and_pictures_lie_in_the_folder_of_theirs(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / f"annotations/captions_{split}2017.json", images=[image(1)], annotations=[caption(1, split)])
        write(tmp_path / f"annotations/instances_{split}2017.json", images=[image(1)], annotations=[{"image_id": 1}])
        (tmp_path / f"{split}2017").mkdir()
        (tmp_path / f"{split}2017" / "1.jpg").write_bytes(b"x")
    source = layouts.read(tmp_path)
    assert [(record.name, record.split, *record.captions) for record in source.records] == [
        ("train2017/1.jpg", "train", "train"),
        ("val2017/1.jpg", "test", "val"),
    ]
    assert (source.rejected, source.warnings) == ([], [])


def test_one_file_of_one_split_is_divided_as_if_it_named_none(tmp_path):
    write(tmp_path / "captions_val2017.json", images=[image(1)], annotations=[caption(1, "a cat")])
    assert [record.split for record in layouts.read(tmp_path).records] == [None]


def test_wrong_entries_are_rejected_with_their_numbers_all_at_once(tmp_path):
    images = [image(1), 3, {"file_name": "a.jpg"}, image(4, "../a.jpg"), image(5), image(1, "b.jpg"), {"id": 6}]
    annotations = [caption(1, "a cat"), "x", {"image_id": 1}, caption(True, "a"), caption([], "a"), caption(4, "a")]
    write(tmp_path / "c.json", images=images, annotations=annotations)
    source = layouts.read(tmp_path)
    assert [record.name for record in source.records] == ["1.jpg"]
    assert [(entry.file, entry.reason) for entry in source.rejected] == [
        ("c.json, annotation 2", "expected a JSON object"),
        ("c.json, annotation 3", "expected \"caption\" to be a text, found 'None'"),
        ("c.json, annotation 4", "expected \"image_id\" to be a number or a text, found 'True'"),
        ("c.json, annotation 5", "expected \"image_id\" to be a number or a text, found '[]'"),
        ("c.json, image 2", "expected a JSON object"),
        ("c.json, image 3", "expected \"id\" to be a number or a text, found 'None'"),
        ("c.json, image 4", "expected \"file_name\" to be a path below the folder, found '../a.jpg'"),
        ("c.json, image 6", "the id 1 is that of an earlier image too"),
        ("c.json, image 7", "expected \"file_name\" to be a path below the folder, found 'None'"),
        ("c.json, image 5", "'5.jpg' has no caption"),
    ]
    assert source.warnings == []


def test_annotations_of_unknown_images_are_counted(tmp_path):
    annotations = [caption(1, "a cat"), caption(8, "x"), caption("9" * 10_000, "x"), caption(8, "y")]
    write(tmp_path / "c.json", images=[image(1)], annotations=annotations)
    source = layouts.read(tmp_path)
    assert source.warnings == ["c.json: annotations of images that it does not have: 3, the first of image 8"]
    assert len(source.records) == 1 and source.rejected == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (content(images=[], annotations=[caption(1, "a")])[:-5], "expected JSON, found something else"),
        (
            content(images=["[" * 3], annotations=[caption(1, "a")]).replace('["[[["]', "[" * 100_000),
            "100 deep|expected JSON",
        ),
        (
            '{"images": {}, "annotations": [{"caption": ""}]}',
            'expected an object with the lists "images" and "annotations"',
        ),
        ('[{"images": [], "annotations": [{"caption": ""}]}]', "expected an object with the lists"),
    ],
)
def test_a_file_that_is_no_whole_list_of_captions_is_told_in_one_sentence(tmp_path, text, says):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=f"c.json: .*({says}).*; mend the file"):
        layouts.read(tmp_path)


def test_other_json_files_are_no_captions(tmp_path):
    (tmp_path / "instances.json").write_text(content(images=[image(1)], annotations=[{"image_id": 1}]))
    (tmp_path / "a.json").write_text('{"caption": "a cat"}')
    with pytest.raises(InputError, match="found none of them"):
        layouts.read(tmp_path)


def test_a_key_that_lies_across_two_chunks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("attngan.data.sources.coco.CHUNK", 7)
    write(tmp_path / "c.json", images=[image(1)], annotations=[caption(1, "a cat")])
    assert len(layouts.read(tmp_path).records) == 1


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    text = content(images=[image(1)], annotations=[caption(1, "a cat")])
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + text.replace(",", ",\r\n").encode())
    assert len(layouts.read(tmp_path).records) == 1
