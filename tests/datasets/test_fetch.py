import gzip
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from checks import refused

from sparsim import datasets
from sparsim.datasets import registry
from sparsim.datasets.registry import SUITESPARSE, Entry, address
from sparsim.errors import ConfigError

MATRIX = b"%%MatrixMarket matrix coordinate pattern general\n3 3 4\n1 1\n1 3\n2 2\n3 1\n"
LAYER = b"2, 3, 3\n0 2 3\n0 2 1\n"
DLMC = "dlmc/rn50/magnitude_pruning/0.9"


def tar_gz(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path, remembers what was asked for, and may promise more bytes than it sends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.promised = {}, [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + self.server.promised))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPARSIM_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def tiny(monkeypatch):
    """A 21st matrix, small enough to be served here."""
    entry = Entry("tiny", "test", 3, 4, 6, 5, "none", "assumed", group="Mine")
    monkeypatch.setitem(registry.entries(), "tiny", entry)
    return entry


def test_download_unpacks_records_and_asks_once(server, cache, tiny, capfd):
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny_b.mtx": b"other", "tiny/tiny.mtx": MATRIX})
    path = datasets.fetch("tiny", progress=False, base_url=server.url)
    assert path == cache / "tiny.mtx"
    assert path.read_bytes() == MATRIX
    assert (cache / "tiny.mtx.sha256").read_text().split()[1] == "tiny.mtx"
    assert {item.name for item in cache.iterdir()} == {"tiny.mtx", "tiny.mtx.sha256"}
    assert datasets.fetch("tiny", base_url=server.url) == path
    matrix = datasets.load("tiny", base_url=server.url)
    assert matrix.shape == (3, 3)
    assert matrix.nnz == 4
    assert server.asked == ["/MM/Mine/tiny.tar.gz"]
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_the_error_output(server, cache, tiny, capfd):
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX})
    datasets.fetch("tiny", base_url=server.url)
    out, err = capfd.readouterr()
    assert not out
    assert "100%" in err


def test_any_matrix_of_the_collection_keeps_its_group(server, cache):
    server.files["/MM/HB/ash.tar.gz"] = tar_gz(**{"ash/ash.mtx": MATRIX})
    assert datasets.fetch("HB/ash", progress=False, base_url=f"{server.url}/") == cache / "HB" / "ash.mtx"
    assert datasets.load("HB/ash").nnz == 4
    assert datasets.find("ash") is None


def test_an_archive_saved_by_hand_needs_no_network(server, cache, tiny):
    cache.mkdir()
    (cache / "tiny.tar.gz").write_bytes(tar_gz(**{"tiny/tiny.mtx": MATRIX}))
    assert datasets.fetch("tiny", base_url=server.url).read_bytes() == MATRIX
    assert (cache / "tiny.tar.gz").exists()
    assert not server.asked


def test_a_file_that_changed_is_refused_until_its_record_is_removed(server, cache, tiny):
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX})
    path = datasets.fetch("tiny", progress=False, base_url=server.url)
    path.write_bytes(MATRIX.replace(b"2 2", b"2 3"))
    refused(lambda: datasets.fetch("tiny"), str(path), "changed since its first download", "tiny.mtx.sha256")
    refused(lambda: datasets.load("tiny"), "changed since")
    path.unlink()
    assert datasets.fetch("tiny", progress=False, base_url=server.url) == path
    path.unlink()
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX + b"\n"})
    refused(lambda: datasets.fetch("tiny", progress=False, base_url=server.url), "changed since")
    (cache / "tiny.mtx.sha256").unlink()
    assert datasets.load("tiny").nnz == 4


def test_a_known_checksum_is_demanded(server, cache, monkeypatch):
    monkeypatch.setitem(
        registry.entries(), "tiny", Entry("tiny", "test", 3, 4, 6, 5, "none", "assumed", group="Mine", sha256="0" * 64)
    )
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX})
    refused(lambda: datasets.fetch("tiny", progress=False, base_url=server.url), "not the known file", server.url)
    assert not list(cache.glob("*tiny*"))


def test_what_is_missing_is_one_line_with_url_folder_and_remedy(server, cache, tiny):
    refused(
        lambda: datasets.fetch("tiny", progress=False, base_url=server.url),
        f"{server.url}/MM/Mine/tiny.tar.gz",
        "404",
        str(cache / "tiny.tar.gz"),
        "SPARSIM_DATA_DIR",
    )


def test_without_a_network_the_standin_is_offered(cache, server):
    server.shutdown()
    server.server_close()
    refused(
        lambda: datasets.load("scircuit", progress=False, base_url=server.url),
        "no connection",
        str(cache / "scircuit.tar.gz"),
        "'standin:scircuit'",
    )


def test_a_broken_connection_and_a_truncated_archive_leave_nothing_behind(server, cache, tiny):
    whole = tar_gz(**{"tiny/tiny.mtx": MATRIX * 500})
    server.files["/MM/Mine/tiny.tar.gz"] = whole
    server.promised = 100
    refused(lambda: datasets.fetch("tiny", progress=False, base_url=server.url), "the connection broke")
    assert not list(cache.iterdir())
    server.promised = 0
    for damaged in (whole[: len(whole) // 2], b"<html>maintenance</html>", b""):
        server.files["/MM/Mine/other.tar.gz"] = damaged
        refused(lambda: datasets.fetch("Mine/other", progress=False, base_url=server.url), "truncated or no archive")
        assert not list((cache / "Mine").iterdir())


def test_an_archive_without_the_matrix_is_refused(server, cache, tiny):
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/big.mtx": MATRIX})
    refused(lambda: datasets.fetch("tiny", progress=False, base_url=server.url), "holds no tiny.mtx")


def test_a_wrong_matrix_of_the_right_name_is_refused(server, cache, tiny):
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX.replace(b"3 3 4", b"3 4 4")})
    refused(
        lambda: datasets.load("tiny", progress=False, base_url=server.url),
        "3 x 4 with 4 elements is not tiny",
        "3 x 3",
        str(cache / "tiny.mtx"),
    )
    (cache / "wiki-Vote.mtx").write_bytes(MATRIX)
    refused(lambda: datasets.load("SNAP/wiki-Vote"), "8,297 x 8,297 with 103,689 elements")


def test_explicit_zeros_of_the_original_file_are_allowed():
    assert datasets.facts("mario002").sizes == (2_097_566, 2_101_242)


def test_layers_come_out_of_the_one_archive(server, cache, monkeypatch):
    layers = [f"{DLMC}/final_dense", f"{DLMC}/initial_conv"]
    layers += [f"dlmc/rn50/random_pruning/{sparsity}/final_dense" for sparsity in ("0.5", "0.9")]
    monkeypatch.setattr(registry, "dlmc_names", lambda: dict.fromkeys(layers, (2, 3)))
    server.files["/dlmc.tar.gz"] = tar_gz(
        **{
            f"{DLMC}/final_dense.smtx": LAYER,
            f"./{DLMC}/initial_conv.smtx": LAYER,
            "dlmc/rn50/random_pruning/0.9/final_dense.smtx": LAYER,
            "dlmc/rn50_batchsizes.txt": b"final_dense,1\n",
            "../../../outside.smtx": LAYER,
        }
    )
    matrix = datasets.load(f"{DLMC}/final_dense", progress=False, base_url=server.url)
    assert matrix.shape == (2, 3)
    assert datasets.fetch(DLMC) == cache / DLMC
    assert {item.name for item in (cache / DLMC).glob("*.smtx")} == {"final_dense.smtx", "initial_conv.smtx"}
    assert (cache / "dlmc" / "rn50_batchsizes.txt").exists()
    assert (cache / "dlmc.tar.gz.sha256").exists()
    other = datasets.fetch("dlmc/rn50/random_pruning/0.9/final_dense")
    assert other == cache / "dlmc/rn50/random_pruning/0.9/final_dense.smtx"
    assert server.asked == ["/dlmc.tar.gz"]
    refused(lambda: datasets.fetch("dlmc/rn50/random_pruning/0.5/final_dense"), "holds no dlmc/rn50/random_pruning/0.5")
    refused(lambda: datasets.load(DLMC), "is 2 layers, not one matrix", kind=ConfigError)
    (cache / DLMC / "initial_conv.smtx").unlink()
    assert datasets.find(DLMC) is None
    (cache / "dlmc.tar.gz").write_bytes(tar_gz(**{f"{DLMC}/final_dense.smtx": LAYER}))
    refused(lambda: datasets.fetch(DLMC), "changed since")
    (cache / "dlmc.tar.gz.sha256").unlink()
    refused(lambda: datasets.fetch(DLMC), "not all of the 2 layers")
    assert not list(cache.parent.glob("**/outside.smtx"))


def test_layers_of_a_folder_that_was_unpacked_elsewhere(cache, tmp_path):
    folder = tmp_path / "mine" / "rn50" / "magnitude_pruning" / "0.9"
    folder.mkdir(parents=True)
    (folder / "final_dense.smtx").write_bytes(LAYER)
    assert datasets.find(f"{DLMC}/final_dense", tmp_path / "mine") == folder / "final_dense.smtx"
    assert datasets.find(DLMC, tmp_path / "mine") is None  # 53 layers are missing
    refused(lambda: datasets.load(f"{DLMC}/final_dense", folder=tmp_path / "mine"), "1,000 x 2,048")


def test_the_friends_come_from_their_edge_list(server, cache, monkeypatch):
    monkeypatch.setitem(
        registry.entries(), "facebook", Entry("facebook", "t", 4, 6, 1, 1, "none", "assumed", url="http://x/f.txt.gz")
    )
    server.files["/f.txt.gz"] = gzip.compress(b"0 1\n0 2\n1 0\n3 2\n")
    matrix = datasets.load("facebook", progress=False, base_url=server.url)
    assert matrix.to_dense().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]
    (cache / "facebook.mtx").unlink()
    server.files["/f.txt.gz"] = gzip.compress(b"0 1 2\n")
    refused(lambda: datasets.fetch("facebook", progress=False, base_url=server.url), "no list of edges")


@pytest.mark.parametrize("suffix", [".mtx", ".mtx.gz"])
def test_find_takes_the_folder_before_the_cache(cache, tmp_path, tiny, suffix):
    data = gzip.compress(MATRIX) if suffix.endswith("gz") else MATRIX
    assert datasets.find("tiny", tmp_path) is None
    cache.mkdir()
    (cache / "tiny.mtx").write_bytes(MATRIX)
    (tmp_path / f"tiny{suffix}").write_bytes(data)
    assert datasets.find("tiny") == cache / "tiny.mtx"
    assert datasets.find("tiny", tmp_path) == tmp_path / f"tiny{suffix}"
    assert datasets.load("Mine/tiny", folder=str(tmp_path)).nnz == 4


def test_a_folder_unpacked_by_hand_is_found(cache, tiny):
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / "tiny.mtx").write_bytes(MATRIX)
    assert datasets.load("tiny").nnz == 4


def test_an_unwritable_cache_is_one_line(server, tmp_path, monkeypatch, tiny):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SPARSIM_DATA_DIR", str(tmp_path / "file" / "below"))
    server.files["/MM/Mine/tiny.tar.gz"] = tar_gz(**{"tiny/tiny.mtx": MATRIX})
    refused(lambda: datasets.fetch("tiny", progress=False, base_url=server.url), "cannot be written", "another folder")


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/passwd", "a//b", "a/../b", "a b", "a\nb", "dlmc/none"])
def test_no_name_leads_out_of_the_folder(cache, name):
    refused(lambda: datasets.fetch(name), kind=ConfigError)
    refused(lambda: datasets.find(name), kind=ConfigError)


def test_an_unknown_name_gets_the_nearest(cache):
    refused(lambda: datasets.fetch("wikiVote"), "'wiki-Vote'", "GROUP/NAME", kind=ConfigError)
    refused(lambda: datasets.fetch(f"{DLMC}/finaldense"), f"'{DLMC}/final_dense'", kind=ConfigError)
    assert datasets.find("wikiVote") is None


def test_addresses_are_those_of_the_original_servers():
    place = address("wiki-Vote")
    assert place.urls == tuple(f"{server}/MM/SNAP/wiki-Vote.tar.gz" for server in SUITESPARSE)
    assert address("SNAP/wiki-Vote").urls == place.urls
    assert address("Other/wiki-Vote").entry is None
    assert address("facebook").urls == ("https://snap.stanford.edu/data/facebook_combined.txt.gz",)
    assert address(DLMC).urls == ("https://storage.googleapis.com/sgk-sc2020/dlmc.tar.gz",)


def test_the_users_cache_is_the_default(monkeypatch):
    monkeypatch.delenv("SPARSIM_DATA_DIR", raising=False)
    assert datasets.cache_folder().name == "sparsim"


def test_real_files_are_what_the_registry_says(real_data, cache):
    for name in ("wiki-Vote", "facebook", "p2p-Gnutella31", "ca-CondMat", "cage12", "m133-b3"):
        assert datasets.load(name, folder=real_data / "matrices").nnz == datasets.facts(name).nnz
    layer = datasets.load(f"{DLMC}/final_dense", folder=real_data)
    assert layer.shape == (1000, 2048)
    assert datasets.find(DLMC, real_data) == real_data / DLMC
    assert not cache.exists()
