import json

import pytest
from run_folders import BATTLE, make_runs

from inspo.comparison.command import compare_runs


@pytest.fixture
def exported(tmp_path):
    for algorithm, scores in {"bc": [0.3, 0.6], "inspo": [0.9, 0.75]}.items():
        make_runs(tmp_path, scores, name=algorithm, **BATTLE)
        changed = [score - 0.1 for score in scores]
        make_runs(tmp_path, changed, name=algorithm, fingerprint="e" * 16, **BATTLE, max_episodes=5)
    return json.loads(compare_runs(tmp_path).to_marl_eval())


def test_layout(exported):
    assert list(exported) == ["SMAX-2s3z"]
    tasks = exported["SMAX-2s3z"]
    assert list(tasks) == ["medium", "medium, 5 episodes"]
    run = tasks["medium"]["bc"]["seed_1"]
    assert list(run) == ["step_0", "step_1", "step_2", "step_3", "absolute_metrics"]
    assert run["step_2"] == {"step_count": 200, "win_rate": [pytest.approx(0.4)]}
    assert run["absolute_metrics"] == {"win_rate": [0.6]}


def test_names_have_no_comma(tmp_path):
    for clip in (1, 2):
        make_runs(tmp_path, [0.1], name="inspo", clip=clip, beta=clip)
    (algorithms,) = json.loads(compare_runs(tmp_path).to_marl_eval())["xor_offline"].values()
    assert list(algorithms) == ["inspo (beta=1; clip=1)", "inspo (beta=2; clip=2)"]


def test_marl_eval_reads_it(exported):
    tools = pytest.importorskip(
        "marl_eval.utils.data_processing_utils", reason="marl-eval is not installed"
    )
    processed = tools.data_process_pipeline(exported, [])
    matrix, curves = tools.create_matrices_for_rliable(processed, "SMAX-2s3z", [])
    # Sorted by task: [runs, tasks]
    assert matrix["mean_win_rate"]["bc"].tolist() == [
        pytest.approx([0.3, 0.2]),
        pytest.approx([0.6, 0.5]),
    ]
    assert curves["mean_win_rate"]["inspo"].shape[-1] == 4  # evaluations
