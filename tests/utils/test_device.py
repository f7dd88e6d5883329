"""Which device the settings `device` and `use_cuda` choose."""

import pytest
import torch as th
from pretended_gpu import pretended_gpu

from inspo.api import _global_state_kept
from inspo.main import main
from inspo.utils.device import choose_device, compute_in_float32
from inspo.utils.errors import ConfigError


def test_auto_is_the_gpu_if_there_is_one_and_use_cuda_is_set(caplog):
    caplog.set_level("INFO")
    assert choose_device("auto", use_cuda=True) == th.device("cpu")
    assert "No CUDA device" in caplog.text
    with pretended_gpu():
        assert choose_device("auto", use_cuda=True) == th.device("cuda")
        assert "Training on cuda, pretended" in caplog.text
        assert choose_device("auto", use_cuda=False) == th.device("cpu")
        assert choose_device("cpu", use_cuda=True) == th.device("cpu")
        assert choose_device("cuda:0", use_cuda=True) == th.device("cuda:0")


@pytest.mark.parametrize(
    ("name", "use_cuda", "message"),
    [
        ("cuda:1", True, "no such GPU here, only cuda:0"),
        ("cuda", False, "use_cuda=False forbids it"),
        ("mps", True, "no Apple GPU"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name, use_cuda, message):
    with pretended_gpu(), pytest.raises(ConfigError, match=message):
        choose_device(name, use_cuda)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:1", "PyTorch finds no CUDA device here"), ("gpu", "must be auto, cpu, cuda, cuda:N")],
)
def test_a_run_is_refused_before_its_folder_exists(tmp_path, capsys, device, message):
    words = ["with", f"device={device}", f"local_results_path={tmp_path}"]
    assert main(["--config=bc", "--env-config=xor_offline", *words]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(
    not hasattr(th.backends.cudnn.rnn, "fp32_precision"), reason="PyTorch 2.9 and later"
)
@pytest.mark.parametrize("setting", ["none", "ieee", "tf32"])
def test_grus_compute_in_float32_whatever_the_program_asked_for(monkeypatch, setting):
    """PyTorch refuses to read its older setting once a program has used the newer ones."""
    grus = th.backends.cudnn.rnn
    monkeypatch.setattr(th.backends, "fp32_precision", setting)
    monkeypatch.setattr(grus, "fp32_precision", setting)
    with _global_state_kept():
        compute_in_float32()
        assert grus.fp32_precision == "ieee"
    assert grus.fp32_precision == setting
