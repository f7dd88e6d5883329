"""Datasets written block by block: resumed after any interruption, with the same result."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import make_data

from inspo.data.episode_data import EpisodeData
from inspo.data.formats import ROW_FIELDS, EpisodeWriter, load_dataset, write_h5
from inspo.data.formats import writer as writer_module
from inspo.data.formats.schema import subset_of
from inspo.utils.errors import DatasetError

METADATA = {"environment": "test", "env_args": {}, "behaviour": "random", "command": "pytest"}


def episodes_of(data: EpisodeData) -> list[dict[str, np.ndarray]]:
    spans = zip(data.starts, data.final_rows + 1, strict=True)
    return [{name: getattr(data, name)[start:end] for name in ROW_FIELDS} for start, end in spans]


def interrupted(path, episodes) -> None:
    """Writes the beginning of a dataset and crashes."""
    with EpisodeWriter(path, METADATA) as writer:
        writer.append(episodes)
        raise RuntimeError("crash")


def test_blocks_make_one_dataset(data, tmp_path):
    with EpisodeWriter(tmp_path / "blocks.h5", METADATA) as writer:
        writer.append(episodes_of(data)[:2])
        writer.append(subset_of(data, np.arange(2, 6)))
    write_h5(data, tmp_path / "whole.h5")
    blocks, whole = load_dataset(tmp_path / "blocks.h5"), load_dataset(tmp_path / "whole.h5")
    assert blocks.fingerprint == whole.fingerprint == data.fingerprint
    assert blocks.metadata == {**whole.metadata, "fingerprint": data.fingerprint}
    assert blocks.metadata["return_std"] == pytest.approx(data.returns.std())
    assert {path.name for path in tmp_path.iterdir()} == {"blocks.h5", "whole.h5"}


def test_an_interrupted_dataset_is_resumed(data, tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "data.h5"
    episodes = episodes_of(data)
    with pytest.raises(RuntimeError, match="crash"):
        interrupted(path, episodes[:3])
    assert not path.exists()
    assert f"{path}: 3 episodes are recorded; the same command goes on from there" in caplog.text
    with EpisodeWriter(path, {**METADATA, "command": "another"}) as writer:
        assert writer.n_episodes == 3
        writer.append(episodes[3:])
    assert load_dataset(path).fingerprint == data.fingerprint


def test_a_few_mib_are_written_at_a_time(data, tmp_path, monkeypatch):
    """Also of lists instead of arrays."""
    arrays = episodes_of(data)
    episodes = [{name: array.tolist() for name, array in rows.items()} for rows in arrays]
    size = sum(np.asarray(values).nbytes for values in episodes[0].values())
    monkeypatch.setattr(writer_module, "EXTEND_BYTES", size)
    with EpisodeWriter(tmp_path / "data.h5", METADATA) as writer:
        writer.extend(episodes[:1] * 5)
        assert (writer.n_blocks, writer.n_episodes) == (5, 5)
        monkeypatch.setattr(writer_module, "EXTEND_BYTES", 3 * size)
        writer.extend(episodes[:1] * 5)
        assert (writer.n_blocks, writer.n_episodes) == (7, 10)


def test_a_killed_writer_leaves_whole_blocks(data, tmp_path):
    """SIGKILL in the middle of the second block: the first one is kept."""
    path = tmp_path / "data.h5"
    write_h5(data, tmp_path / "source.h5")
    script = f"""
        import os, signal, sys
        from inspo.data import formats
        from inspo.data.formats import writer
        data = formats.load_dataset({str(tmp_path / "source.h5")!r})
        with formats.EpisodeWriter({str(path)!r}, {METADATA!r}) as out:
            out.append(data)
            def killed(*_, **__):
                os.kill(os.getpid(), signal.SIGKILL)
            writer.create_fields = killed
            out.append(data)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=60
    )
    assert result.returncode == -9, result.stderr
    assert not path.exists()
    with EpisodeWriter(path, METADATA) as writer:
        assert writer.n_episodes == 6
    assert load_dataset(path).fingerprint == data.fingerprint


def test_the_beginning_of_another_dataset_is_not_resumed(data, tmp_path):
    path = tmp_path / "data.h5"
    with pytest.raises(RuntimeError, match="crash"):
        interrupted(path, data)
    other = {**METADATA, "behaviour": "expert"}
    with pytest.raises(DatasetError, match="the beginning of another dataset"):
        EpisodeWriter(path, other).__enter__()
    with EpisodeWriter(path, METADATA) as writer:
        assert writer.n_episodes == data.n_episodes


def test_a_beginning_that_is_damaged_is_not_resumed(data, tmp_path):
    path = tmp_path / "data.h5"
    with pytest.raises(RuntimeError, match="crash"):
        interrupted(path, data)
    (tmp_path / ".data.h5.partial" / "metadata.json").write_text("{")
    with pytest.raises(DatasetError, match="the beginning of another dataset"):
        EpisodeWriter(path, METADATA).__enter__()


def test_a_damaged_block_says_what_to_remove(data, tmp_path):
    path, folder = tmp_path / "data.h5", tmp_path / ".data.h5.partial"
    with pytest.raises(RuntimeError, match="crash"):
        interrupted(path, data)
    block = folder / "block-000000.h5"
    block.write_bytes(block.read_bytes()[:100])
    message = f"block-000000.h5: .*remove the folder {folder} to begin again"
    with pytest.raises(DatasetError, match=message), EpisodeWriter(path, METADATA):
        pass
    assert not path.exists()


def test_a_writer_refuses_what_would_spoil_the_dataset(data, tmp_path):
    path = tmp_path / "data.h5"
    with pytest.raises(DatasetError, match="the metadata lacks behaviour"):
        EpisodeWriter(path, {"environment": "test", "env_args": {}, "command": ""}).__enter__()
    with pytest.raises(DatasetError, match="must be plain JSON"):
        EpisodeWriter(path, {**METADATA, "env_args": {"x": np.zeros(1)}}).__enter__()
    with pytest.raises(DatasetError, match="there is no episode"), EpisodeWriter(path, METADATA):
        pass
    assert not list(tmp_path.iterdir())
    with EpisodeWriter(path, METADATA) as writer:
        writer.append(data)
        with pytest.raises(DatasetError, match=r"n_agents=2.*those before have.*n_agents=3"):
            writer.append(make_data(n_agents=2))
        broken = make_data()
        broken.reward[0] = np.nan
        with pytest.raises(DatasetError, match="NaN"):
            writer.append(broken)
        with pytest.raises(DatasetError, match="another process is writing"):
            EpisodeWriter(path, METADATA).__enter__()
    assert load_dataset(path).fingerprint == data.fingerprint
    with pytest.raises(FileExistsError, match="nothing is written over"):
        EpisodeWriter(path, METADATA).__enter__()


def test_what_is_no_episode_is_one_clear_line(tmp_path):
    with (
        pytest.raises(DatasetError, match="episode 0 is a list; it must be a dict"),
        EpisodeWriter(tmp_path / "x.h5", METADATA) as writer,
    ):
        writer.extend([[1, 2]])
