"""The command line, in processes of its own where start-up matters."""

import argparse
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from jaxmed_convert.__main__ import main
from jaxmed_convert.weights.imagenet import PUBLISHED


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["torchvision", "--help"], ["file", "-h"], ["verify", "-h"], ["list"]],
)
def test_help_and_list_import_neither_torch_nor_jax(arguments):
    program = """
import sys
from jaxmed_convert.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
loaded = {"torch", "torchvision", "jax", "flax", "numpy"} & sys.modules.keys()
assert not loaded, loaded
sys.exit(code)
"""
    run = subprocess.run([sys.executable, "-c", program, *arguments], check=False)
    assert run.returncode == 0


def test_errors_are_one_line_and_exit_code_2():
    run = subprocess.run(
        [sys.executable, "-m", "jaxmed_convert", "verify", "resnet7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("jaxmed_convert: There are no ImageNet weights for")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["file", "resnet81", "x.pth"], "Unknown backbone 'resnet81'. Did you mean"),
        (["file", "resnet18", "none.pth"], "There is no weights file none.pth."),
        (
            ["torchvision", "resnet18", "--weights", "V1"],
            "Unknown weights for resnet18",
        ),
        (
            ["verify", "resnet18", "--image-size", "0"],
            "--image-size must be at least 32",
        ),
        (
            ["verify", "resnet18", "inception_v3", "--image-size", "224", "74"],
            "--image-size must be at least 75 for inception_v3, got 74.",
        ),
        (["verify"], "Name one or more architectures, or give --all."),
        (
            ["verify", "resnet18", "--weights", "file:no.pth"],
            "There is no weights file",
        ),
    ],
)
def test_bad_input_is_a_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_list_shows_every_weight(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + sum(len(row.top1) for row in PUBLISHED.values())
    assert "11,689,512  IMAGENET1K_V1* " in lines[1]
    assert "69.76 %" in lines[1]
    assert max(map(len, lines)) <= 100


def test_a_lightning_checkpoint_with_another_head_is_converted(tmp_path, capsys):
    path = tmp_path / "last.ckpt"
    own = {n: t for n, t in resnet18().state_dict().items() if n[:3] != "fc."}
    tensors = {f"net.backbone.{name}": tensor.half() for name, tensor in own.items()}
    beside = {"net.head.weight": torch.ones(4, 512), "loss.weight": torch.ones(4)}
    content = {
        "state_dict": tensors | beside,
        "hyper_parameters": {"lr": 1e-3, "paths": argparse.Namespace(out="runs")},
        "epoch": 9,
    }
    torch.save(content, path)
    assert main(["file", "resnet18", str(path), "--cache", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "100 of them cast from float16 to float32" in output
    assert (
        "Left out, being no part of resnet18: net.head.weight (4, 512), "
        "loss.weight (4,)."
    ) in output


def test_file_converts_once(tmp_path, capsys):
    path = tmp_path / "mine.pth"
    torch.save(resnet18(num_classes=4).state_dict(), path)
    arguments = ["file", "resnet18", str(path), "--cache", str(tmp_path)]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "100 tensors converted" in first
    assert "The head is left out: fc.weight (4, 512), fc.bias (4,)." in first
    assert len(list((tmp_path / "weights").glob("resnet18-*.safetensors"))) == 1
    assert main(arguments) == 0
    assert "Converted before" in capsys.readouterr().out


def test_torchvision_uses_a_file_put_there_by_hand(tmp_path, capsys):
    torch.save(resnet18().state_dict(), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / name).write_bytes(content)
    arguments = ["torchvision", "resnet18", "--url", f"http://127.0.0.1:9/{name}"]
    assert main([*arguments, "--cache", str(tmp_path)]) == 0
    assert "resnet18-IMAGENET1K_V1.safetensors" in capsys.readouterr().out


def test_processes_that_start_at_the_same_time_share_a_cache(tmp_path):
    """The folder of the cache comes from the environment, the file from a server."""
    served = tmp_path / "served"
    served.mkdir()
    torch.save(resnet18().state_dict(), served / "x.pth")
    content = (served / "x.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (served / "x.pth").rename(served / name)
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *arguments):
            requests.append(arguments)

    environment = os.environ | {
        "JAXMED_CACHE": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1",
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        command = [sys.executable, "-m", "jaxmed_convert", "torchvision", "resnet18"]
        processes = [
            subprocess.Popen(
                [*command, "--url", url], env=environment, stdout=subprocess.PIPE
            )
            for _ in range(3)
        ]
        outputs = [process.communicate()[0].decode() for process in processes]
        server.shutdown()
        thread.join()
    kept = tmp_path / "cache" / "weights" / "resnet18-IMAGENET1K_V1.safetensors"
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(str(kept) in output for output in outputs)
    assert list(kept.parent.iterdir()) == [kept]
    assert list((tmp_path / "cache" / "downloads").iterdir()) == [
        tmp_path / "cache" / "downloads" / name
    ]
    assert len(requests) == 1


def test_verify_prints_every_layer(capsys):
    assert main(["verify", "resnet18", "--image-size", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 50 + 1
    assert lines[0].strip() == "resnet18, 64 px"
    assert lines[2].split()[:3] == ["conv1", "Convolution", "2×32×32×64"]
    assert lines[-2].split()[:3] == ["fc", "Linear", "2×1000"]
    assert lines[-1].endswith("within the 1e-04 allowed (weights none).")


def test_verify_of_several_prints_their_logits_at_two_sizes(capsys):
    names = ["resnet18", "mobilenet_v2"]
    arguments = ["--image-size", "64", "75"]
    assert main(["verify", *names, *arguments]) == 0
    output = capsys.readouterr()
    lines = [line.split() for line in output.out.splitlines()]
    assert [line[:-2] for line in lines[1:-1]] == [
        ["resnet18", "64", "px"],
        ["75", "px"],
        ["mobilenet_v2", "64", "px"],
        ["75", "px"],
    ]
    assert all(0 < float(line[-1]) < 1e-4 for line in lines[1:-1])
    assert "Comparing 2/2" in output.err


def test_verify_takes_a_file_with_its_own_number_of_classes(tmp_path, capsys):
    path = tmp_path / "mine.safetensors"
    save_file(resnet18(num_classes=4).bfloat16().state_dict(), path)
    arguments = ["--image-size", "64", "--weights", f"file:{path}"]
    assert main(["verify", "resnet18", *arguments]) == 0
    assert "2×4 " in capsys.readouterr().out
    assert main(["verify", "resnet34", *arguments]) == 2
    assert "They fit resnet18 best" in capsys.readouterr().err
