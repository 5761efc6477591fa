"""A user's checkpoint: loaded whole, or refused in words that say what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.registry import case_for, load_workload
from bench.weights import load_weights, weights_digest


def model(name: str = "gpt2", *, seed: int = 0) -> Any:
    workload = load_workload(name)
    program = workload.build(case_for(name, workload, size="tiny", backend="cpu", dtype="fp32", seed=seed))
    return program.weights


def same(one: Any, other: Any) -> bool:
    import torch

    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def save(tensors: dict[str, Any], path: Path) -> Path:
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# What is loaded.

@pytest.mark.parametrize("shard", ["5GB", "100KB"])
@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_a_saved_folder_comes_back_whole_and_in_place(name: str, shard: str, tmp_path: Path) -> None:
    source, target = model(name, seed=1), model(name)
    source.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() is (shard == "100KB")
    places = {key: p.data_ptr() for key, p in target.named_parameters()}
    assert not same(source, target)
    loaded = load_weights(target, str(tmp_path))
    assert same(source, target)
    assert places == {key: p.data_ptr() for key, p in target.named_parameters()}
    assert loaded["parameters"] == sum(p.numel() for p in source.parameters())
    assert loaded["path"] == str(tmp_path)
    assert loaded["sha256"] == weights_digest(str(tmp_path))


def test_a_single_file_comes_back_whole(tmp_path: Path) -> None:
    source, target = model(seed=1), model()
    source.save_pretrained(tmp_path)
    loaded = load_weights(target, str(tmp_path / "model.safetensors"))
    assert same(source, target)
    assert loaded["tensors"] == 28  # 2 layers of 12, two embeddings, a norm of 2; the head is tied
    assert target.lm_head.weight is target.transformer.wte.weight


def test_a_checkpoint_without_the_prefix_of_its_base_model_fits(tmp_path: Path) -> None:
    source, target = model(seed=1), model()
    source.transformer.save_pretrained(tmp_path)
    load_weights(target, str(tmp_path))
    assert same(source, target)


def test_a_checkpoint_with_the_prefix_fits_the_base_model_alone(tmp_path: Path) -> None:
    source, target = model(seed=1), model().transformer
    source.save_pretrained(tmp_path)
    load_weights(target, str(tmp_path))
    assert same(source.transformer, target)


def test_the_causal_masks_in_old_gpt2_checkpoints_are_no_fault(tmp_path: Path) -> None:
    import torch

    source, target = model(seed=1), model()
    tensors = {key: tensor for key, tensor in source.state_dict().items() if key != "lm_head.weight"}
    path = save(tensors | {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4)}, tmp_path / "old.safetensors")
    load_weights(target, str(path))
    assert same(source, target)


def test_bf16_checkpoints_are_widened_and_norms_in_float32_keep_their_digits(tmp_path: Path) -> None:
    import torch

    source, target = model(seed=1), model()
    norm = "transformer.ln_f.weight"
    tensors = {key: tensor.bfloat16() for key, tensor in source.state_dict().items()}
    del tensors["lm_head.weight"]
    exact = torch.linspace(0, 1, 64)
    load_weights(target, str(save(tensors | {norm: exact}, tmp_path / "mixed.safetensors")))
    assert {p.dtype for p in target.parameters()} == {torch.float32}
    assert torch.equal(target.state_dict()[norm], exact)
    assert torch.equal(target.transformer.wte.weight, tensors["transformer.wte.weight"].float())


def test_a_model_that_is_not_of_transformers_is_loaded_by_its_own_names(tmp_path: Path) -> None:
    source, target = model("dlrm", seed=1), model("dlrm")
    save(source.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    load_weights(target, str(tmp_path))
    assert same(source, target)


# What is refused.

def refusal(module: Any, path: Path) -> str:
    """Return the error's words, of which the digest must say the same where no tensor is read."""
    with pytest.raises(BenchError) as caught:
        load_weights(module, str(path))
    assert caught.value.fix
    return caught.value.what


def missing(folder: Path) -> Path:
    return folder / "nowhere"


def empty_folder(folder: Path) -> Path:
    return folder


def pickled_file(folder: Path) -> Path:
    (folder / "model.pt").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    return folder / "model.pt"


def pickled_folder(folder: Path) -> Path:
    (folder / "pytorch_model.bin").write_bytes(b"")
    return folder


def folder_in_a_files_place(folder: Path) -> Path:
    (folder / "model.safetensors").mkdir()
    return folder


def folder_in_an_indexs_place(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").mkdir()
    return folder


def index_of_something_else(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_text("[]")
    return folder


def lost_shards(folder: Path) -> Path:
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "model-1.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(("make", "words"), [
    (missing, "No weights at"),
    (empty_folder, "holds no checkpoint"),
    (pickled_file, "is a pickle, which can run any code"),
    (pickled_folder, "is a pickle, which can run any code"),
    (folder_in_a_files_place, "cannot be read: Is a directory"),
    (folder_in_an_indexs_place, "cannot be read: Is a directory"),
    (index_of_something_else, "is not an index of shards"),
    (lost_shards, "1 of 2 shards are missing"),
])
def test_what_is_no_checkpoint_is_refused_before_torch_sees_it(make: Callable[[Path], Path], words: str,
                                                               tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(BenchError) as caught:
        weights_digest(str(path))
    assert words in caught.value.what
    assert refusal(model("dlrm"), path) == caught.value.what


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")

    def denied(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)  # a mode of 000 stops nobody who runs the tests as root
    assert "cannot be read: Permission denied" in refusal(model("dlrm"), path)


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_a_damaged_file_is_refused(keep: int, tmp_path: Path) -> None:
    whole = save(model("dlrm").state_dict(), tmp_path / "whole.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:keep])
    assert "is damaged or no safetensors file" in refusal(model("dlrm"), cut)


@pytest.mark.parametrize("name", ["gpt2", "dlrm"])
def test_tensors_that_do_not_fit_are_counted_and_named(name: str, tmp_path: Path) -> None:
    import torch

    target = model(name)
    tensors = {key: tensor for key, tensor in target.state_dict().items() if key != "lm_head.weight"}
    first, second = [key for key, tensor in tensors.items() if tensor.dim() == 2][-2:]
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    shape = list(tensors[second].shape)
    wrong = {key: tensor for key, tensor in tensors.items() if key != first}
    wrong |= {second: torch.zeros(3, 5), "extra.a": torch.zeros(1), "extra.b": torch.zeros(1)}
    words = refusal(target, save(wrong, tmp_path / "wrong.safetensors"))
    assert f"does not fit {type(target).__name__}" in words
    assert f"1 missing ({first})" in words
    assert "2 unexpected (extra.a, extra.b)" in words
    assert f"1 of another shape ({second} [3, 5] instead of {shape})" in words
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    import torch

    path = save({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    words = refusal(model(), path)
    assert "29 missing (lm_head.weight, transformer.h.0." in words  # the 28 and the tied head
    assert words.count("transformer.") == 2
    assert ", ...)" in words
    assert "1 unexpected (other)" in words


# The digest.

def test_a_files_digest_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert weights_digest(str(tmp_path / "model.safetensors")) == digest
    assert weights_digest(str(tmp_path)) == digest  # the folder adds nothing


def test_a_folders_digest_is_over_its_shards_and_nothing_else(tmp_path: Path) -> None:
    names = {"x": "b.safetensors", "y": "a.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (tmp_path / "a.safetensors").write_bytes(b"abc")
    (tmp_path / "b.safetensors").write_bytes(b"def")
    a, b = hashlib.sha256(b"abc").hexdigest(), hashlib.sha256(b"def").hexdigest()
    expected = hashlib.sha256(f"{a}  a.safetensors\n{b}  b.safetensors\n".encode()).hexdigest()
    assert weights_digest(str(tmp_path)) == expected
    (tmp_path / "README.md").write_text("new")
    assert weights_digest(str(tmp_path)) == expected
    (tmp_path / "b.safetensors").write_bytes(b"deg")
    assert weights_digest(str(tmp_path)) != expected


def test_a_digest_costs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    script = ("import sys; from bench.weights import weights_digest; weights_digest(sys.argv[1]); "
              "print({'torch', 'transformers', 'safetensors', 'numpy'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True,
                          check=False)
    assert done.stdout.strip() == "set()", done.stderr
