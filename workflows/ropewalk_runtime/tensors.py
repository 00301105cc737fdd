"""Torch's tensors in the form of safetensors: a header of JSON, then the numbers as they lie. Pure.

The form is written and read here, because it is a dozen lines and safetensors is in no lock; its library reads these
files all the same. A tensor of an accelerator comes back on the processor. Torch is never imported before a tensor is
there. Rejected: ``torch.save``, which pickles.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator
from typing import Any

from ropewalk_runtime.formats import PIECE, Unformed, needed

SAFETENSORS = "application/vnd.safetensors"
_LENGTH = struct.Struct("<Q")
_ALIGNED = 64
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
_TYPES = {written: name for name, written in _NAMES.items()}


def fits(value: Any) -> bool:
    """Say whether a value is a tensor that has such a form: neither sparse nor quantised, nor of a type of its own."""
    kind = type(value)
    if (kind.__module__, kind.__name__) not in (("torch", "Tensor"), ("torch.nn.parameter", "Parameter")):
        return False
    return str(value.layout) == "torch.strided" and _dtype(value) in _NAMES


def pieces(value: Any) -> Iterator[memoryview]:
    """Yield a tensor as a file of safetensors, without a copy of the whole where its memory can be given out."""
    torch = sys.modules["torch"]  # it is a tensor, so the module is there
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    facts = {"ropewalk": type(value).__name__, "requires_grad": json.dumps(bool(value.requires_grad))}
    size = plain.numel() * plain.element_size()
    entry = {"dtype": _NAMES[_dtype(value)], "shape": list(plain.shape), "data_offsets": [0, size]}
    head = json.dumps({"__metadata__": facts, "value": entry}).encode()
    head += b" " * (-(len(head) + _LENGTH.size) % _ALIGNED)
    yield memoryview(_LENGTH.pack(len(head)) + head)
    if size:
        view = memoryview(plain.reshape(-1).view(torch.uint8).numpy())
        for start in range(0, size, PIECE):
            yield view[start : start + PIECE]


def read(data: memoryview) -> Any:
    """Return the tensor in a file's bytes. It uses them as they lie, so they must be writable.

    Raises
    ------
    Unformed
        If they are none, or torch lacks.
    """
    torch = needed("torch", "a tensor")
    try:
        (length,) = _LENGTH.unpack(data[: _LENGTH.size])
        head = json.loads(bytes(data[_LENGTH.size : _LENGTH.size + length]))
        entry, facts = head["value"], head.get("__metadata__") or {}
        dtype = getattr(torch, _TYPES[entry["dtype"]])
        begin, end = entry["data_offsets"]
        numbers = data[_LENGTH.size + length :][begin:end]
        flat = torch.frombuffer(numbers, dtype=dtype, count=math.prod(entry["shape"])) if len(numbers) else None
        found = torch.empty(entry["shape"], dtype=dtype) if flat is None else flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, struct.error, RuntimeError) as error:
        raise Unformed(f"The tensor cannot be read: {type(error).__name__}: {str(error)[:300]}") from None
    wants = facts.get("requires_grad") == "true"
    if facts.get("ropewalk") == "Parameter":
        return torch.nn.Parameter(found, requires_grad=wants)
    return found.requires_grad_() if wants else found


def is_begin(first: bytes) -> bool:
    """Say whether bytes begin as such a file: the length of a header that is shorter than 16 MiB, and its brace."""
    return len(first) >= 9 and first[3:8] == bytes(5) and first[8:9] == b"{"


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")
