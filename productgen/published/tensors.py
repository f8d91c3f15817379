"""Reads named tensors from files, without the library that wrote them.

A `.pth` file is a pickle, which may run any program when it is loaded. Here only what a table of tensors is made of is
rebuilt; anything else is refused.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from productgen.config import UserError


def digest(path: str | os.PathLike) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def check_digest(path: Path, sha256: str, name: Path | str, advice: str) -> None:
    """Raises a UserError about `name` where the sha256 of the file at `path` begins otherwise."""
    if sha256 and not (found := digest(path)).startswith(sha256.lower()):
        raise UserError(f'{name}', f'its sha256 begins with {found[:16]}, not with {sha256[:16]}', advice)


def read(path: str | os.PathLike, sha256: str = '') -> dict[str, np.ndarray]:
    """Named tensors of a file that PyTorch saved (`.pth`, `.pt`, either format), of a `.safetensors` or a `.h5` one.

    Args:
      path: the file.
      sha256: what its sha256 must begin with; empty for anything.

    Raises:
      UserError: another sha256, or a file that holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError('weights', f'there is no file {path}')
    check_digest(path, sha256, path, 'it is damaged or another file')
    readers = {'.safetensors': _read_safetensors, '.h5': _read_hdf5}
    reader = readers.get(path.suffix) or (_read_zip if zipfile.is_zipfile(path) else _read_legacy)
    try:
        with path.open('rb') as file:
            return reader(file)
    except UserError as error:
        raise error.at(f'{path}') from error
    # What is read may be anything at all, and so may be what goes wrong.
    except Exception as error:
        raise UserError(f'{path}', f'not a file of named tensors ({type(error).__name__}: {error})') from error


# PyTorch's files: a pickled table, which refers to storages by keys, and the storages' bytes.

_STORAGES = {
    'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'BFloat16Storage': 'bfloat16',
    'LongStorage': '<i8', 'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
    'BoolStorage': '?',
}  # fmt: skip


def _dtype(code: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if code == 'bfloat16' else code)


class _Tensor:
    """A tensor whose storage is yet to be read; offset and strides count elements."""

    def __init__(self, storage, offset, size, stride):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, state):
        """Old parameters carry flags, which say nothing about values."""

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        """Raises ValueError where the tensor reaches beyond its storage."""
        whole = storages[self.storage]
        width = whole.dtype.itemsize
        stride = tuple(s * width for s in self.stride)
        return np.ndarray(self.size, whole.dtype, whole, self.offset * width, stride).copy()


def _rebuild_tensor(storage, offset, size, stride, *flags):
    return _Tensor(storage, offset, size, stride)


class _Parameter:
    """The tensor it is given: files of PyTorch before 0.4 hold parameters, made by a call or by `__new__`."""

    def __new__(cls, tensor, *flags):
        return tensor


_GLOBALS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): _Parameter,
    ('torch.nn.parameter', 'Parameter'): _Parameter,
    **{('torch', name): code for name, code in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Rebuilds tables of tensors and nothing else.

    Attributes:
      dtypes: the dtype of every storage by its key.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise UserError(
                'refused',
                f'loading it would call {module}.{name}, which no table of tensors needs',
                "save the network's `state_dict()`, or a .safetensors file",
            )
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> str:
        kind, code, key, _, _, *view = pid
        if kind != 'storage' or any(part is not None for part in view):
            raise UserError('refused', f'a reference to {kind!r} that is not a whole storage')
        self.dtypes[key] = _dtype(code)
        return key


def _tensors(table: Any, storage: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of an unpickled table; `storage` gives the elements of one by its key."""
    if not isinstance(table, dict):
        raise UserError('', f'holds a {type(table).__name__}, not named tensors')
    for name, value in table.items():
        if not isinstance(value, _Tensor):
            raise UserError('', f'{name!r} is a {type(value).__name__}, not a tensor')
    storages = {key: storage(key) for key in {value.storage for value in table.values()}}
    return {str(name): value.array(storages) for name, value in table.items()}


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """What PyTorch writes since version 1.6: an archive of `data.pkl` and `data/KEY`, in a folder of any name."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')]
        if len(pickles) != 1 or any(name.endswith('/constants.pkl') for name in names):
            raise UserError('', 'a program or another archive, not a table of tensors')
        folder = pickles[0].removesuffix('data.pkl')
        if f'{folder}byteorder' in names and archive.read(f'{folder}byteorder') != b'little':
            raise UserError('', 'written on a big-endian machine')
        with archive.open(pickles[0]) as stream:
            unpickler = _Unpickler(stream)
            table = unpickler.load()
        return _tensors(table, lambda key: np.frombuffer(archive.read(f'{folder}data/{key}'), unpickler.dtypes[key]))


_MAGIC = 0x1950A86A20F9469CFC6C


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    """What PyTorch wrote before, as most published files still are: pickles of a magic number, of the format's version,
    of the machine, of the table, and of the storages' keys; then each storage's length, int64, and bytes."""
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != 1001:
        raise UserError('', 'not a file of PyTorch')
    if not _Unpickler(file).load()['little_endian']:
        raise UserError('', 'written on a big-endian machine')
    unpickler = _Unpickler(file)
    table, storages = unpickler.load(), {}
    for key in _Unpickler(file).load():
        count, dtype = int.from_bytes(_exactly(file, 8), 'little'), unpickler.dtypes[key]
        storages[key] = np.frombuffer(_exactly(file, count * dtype.itemsize), dtype)
    return _tensors(table, storages.__getitem__)


def _exactly(file: BinaryIO, count: int) -> bytes:
    if len(content := file.read(count)) != count:
        raise UserError('', 'not all of the file is there')
    return content


_SAFE = {
    'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': 'bfloat16', 'I64': '<i8', 'I32': '<i4', 'I16': '<i2', 'I8': 'i1',
    'U64': '<u8', 'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?',
}  # fmt: skip


def _read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The length of a header, uint64; the header, JSON; the tensors' bytes, at the offsets that the header gives."""
    content = memoryview(file.read())
    start = 8 + int.from_bytes(content[:8], 'little')
    tensors = {}
    for name, entry in json.loads(bytes(content[8:start])).items():
        if name != '__metadata__':
            begin, end = entry['data_offsets']
            flat = np.frombuffer(content[start + begin : start + end], _dtype(_SAFE[entry['dtype']]))
            tensors[name] = flat.reshape(entry['shape']).copy()
    return tensors


def metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts by name that a `.safetensors` file has besides its tensors."""
    with open(path, 'rb') as file:
        return json.loads(file.read(int.from_bytes(file.read(8), 'little'))).get('__metadata__', {})


_KINDS = {np.dtype('<f2'): 'F16', np.dtype('<f4'): 'F32', np.dtype('<i4'): 'I32'}


def write_safetensors(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], about: Mapping[str, str] | None = None
) -> None:
    """Writes named arrays of float16, float32 or int32, and texts by name, which `metadata` reads."""
    header, parts, start = {'__metadata__': dict(about)} if about else {}, [], 0
    for name, array in sorted(arrays.items()):
        parts.append(np.ascontiguousarray(array).tobytes())
        end = start + len(parts[-1])
        header[name] = {'dtype': _KINDS[array.dtype], 'shape': list(array.shape), 'data_offsets': [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, 'little') + text + b''.join(parts))


def _read_hdf5(file: BinaryIO) -> dict[str, np.ndarray]:
    """Arrays of an HDF5 file, such as Keras writes, by their paths: `block1/layers/conv2d/vars/0`."""
    try:
        import h5py
    except ImportError:
        raise UserError('', 'h5py, which reads .h5 files, is not installed', 'pip install h5py') from None
    tensors = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            if node.dtype.kind not in 'fiub' or node.external or node.is_virtual:
                raise UserError('', f'{name!r} is no array of numbers in the file itself')
            tensors[name] = node[()]

    with h5py.File(file, 'r') as content:
        content.visititems(visit)
    return tensors
