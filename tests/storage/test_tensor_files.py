"""Files of tensors from strangers: plain tensors, no more of them than the file is large, and no code."""

import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch

from attngan.errors import InputError
from attngan.storage import tensor_files


def saved(value, path, **options):
    torch.save(value, path, **options)
    return path


def test_what_is_read_is_what_was_written(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    paths = [tmp_path / "w.safetensors", saved(tensors, tmp_path / "w.pth")]
    paths.append(saved(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    for path in paths:
        read = tensor_files.read(path)
        assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    return path


class Runs:
    def __reduce__(self):
        return os.system, ("true",)


class Takes:
    """Asks for a petabyte when it is unpickled."""

    def __reduce__(self):
        return bytearray, (10**15,)


def pickled(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


def text(path, content):
    path.write_bytes(content)
    return path


BAD = {
    "a bomb": (bomb, r"claims 10,000,000 bytes of content in a file of"),
    "a tensor larger than the file": (
        lambda path: saved({"a": torch.ones(1).expand(10**7, 10**5)}, path),
        r"claims 4,000,000,000,000 bytes of content",
    ),
    "a tensor without content": (lambda path: saved({"a": torch.ones(3, device="meta")}, path), "no plain tensor"),
    "a sparse tensor": (lambda path: saved({"a": torch.eye(3).to_sparse()}, path), "no plain tensor"),
    "code": (lambda path: saved({"a": Runs()}, path), "could run code"),
    "code alone": (lambda path: pickled({"a": Runs()}, path), "could run code|not a whole PyTorch file"),
    "memory": (lambda path: saved({"a": Takes()}, path), "asks for more memory than there is"),
    "a list": (lambda path: saved([torch.ones(3)], path), "a dict of tensors by name, found something else"),
    "numbers": (lambda path: saved({"a": 1}, path), "a dict of tensors by name, found something else"),
    "no names": (lambda path: saved({1: torch.ones(3)}, path), "a dict of tensors by name, found something else"),
    "text": (lambda path: text(path, b"no weights"), "not a whole PyTorch file"),
    "nothing": (lambda path: text(path, b""), "not a whole PyTorch file"),
}


@pytest.mark.parametrize(("make", "says"), BAD.values(), ids=BAD)
def test_what_is_no_file_of_tensors_is_one_sentence(make, says, tmp_path):
    path = make(tmp_path / "weights.pth")
    with pytest.raises(InputError, match=says) as caught:
        tensor_files.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no weights", (2**60).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"]
)
def test_what_is_no_safetensors_file_is_one_sentence(content, tmp_path):
    with pytest.raises(InputError, match="not a whole safetensors file"):
        tensor_files.read(text(tmp_path / "w.safetensors", content))


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        tensor_files.read(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="found a folder"):
        tensor_files.read(tmp_path)


def test_a_copy_does_not_change_with_what_it_is_of_and_uses_an_earlier_ones_memory():
    def state(value):
        channels_last = torch.full((2, 3, 4, 5), value).to(memory_format=torch.channels_last)
        parameter = torch.nn.Parameter(torch.full((3,), value))
        return {"networks": {"a": parameter, "b": [channels_last, torch.tensor(value)]}, "rows": [{"x": value}] * 2}

    first = state(1.0)
    copy = tensor_files.copied(first)
    with torch.no_grad():
        first["networks"]["a"].fill_(9.0)
        first["networks"]["b"][0].fill_(9.0)
    first["rows"].append({"x": 9.0})
    torch.testing.assert_close(copy, state(1.0), check_stride=True)
    assert not copy["networks"]["a"].requires_grad and copy["networks"]["b"][0].stride() == (60, 1, 15, 3)

    second = {**state(2.0), "more": torch.ones(2), "rows": [{"x": 2.0}] * 3}
    memory = copy["networks"]["b"][0].data_ptr()
    again = tensor_files.copied(second, copy)
    torch.testing.assert_close(again, second, check_stride=True)
    assert again["networks"]["b"][0].data_ptr() == memory != second["networks"]["b"][0].data_ptr()
    other = tensor_files.copied({"networks": {"a": torch.ones(4), "b": torch.ones(1)}, "rows": []}, again)
    assert other["networks"]["a"].tolist() == [1, 1, 1, 1] and other["rows"] == []
