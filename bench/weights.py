"""A user's checkpoint: found, told apart by its content, and loaded strictly.

Importing this page and `weights_digest` cost no torch: the parent makes a case's identity from the
digest, the child loads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

STEMS = ("model", "diffusion_pytorch_model")
"""Names that transformers and diffusers give a checkpoint inside its folder, before `.safetensors`."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHOWN = 3


def weights_digest(path: str) -> str:
    """Return the SHA-256 of a checkpoint's content, as 64 hex digits, without torch.

    Of one file: what `sha256sum` prints. Of a folder with several: over its lines, a file each in
    order of name. Raises BenchError where there is no checkpoint or it cannot be read.
    """
    files = _files(path)
    digests = [_file_digest(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = "".join(f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def load_weights(module: nn.Module, path: str) -> dict[str, Any]:
    """Load a checkpoint into `module`, in place, and return what it was.

    `path` is a .safetensors file or a folder as transformers and diffusers save it, in one file or
    in shards. Every tensor must be there and fit; a model of transformers may besides have its
    base model's prefix added or missing and tied weights once only, and names of its older
    versions are converted, all by transformers' own rules. Returns {"path", "sha256", "tensors",
    "parameters"}, the last two counted in the checkpoint. Raises BenchError for a path that does
    not exist or cannot be read, a file that is no checkpoint, and tensors missing, unexpected or
    of another shape.
    """
    from transformers import PreTrainedModel

    digest = weights_digest(path)
    tensors = _read(path)
    load = _load_pretrained if isinstance(module, PreTrainedModel) else _load_plain
    load(module, dict(tensors), path)
    return {"path": path, "sha256": digest, "tensors": len(tensors),
            "parameters": sum(tensor.numel() for tensor in tensors.values())}


def _files(path: str) -> list[Path]:
    """Return the files that hold a checkpoint's tensors, sorted by name."""
    try:
        return _find(Path(path))
    except OSError as error:
        raise _unreadable(Path(path), error) from error


def _find(given: Path) -> list[Path]:
    if not given.exists():
        raise BenchError(f"No weights at {str(given)!r}.",
                         fix="pass a .safetensors file or a transformers folder.")
    if given.is_file():
        _refuse_pickle(given)
        return [given]
    for stem in STEMS:
        if (single := given / f"{stem}.safetensors").exists():
            return [single]
        if (index := given / f"{stem}.safetensors.index.json").exists():
            return _shards(index)
    for file in sorted(given.iterdir()):
        _refuse_pickle(file)
    raise BenchError(f"Folder {str(given)!r} holds no checkpoint: neither model.safetensors nor its index.",
                     fix="pass a folder made by `save_pretrained`, or a .safetensors file.")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{str(index)!r} is not an index of shards: {type(error).__name__}: {error}",
                         fix="download or save the checkpoint again.") from error
    files = [index.parent / name for name in names]
    lost = [file.name for file in files if not file.exists()]
    if lost:
        raise BenchError(f"{len(lost)} of {len(files)} shards are missing beside {str(index)!r}: "
                         f"{_few(lost)}.", fix="put all shards in one folder.")
    return files


def _refuse_pickle(file: Path) -> None:
    if file.suffix in PICKLED:
        raise BenchError(f"{str(file)!r} is a pickle, which can run any code when it is read.",
                         fix="convert it where you trust it: safetensors.torch.save_file("
                             "torch.load(path, weights_only=True), 'model.safetensors').")


def _file_digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> BenchError:
    return BenchError(f"Weights {str(file)!r} cannot be read: {error.strerror or error}.",
                      fix="check the path and its permissions.")


def _read(path: str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name; they stay mapped to the files until they are used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        try:
            tensors |= load_file(file)
        except SafetensorError as error:
            raise BenchError(f"{str(file)!r} is damaged or no safetensors file: {error}.",
                             fix="download or save the checkpoint again.") from error
    return tensors


def _load_plain(module: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    wanted = module.state_dict()
    wrong = [(name, tuple(tensors[name].shape), tuple(wanted[name].shape))
             for name in wanted.keys() & tensors.keys() if tensors[name].shape != wanted[name].shape]
    _check(path, module, missing=wanted.keys() - tensors.keys(), unexpected=tensors.keys() - wanted.keys(),
           mismatched=wrong)
    module.load_state_dict(tensors)


def _load_pretrained(module: Any, tensors: dict[str, Tensor], path: str) -> None:
    """Let transformers load a second model of the same configuration, and copy that one's tensors.

    Its float32 twin lives until then, for the sake of transformers' public door.
    """
    import copy

    config, dtype = copy.deepcopy(module.config), next(module.parameters()).dtype
    try:
        with _quiet():
            loaded, info = type(module).from_pretrained(
                None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True,
                ignore_mismatched_sizes=True)
    except (RuntimeError, ValueError) as error:
        raise BenchError(f"transformers cannot load {path!r} into {type(module).__name__}: {error}",
                         fix="check that the checkpoint is of this architecture and size.") from error
    _check(path, module, missing=info["missing_keys"], unexpected=info["unexpected_keys"],
           mismatched=info["mismatched_keys"])
    module.load_state_dict(loaded.state_dict())


def _check(path: str, module: nn.Module, *, missing: Any, unexpected: Any, mismatched: Any) -> None:
    wrong = [f"{name} {list(found)} instead of {list(wanted)}" for name, found, wanted in mismatched]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    faults = [f"{len(names)} {kind} ({_few(sorted(names))})" for kind, names in kinds.items() if names]
    if faults:
        raise BenchError(f"Checkpoint {path!r} does not fit {type(module).__name__}: tensors "
                         + ", ".join(faults) + ".",
                         fix="pass --size for the checkpoint's size, or a checkpoint of this architecture.")


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' tables and progress bars off the terminal: what they say, `_check` says."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
