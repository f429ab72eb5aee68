"""Downloads from a real server on this machine that can misbehave."""

import hashlib
import http.server
import os
import threading
from contextlib import contextmanager

import pytest

from jaxmed.errors import InputError
from jaxmed_convert.downloads import download

CONTENT = os.urandom(2_500_000)
NAME = f"small-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@contextmanager
def serve(respond):
    """Serves every GET with `respond(handler)`; yields the folder's URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            respond(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/models"
        finally:
            server.shutdown()
            thread.join()


def send(content: bytes, *, size: int | None = None):
    """A response that promises `size` bytes and sends `content`."""

    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(size or len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def _message(url, folder) -> str:
    with pytest.raises(InputError) as caught:
        download(url, folder)
    message = str(caught.value)
    for part in (NAME, url, str(folder / NAME)):
        assert part in message
    # Nothing half-written stays behind.
    assert list(folder.glob("*")) == []
    return message


def test_right_bytes_are_kept_and_fetched_once(tmp_path, capsys):
    folder, requests = tmp_path / "cache" / "downloads", []

    def respond(handler):
        requests.append(handler.path)
        send(CONTENT)(handler)

    with serve(respond) as url:
        path = download(f"{url}/{NAME}", folder)
        assert download(f"{url}/{NAME}", folder) == path
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert requests == [f"/models/{NAME}"]
    assert list(folder.iterdir()) == [path]
    assert f"Downloading {NAME} 3/3" in capsys.readouterr().err


def test_wrong_bytes_are_refused(tmp_path):
    with serve(send(CONTENT[:-1] + b"x")) as url:
        assert "are not the expected ones" in _message(f"{url}/{NAME}", tmp_path)


def test_a_cut_line_is_explained(tmp_path):
    with serve(send(CONTENT[:1_200_000], size=len(CONTENT))) as url:
        message = _message(f"{url}/{NAME}", tmp_path)
    assert "the line was cut after 1,200,000 of 2,500,000 bytes" in message


def test_a_missing_file_is_explained(tmp_path):
    with serve(lambda handler: handler.send_error(404)) as url:
        message = _message(f"{url}/{NAME}", tmp_path)
    assert "the server answered 404 Not Found" in message


def test_no_answer_is_explained(tmp_path):
    with serve(send(CONTENT)) as url:
        pass
    message = _message(f"{url}/{NAME}", tmp_path)
    assert message.startswith(f"Cannot download {NAME}: ")
    assert f"Fetch {NAME} from {url}/{NAME} yourself" in message


def test_a_file_put_there_by_hand_is_used_without_network(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download(f"http://127.0.0.1:9/{NAME}", tmp_path) == tmp_path / NAME


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(tmp_path):
    (tmp_path / NAME).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"Delete .* and fetch it again"):
        download(f"http://127.0.0.1:9/{NAME}", tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"something else"


def test_a_name_without_a_hash_is_refused(tmp_path):
    with (
        serve(send(CONTENT)) as url,
        pytest.raises(InputError, match=r"small\.pth does not end in the start"),
    ):
        download(f"{url}/small.pth", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_downloads_at_the_same_time_do_not_disturb_each_other(tmp_path):
    with serve(send(CONTENT)) as url:
        threads = [
            threading.Thread(target=download, args=(f"{url}/{NAME}", tmp_path))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Choose another cache folder"):
        download(f"http://127.0.0.1:9/{NAME}", tmp_path / "file" / "downloads")
