"""Downloads from a real server on this machine that can misbehave."""

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from jaxmed.errors import InputError
from jaxmed.runtime import download as downloads

CONTENT = os.urandom(2_500_000)
NAME = "small.pth"
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"


def download(url, folder, checksum=CHECKSUM):
    return downloads.download(url, folder / NAME, checksum)


@pytest.fixture(autouse=True)
def _no_proxy_and_no_pauses(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


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


class Ranges:
    """A server of one file that knows ranges and tags, and cuts the line.

    Attributes:
        content: what it serves.
        cuts: bytes to send before each of the next answers is cut off.
        pause: seconds to wait between two pieces of 100 kB.
        asked: "Range" and "If-Range" of every request so far.
    """

    def __init__(self, content: bytes = CONTENT, *, cuts=(), pause: float = 0):
        self.content, self.cuts, self.pause = content, list(cuts), pause
        self.asked: list[tuple[str | None, str | None]] = []

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    def __call__(self, handler) -> None:
        wanted, tag = handler.headers["Range"], handler.headers["If-Range"]
        self.asked.append((wanted, tag))
        size, start = len(self.content), 0
        if wanted is not None and tag in (None, self.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= size:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{size}")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(size - start))
        handler.send_header("ETag", self.etag)
        handler.end_headers()
        stop = start + self.cuts.pop(0) if self.cuts else size
        for at in range(start, min(stop, size), 100_000):
            handler.wfile.write(self.content[at : min(at + 100_000, stop)])
            time.sleep(self.pause)


def _message(url, folder, *, left=()) -> str:
    with pytest.raises(InputError) as caught:
        download(url, folder)
    message = str(caught.value)
    for part in (NAME, url, str(folder / NAME)):
        assert part in message
    assert "\n" not in message
    assert [path.name for path in folder.glob("*")] == list(left)
    return message


def _is_whole(folder) -> bool:
    """Tells whether the right file is there, and nothing else."""
    return [path.name for path in folder.iterdir()] == [NAME] and (
        folder / NAME
    ).read_bytes() == CONTENT


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
        assert (
            "is damaged or another file than expected: its SHA-256 starts with"
            in _message(f"{url}/{NAME}", tmp_path)
        )


def test_a_cut_line_is_taken_up_again_where_it_was_cut(tmp_path, capsys):
    server = Ranges(cuts=[700_000, 100, 0, 1_000_000])
    with serve(server) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)
    starts = (700_000, 700_100, 700_100, 1_700_100)
    assert server.asked == [
        (None, None),
        *((f"bytes={start}-", server.etag) for start in starts),
    ]
    log = capsys.readouterr().err
    assert "connection was cut after 700,000 of 2,500,000 bytes. Trying again." in log
    assert f"Downloading {NAME} 3/3" in log


def test_a_line_that_is_cut_again_and_again_is_explained(tmp_path):
    server = Ranges(cuts=[1_200_000] + [0] * downloads.TRIES)
    with serve(server) as url:
        message = _message(f"{url}/{NAME}", tmp_path, left=[f"{NAME}.part"])
        assert "the connection was cut after 1,200,000 of 2,500,000 bytes" in message
        assert "The first 1,200,000 bytes are kept: try again later, or" in message
        assert len(server.asked) == downloads.TRIES
        server.cuts, server.asked = [], []
        download(f"{url}/{NAME}", tmp_path)
    assert server.asked == [("bytes=1200000-", None)]
    assert _is_whole(tmp_path)


def test_a_server_that_ignores_ranges_sends_everything_again(tmp_path):
    answers = [send(CONTENT[:1_200_000], size=len(CONTENT)), send(CONTENT)]
    with serve(lambda handler: answers.pop(0)(handler)) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)


def test_a_server_that_sends_another_range_is_not_believed(tmp_path):
    def wrong(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 5-{len(CONTENT) - 1}")
        handler.send_header("Content-Length", str(len(CONTENT) - 5))
        handler.end_headers()
        handler.wfile.write(CONTENT[5:])

    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:9])
    answers = [wrong, Ranges()]
    with serve(lambda handler: answers.pop(0)(handler)) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)


def test_a_busy_server_is_asked_again(tmp_path):
    answers = [lambda handler: handler.send_error(503), Ranges()]
    with serve(lambda handler: answers.pop(0)(handler)) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)


def test_an_answer_without_length_is_read_to_its_end(tmp_path):
    def respond(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    with serve(respond) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        b"x" * 1000,
        CONTENT,
        CONTENT[:-1] + b"x",
        CONTENT + b"more than there is",
    ],
    ids=["foreign", "whole", "whole but wrong", "too long"],
)
def test_whatever_part_is_found_the_right_bytes_come_out(tmp_path, part):
    (tmp_path / f"{NAME}.part").write_bytes(part)
    server = Ranges()
    with serve(server) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)
    assert len(server.asked) == (1 if part == CONTENT else 2)


def test_wrong_bytes_after_resuming_are_fetched_once_more_then_refused(tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    server = Ranges(CONTENT[:-1] + b"x")
    with serve(server) as url:
        message = _message(f"{url}/{NAME}", tmp_path)
    assert "another file than expected: its SHA-256 starts with" in message
    assert server.asked == [("bytes=1000-", None), (None, None)]


def test_a_file_that_changes_on_the_server_is_fetched_anew(tmp_path):
    """The tag tells the server that we hold the start of the old file."""
    server = Ranges(os.urandom(len(CONTENT)), cuts=[900_000])

    def respond(handler):
        server(handler)
        server.content = CONTENT

    with serve(respond) as url:
        download(f"{url}/{NAME}", tmp_path)
    assert _is_whole(tmp_path)
    assert [wanted for wanted, _ in server.asked] == [None, "bytes=900000-"]


def test_a_missing_file_is_explained(tmp_path):
    with serve(lambda handler: handler.send_error(404)) as url:
        message = _message(f"{url}/{NAME}", tmp_path)
    assert "the server answered 404 Not Found" in message


def test_no_answer_is_explained(tmp_path):
    with serve(send(CONTENT)) as url:
        pass
    message = _message(f"{url}/{NAME}", tmp_path)
    assert message.startswith(f"Cannot download {NAME}: ")
    assert "refused" in message
    assert f"Download {NAME} from {url}/{NAME} yourself" in message


def test_a_file_put_there_by_hand_is_used_without_network(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download(f"http://127.0.0.1:9/{NAME}", tmp_path) == tmp_path / NAME


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(tmp_path):
    (tmp_path / NAME).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"Delete .* and download it again"):
        download(f"http://127.0.0.1:9/{NAME}", tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"something else"


@pytest.mark.parametrize("function", ["md5", "sha256"])
def test_the_hash_is_of_the_function_that_is_named(tmp_path, function):
    digest = hashlib.new(function, CONTENT).hexdigest()
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download("", tmp_path, f"{function}:{digest}") == tmp_path / NAME
    with pytest.raises(InputError, match=rf"is {digest} instead of 0+ \(2,500,000 b"):
        download("", tmp_path, f"{function}:{'0' * len(digest)}")


def test_downloads_at_the_same_time_do_not_disturb_each_other(tmp_path):
    server = Ranges(cuts=[600_000, 600_000])
    with serve(server) as url:
        threads = [
            threading.Thread(target=download, args=(f"{url}/{NAME}", tmp_path))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert _is_whole(tmp_path)
    # One thread fetched the file, in three pieces; the others waited for it.
    assert len(server.asked) == 3


PROGRAM = """
import sys
from pathlib import Path
from jaxmed.runtime.download import download
download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


def _start(url: str, folder) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        f"{url}/{NAME}",
        str(folder / NAME),
        CHECKSUM,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_process_loses_nothing_and_blocks_nobody(tmp_path):
    """Of several processes the one that downloads is killed; another goes on."""
    server = Ranges(pause=0.1)
    part = tmp_path / f"{NAME}.part"
    with serve(server) as url:
        first = _start(url, tmp_path)
        _wait_until(lambda: part.exists() and part.stat().st_size >= 300_000)
        others = [_start(url, tmp_path) for _ in range(3)]
        assert others[0].stderr is not None
        assert "Another process is downloading" in others[0].stderr.readline()
        first.send_signal(signal.SIGKILL)
        first.communicate()
        server.pause = 0
        for process in others:
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert _is_whole(tmp_path)
    (first_asked, _), (then_asked, _) = server.asked
    assert first_asked is None
    assert then_asked is not None
    assert int(then_asked.removeprefix("bytes=").removesuffix("-")) >= 300_000


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        InputError, match="to --cache or JAXMED_CACHE; choose another folder"
    ):
        download(f"http://127.0.0.1:9/{NAME}", tmp_path / "file" / "downloads")
