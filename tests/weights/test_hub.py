"""A model goes to a server that answers like the Hugging Face Hub, and comes back; failures are one line."""

import json

import pytest
from PIL import Image

from maskrcnn.cli import main
from maskrcnn.config import Category, Config
from maskrcnn.weights.model_card import CardText, model_card
from tests.weights.hub_server import HubServer

hub = pytest.importorskip("huggingface_hub")
pytestmark = [pytest.mark.no_backend, pytest.mark.filterwarnings("ignore")]  # of the HTTP client


@pytest.fixture
def server(monkeypatch, tmp_path):
    running = HubServer()
    for name, value in (("HF_ENDPOINT", running.url), ("HF_TOKEN", "hf_good"), ("HF_HUB_DISABLE_XET", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    yield running
    running.close()


@pytest.fixture
def model_dir(tmp_path):
    """A model folder as far as the Hub is concerned."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = Config(categories=(Category(1, 7, "cell <script>"), Category(2, 9, "dog_house")))
    (folder / "config.json").write_text(config.to_json())
    (folder / "model.weights.h5").write_bytes(bytes(range(256)) * 10)
    scores = {"AP": 0.5, "AP50": 0.75, "AP75": 0.625}
    metrics = {"bbox": scores, "segm": scores, "images": 48, "data": {"data_dir": "/home/me/secret", "split": "val"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_a_model_goes_there_and_back(server, model_dir, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    flags = ["--license", "apache-2.0", "--data", "48 drawn cells", "--picture", str(tmp_path / "p.png"), "--private"]
    assert main(["push", str(model_dir), "me/cells", *flags]) == 0, server.requests
    assert capsys.readouterr().out == f"see {server.url}/me/cells\n"
    files = server.repositories["me/cells"]
    assert sorted(files) == ["README.md", "config.json", "model.weights.h5", "sample.png"]
    assert server.private["me/cells"]
    assert main(["pull", "me/cells", str(tmp_path / "pulled")]) == 0
    for name in ("config.json", "model.weights.h5"):
        assert (tmp_path / "pulled" / name).read_bytes() == (model_dir / name).read_bytes()
    assert not (tmp_path / "pulled" / "sample.png").exists()
    assert main(["pull", "me/cells", str(tmp_path / "pulled")]) == 2
    assert "has a model already; give another folder" in capsys.readouterr().err


def test_a_run_that_has_not_finished_is_not_pushed(server, model_dir, capsys):
    (model_dir / "best").mkdir()
    (model_dir / "model.weights.h5").rename(model_dir / "best" / "model.weights.h5")
    assert main(["push", str(model_dir), "me/cells"]) == 2
    assert "the run has not finished; resume it, or push" in capsys.readouterr().err
    assert not server.repositories


def test_the_card(model_dir):
    card = model_card("me/cells", Config.tiny(), model_dir, CardText())
    head = hub.ModelCard(card).data.to_dict()
    assert head["license"] == "other"
    assert head["pipeline_tag"] == "image-segmentation"
    from maskrcnn.config import load_config

    card = model_card(
        "me/cells", load_config(model_dir / "config.json"), model_dir, CardText("mit", "Drawn", "Counting")
    )
    assert "license: mit" in card
    assert "- cell &lt;script>\n- dog\\_house" in card
    assert "48 images of the split val, by `maskrcnn eval --data_dir DATA --model_dir model --split val`" in card
    assert "| masks | 0.500 | 0.750 | 0.625 |" in card
    assert "secret" not in card  # the folders of the data are nobody's business
    assert "maskrcnn pull me/cells model" in card
    assert "sample.png" not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pull", "me/none", "OUT"], "me/none: no such repository, or a private one"),
        (["pull", "a/b/c", "OUT"], "a/b/c: not a repository of the Hub; give OWNER/NAME"),
        (["pull", "me/other", "OUT"], "me/other: no config.json and model.weights.h5 there"),
        (["pull", "me/other", "OUT", "--revision", "v9"], "me/other: no such revision there; check --revision"),
        (["push", "OUT", "me/cells"], "OUT: no model.weights.h5 here"),
        (["push", "RUN", "me/cells", "--picture", "none.png"], "none.png: no such PNG file"),
    ],
)
def test_failures_are_one_line(server, model_dir, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    server.repositories["me/other"] = {"a.txt": b"1"}
    assert main([{"RUN": str(model_dir)}.get(one, one) for one in arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("token", [None, "hf_bad"])
def test_without_a_valid_token_nothing_is_uploaded(server, model_dir, monkeypatch, capsys, token):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(model_dir), "me/cells"]) == 2
    assert "error: me/cells: " in (line := capsys.readouterr().err)
    assert "token" in line
    assert line.count("\n") == 1
    assert not server.repositories


def test_no_network(server, model_dir, tmp_path, capsys):
    server.close()
    assert main(["pull", "me/cells", str(tmp_path / "out")]) == 2
    assert "error: me/cells: the Hub cannot be reached" in (line := capsys.readouterr().err)
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()
