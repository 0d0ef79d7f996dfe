"""CSV and TSV files with a header."""

import csv
import os

import pytest

from attngan.data.records import Record
from attngan.data.sources import layouts, tables
from attngan.errors import InputError


def read(folder, text, name="list.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return layouts.read(folder)


def told(source):
    return [(entry.file, entry.reason) for entry in source.rejected]


def test_a_row_gives_a_record_with_all_it_says(tmp_path):
    source = read(tmp_path, "id,split,class,file_name,caption\n1,val,cat,a/b.jpg, a cat\n")
    assert source.records == [Record("a/b.jpg", tmp_path / "a" / "b.jpg", None, "cat", "test", ("a cat",))]
    assert told(source) == []


@pytest.mark.parametrize("file", tables.FILE)
@pytest.mark.parametrize("caption", tables.CAPTION)
def test_columns_are_found_by_any_of_their_names(tmp_path, file, caption):
    (record,) = read(tmp_path, f"{caption.title()},{file.upper().replace('_', ' ')}\na cat,a.jpg\n").records
    assert (record.name, record.captions) == ("a.jpg", ("a cat",))


def test_the_better_name_of_a_column_is_taken(tmp_path):
    (record,) = read(tmp_path, "title,path,caption,file_name\nno,no,yes,a.jpg\n").records
    assert (record.name, record.captions) == ("a.jpg", ("yes",))


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "|"), ("a.csv", "\t"), ("a.tsv", "\t")]
)
def test_the_delimiter_is_that_of_the_suffix_or_of_the_header(tmp_path, name, delimiter):
    text = f"file{delimiter}caption\na.jpg{delimiter}a cat, sitting: it sleeps\n".replace(
        ", ", " " if delimiter == "," else ", "
    )
    (record,) = read(tmp_path, text, name).records
    assert record.captions == (f"a cat{'' if delimiter == ',' else ','} sitting: it sleeps",)


def test_further_rows_of_a_picture_are_further_captions(tmp_path):
    source = read(tmp_path, "image,caption\na.jpg,one\nb.jpg,b\na.jpg,two\na.jpg,\n")
    assert [(record.name, record.captions) for record in source.records] == [
        ("a.jpg", ("one", "two")),
        ("b.jpg", ("b",)),
    ]
    assert told(source) == []


@pytest.mark.parametrize(
    "names",
    [
        ("caption1", "caption2", "caption3"),
        ("caption", "caption_2", "Caption 10"),
        ("text-1", "text-2", "text-3"),
    ],
)
def test_several_columns_of_captions_are_all_read(tmp_path, names):
    source = read(
        tmp_path, f"image,comment_number,{','.join(names)}\na.jpg,0,one,two,three\nb.jpg,1,one,,\nc.jpg,1,,,\n"
    )
    assert [record.captions for record in source.records] == [("one", "two", "three"), ("one",)]
    assert told(source) == [("list.csv, line 4", "'c.jpg' has no caption")]


def test_flickr8k_is_read_as_it_is(tmp_path):
    (tmp_path / "Images").mkdir()
    for name in ("1_a.jpg", "2_b.jpg"):
        (tmp_path / "Images" / name).write_bytes(b"x")
    rows = ["1_a.jpg,A dog runs .", '1_a.jpg,"A dog , brown , runs ."', "2_b.jpg,A cat , asleep .", "2_b.jpg,A cat ."]
    source = read(tmp_path, "\n".join(["image,caption", *rows, ""]), "captions.txt")
    assert {record.name: record.captions for record in source.records} == {
        "Images/1_a.jpg": ("A dog runs .", "A dog , brown , runs ."),
        "Images/2_b.jpg": ("A cat .",),
    }
    (entry,) = told(source)
    assert entry[0] == "captions.txt, line 4" and "expected 2 columns, found 3; put text that holds" in entry[1]


@pytest.mark.parametrize("name", ["notes.txt", "readme.txt"])
def test_other_text_files_are_no_tables(tmp_path, name):
    with pytest.raises(InputError, match=r"found none of them\.$"):
        read(tmp_path, "image,caption\na.jpg,a cat\n", name)


def test_quoted_text_may_hold_delimiters_quotes_and_line_ends(tmp_path):
    source = read(tmp_path, b'\xef\xbb\xbffile,caption\r\n"a.jpg","a ""red"" cat,\r\nasleep"\r\nb.jpg,a dog\r\n\r\n')
    assert [record.captions for record in source.records] == [('a "red" cat,\nasleep',), ("a dog",)]
    assert told(source) == []


def test_wrong_rows_are_rejected_with_their_line_all_at_once(tmp_path):
    rows = [
        b"file,caption,split",  # line 1
        b'a.jpg,"a cat',
        b'that sleeps",train',  # 3
        b"b.jpg,too few",
        b"c.jpg,too,many,train",
        b"../d.jpg,a cat,train",  # 6
        b"/e.jpg,a cat,train",
        b"f\0/../g.jpg,a cat,train",
        b",a cat,train",  # 9
        b"h.jpg,a c\xe4t,train",
        b"i.jpg,a cat,trian",
        b"__MACOSX/j.jpg,a cat,train",  # 12
        b"k.jpg, ,train",
        b'l.jpg,"a cat" or two,train',
        b",,",  # 15
        b"m.jpg,a cat,test",
        b"m.jpg,a cat,train",
        b"good.jpg,a cat,train",
    ]
    source = read(tmp_path, b"\n".join(rows))
    assert [record.name for record in source.records] == ["a.jpg", "m.jpg", "good.jpg"]
    reasons = dict(told(source))
    assert list(reasons) == [f"list.csv, line {number}" for number in (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17, 13)]
    expected = {
        4: "expected 3 columns, found 2",
        5: "expected 3 columns, found 4; put text that holds the delimiter in quotes",
        6: "expected file to be a path below the folder, found '../d.jpg'",
        9: "expected file to be a path below the folder, found ''",
        10: "expected text in UTF-8",
        11: "expected the split to be train, test or val, found 'trian'",
        12: "what macOS adds",
        13: "'k.jpg' has no caption",
        14: "expected a row of a table",
        17: "'m.jpg': its split is 'train', in an earlier line 'test'",
    }
    for number, reason in expected.items():
        assert reason in reasons[f"list.csv, line {number}"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_that_is_not_utf_8_as_a_whole_is_refused_in_one_sentence(tmp_path, end):
    rows = [f"{number}.jpg," + ("ein gr\u00fcner Apfel" if number % 3 else "a cat") for number in range(94)]
    text = end.join(["file,caption", *rows])
    assert len(read(tmp_path, text.encode()).records) == 94
    with pytest.raises(InputError) as caught:
        read(tmp_path, text.encode("cp1252"))
    assert str(caught.value) == (
        f"{tmp_path / 'list.csv'}: expected UTF-8, found other bytes; in Excel save it as 'CSV UTF-8'."
    )


@pytest.mark.parametrize(
    ("num_wrong", "num_right", "refused"), [(1, 0, False), (2, 0, True), (5, 5, False), (6, 5, True)]
)
def test_a_table_is_refused_where_most_of_its_lines_beyond_ascii_are_not_utf_8(tmp_path, num_wrong, num_right, refused):
    captions = [*[b"gr\xfcn"] * num_wrong, *["gr\u00fcn".encode()] * num_right, *[b"a cat"] * 20]
    text = b"file,caption\n" + b"".join(b"%d.jpg,%s\n" % each for each in enumerate(captions))
    if refused:
        with pytest.raises(InputError, match="expected UTF-8"):
            read(tmp_path, text)
    else:
        assert len(told(read(tmp_path, text))) == num_wrong


@pytest.mark.parametrize(
    ("name", "keys"), [("captions.jsonl", ("file", "captions")), ("metadata.jsonl", ("file_name", "text"))]
)
def test_lists_of_json_are_refused_the_same_way(tmp_path, name, keys):
    line = '{"%s": "%d.jpg", "%s": ["gr\u00fcn"]}\n'
    text = "".join(line % (keys[0], number, keys[1]) for number in range(9))
    with pytest.raises(InputError, match=rf"{name}: expected UTF-8, found other bytes; save it as UTF-8\.$"):
        read(tmp_path, text.encode("cp1252"), name)


def test_a_row_of_another_class_than_before_is_rejected(tmp_path):
    source = read(tmp_path, "file,caption,label\na.jpg,one,\na.jpg,two,cat\na.jpg,three,dog\n")
    assert [(record.class_name, record.captions) for record in source.records] == [("cat", ("one", "two"))]
    assert told(source) == [("list.csv, line 4", "'a.jpg': its class is 'dog', in an earlier line 'cat'")]


def test_a_quote_that_nobody_closes_costs_its_own_line_alone(tmp_path):
    rows = "".join(f"{number}.jpg,a cat\n" for number in range(20_000))
    source = read(tmp_path, f'file,caption\nx.jpg,"a cat\n{rows}y.jpg,"a cat, asleep"\n')
    assert [entry[0] for entry in told(source)] == ["list.csv, line 2"]
    assert [record.name for record in source.records] == [*(f"{number}.jpg" for number in range(20_000)), "y.jpg"]


def test_a_field_that_is_too_large_is_rejected_alone(tmp_path):
    source = read(tmp_path, f"file,caption\na.jpg,{'x' * (csv.field_size_limit() + 1)}\nb.jpg,a cat\n")
    assert [record.name for record in source.records] == ["b.jpg"]
    ((place, reason),) = told(source)
    assert place == "list.csv, line 2" and "field larger than field limit" in reason


def test_a_quote_that_is_open_at_the_end_is_rejected(tmp_path):
    ((place, reason),) = told(read(tmp_path, 'file,caption\nb.jpg,a cat\na.jpg,"a cat\n'))
    assert place == "list.csv, line 3" and "unexpected end of data" in reason


def test_a_header_of_a_thousand_columns_is_read(tmp_path):
    names = [f"column {number}" for number in range(998)]
    source = read(tmp_path, f"{','.join(names)},image,caption\n{'x,' * 998}a.jpg,a cat\n")
    assert [(record.name, record.captions) for record in source.records] == [("a.jpg", ("a cat",))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,words\na.jpg,a cat\n", "found name, words"),
        ("image,words\na.jpg,a cat\n", "found image, words"),
        (",".join(f"c{number}" for number in range(1000)), "found c0, c1, c2, c3, c4, c5, c6, c7 and 992 more"),
        ("", "found none"),
        ("\0\0\0", "found \\x00"),
        ("file,caption\n".encode("utf-16"), "expected text in UTF-8"),
    ],
)
def test_a_header_without_the_columns_is_told_in_one_sentence(tmp_path, text, says):
    with pytest.raises(InputError, match=r"found none of them; list.csv: expected") as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert len(str(caught.value)) - len(str(tmp_path)) < 600


def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(InputError, match=r"list.csv: expected a file, found a pipe"):
        layouts.read(tmp_path)


def test_a_table_for_each_split_names_the_splits(tmp_path):
    (tmp_path / "train.csv").write_text("file,caption\na.jpg,one\nb.jpg,two\n")
    source = read(tmp_path, "file,caption\nb.jpg,two\nc.jpg,three\n", "test_captions.csv")
    assert {record.name: record.split for record in source.records} == {
        "a.jpg": "train",
        "b.jpg": "test",
        "c.jpg": "test",
    }
    assert told(source) == [("train.csv, line 3", "'b.jpg': its split is 'train', in an earlier line 'test'")]


def test_two_tables_that_are_of_no_split_are_refused(tmp_path):
    (tmp_path / "one.csv").write_text("file,caption\na.jpg,one\n")
    with pytest.raises(InputError, match=r"expected one list of captions, found one.csv and two.tsv; move all but one"):
        read(tmp_path, "file\tcaption\na.jpg\tone\n", "two.tsv")


def test_metadata_csv_of_hugging_face_may_lie_in_the_folders_of_the_splits(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text("file_name,text\n0.jpg,a cat\n")
    records = layouts.read(tmp_path).records
    assert [(record.name, record.split) for record in records] == [
        ("train/0.jpg", "train"),
        ("validation/0.jpg", "test"),
    ]


def test_pictures_may_lie_in_a_folder_that_the_table_leaves_out(tmp_path):
    for name in ("Images/a.jpg", "small/deep/b.jpg", "small/c.jpg", "large/c.jpg", "d.jpg", "large/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x")
    source = read(tmp_path, "image,caption\na.jpg,a\ndeep/b.jpg,b\nc.jpg,c\nd.jpg,d\nnowhere.jpg,e\n")
    assert [record.name for record in source.records] == ["Images/a.jpg", "small/deep/b.jpg", "d.jpg", "nowhere.jpg"]
    assert told(source) == [
        ("list.csv, line 4", "'c.jpg' lies in 'large' and in 'small'; write the folder into the list")
    ]
