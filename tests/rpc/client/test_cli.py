from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp
from ilf.common.v1 import common_pb2 as common
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from ilf.ranking.v1 import ranking_service_pb2 as ranking

from ilf_client.cli.main import main
from ilf_client.cli.options import Session
from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import (
    FailedPreconditionError,
    InternalError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from ilf_common.rpc.status import to_status
from tests.fakes.ilf_server import FakeServices

Ilf = Callable[..., Result]


@pytest.fixture
def ilf(server_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ilf:
    monkeypatch.setenv("ILF_SERVER", server_address)
    monkeypatch.setenv("ILF_STATE_DIR", str(tmp_path / ".ilf"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=text)

    return call


def succeeded(**more: object) -> orchestrator.Run:
    start, end = Timestamp(seconds=1_700_000_000), Timestamp(seconds=1_700_000_010)
    stage = orchestrator.StageStatus(
        stage="refine",
        state=orchestrator.STAGE_STATE_SUCCEEDED,
        progress=common.Progress(done=2, total=2),
        start_time=start,
        end_time=end,
        usage=common.Usage(prompt_tokens=100, completion_tokens=20),
    )
    return orchestrator.Run(
        name="runs/toy",
        state=orchestrator.RUN_STATE_SUCCEEDED,
        create_time=start,
        end_time=end,
        iterations=[orchestrator.Iteration(index=1, stages=[stage])],
        **more,  # type: ignore[arg-type]
    )


def sample(item_id: str = "a") -> orchestrator.RunSample:
    return orchestrator.RunSample(
        item_id=item_id,
        context="c",
        initial_output="x0",
        feedback="f",
        candidates=[
            orchestrator.Candidate(text="one", score=ranking.CandidateScore(score=0.2)),
            orchestrator.Candidate(text="two", score=ranking.CandidateScore(score=0.9), weight=1.0),
        ],
        chosen_index=1,
    )


def write_run(folder: Path, **more: object) -> Path:
    (folder / "train.jsonl").write_text('{"context": "a"}\n' * 8)
    data = {"policy": "toy", "dataset": {"train_uri": "train.jsonl"}, "rank": {"ranker": "length"}, **more}
    (folder / "run.yaml").write_text(json.dumps(data))
    return folder / "run.yaml"


def test_refine_prints_texts_or_json(ilf: Ilf, tmp_path: Path) -> None:
    (tmp_path / "context.txt").write_text("from a file")
    arguments = ("refine", "--model", "toy", "--context", "@context.txt", "--initial-output", "x", "--feedback", "f")
    assert ilf(*arguments, "-n", "2").stdout == "x 0\nx 1\n"
    data = json.loads(ilf(*arguments, "-o", "json").stdout)
    assert len(data["refinements"]) == 5 and data["model_version"] == "toy@1"


def test_many_items_come_from_json_lines_and_a_bad_line_fails_alone(ilf: Ilf) -> None:
    lines = '{"id": "a", "context": "c", "initial_output": "x", "feedback": "f"}\nnonsense\n{"id": "b", "kontext": 1}\n'
    result = ilf("refine", "--model", "toy", "--input", "-", text=lines)
    outcomes = {row["item_id"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert outcomes["a"]["result"]["refinements"][0]["text"] == "x 0"
    assert outcomes["line 2"]["error"]["reason"] == "INVALID_FIELD"
    assert outcomes["line 3"]["error"]["violations"][0]["field"] == "kontext"


def test_rank_marks_the_chosen_one(ilf: Ilf) -> None:
    arguments = ("rank", "--context", "c", "--initial-output", "x", "--feedback", "f", "--candidate", "a")
    lines = ilf(*arguments, "--candidate", "abc").stdout.splitlines()
    assert "JUDGE_1" in lines[0] and lines[2].startswith("*") and lines[2].endswith("abc")
    assert ilf("compare", "--context", "c", "--a", "1", "--b", "2").stdout.startswith("A  (p(A) = 0.750")


def test_missing_options_are_a_usage_error(ilf: Ilf) -> None:
    result = ilf("refine", "--model", "toy", "--context", "c")
    assert result.exit_code == 2 and "--initial-output, --feedback" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (FailedPreconditionError("not now", reason="RUN_NOT_RESUMABLE"), 5, "ilf runs explain"),
        (PermissionDeniedError("not you"), 6, ""),
        (ResourceExhaustedError("full"), 3, ""),
        (InternalError("fault"), 1, "log"),
    ],
)
def test_errors_have_a_line_a_hint_and_an_exit_code(
    ilf: Ilf, services: FakeServices, error: InternalError, code: int, hint: str
) -> None:
    services.failures["ResumeRun"] = [error]
    result = ilf("runs", "resume", "toy")
    assert result.exit_code == code
    assert result.stderr.startswith(f"Error: {error.message} [{error.reason}]\n")
    assert hint in result.stderr and "Traceback" not in result.stderr and not result.stdout


def test_an_error_as_json_and_with_its_stack(ilf: Ilf) -> None:
    result = ilf("jobs", "show", "none", "-o", "json")
    assert result.exit_code == 4
    assert json.loads(result.stderr)["error"]["reason"] == "JOB_NOT_FOUND"
    assert "Traceback" in ilf("jobs", "show", "none", "--debug").stderr


def test_wrong_fields_are_listed(ilf: Ilf, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("polic: toy\nshard_rows: many\n")
    result = ilf("run", "run.yaml")
    assert result.exit_code == 2
    assert "polic: is unknown; did you mean 'policy'?" in result.stderr
    assert "shard_rows: is 'many'" in result.stderr


def test_a_service_that_is_down_is_exit_code_3(ilf: Ilf) -> None:
    result = ilf("runs", "list", "--server", "127.0.0.1:9", "--timeout", "0.5")
    assert result.exit_code == 3 and "ilf up" in result.stderr


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(
    ilf: Ilf, services: FakeServices, tmp_path: Path
) -> None:
    result = ilf("run", str(write_run(tmp_path)), "--set", "iterations=3", "--preview", "4", "--dry-run")
    assert result.exit_code == 0
    assert "iterations: 3" in result.stdout and "preview_rows: 4" in result.stdout
    assert "train_uri: datasets/" in result.stdout and "would publish" in result.stderr
    assert not services.calls["CreateRun"] and not (tmp_path / "store").exists()


def test_a_run_publishes_its_data_is_watched_and_ends(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    result = ilf("run", str(write_run(tmp_path)), "--name", "toy", "--store", str(tmp_path / "store"))
    assert result.exit_code == 0, result.output
    assert "it-1  refine     succeeded  2/2" in result.stdout
    assert "runs/toy succeeded after 10s" in result.stdout
    (request,) = services.calls["CreateRun"]
    assert (tmp_path / "store" / request.spec.dataset.train_uri).read_text() == '{"context": "a"}\n' * 8


def test_without_a_store_local_data_is_sent_to_the_services(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    result = ilf("run", str(write_run(tmp_path)), "--detach")
    assert result.exit_code == 0, result.output
    (request,) = services.calls["CreateRun"]
    assert services.uploads == {request.spec.dataset.train_uri: b'{"context": "a"}\n' * 8}


def test_pushed_data_prints_its_uri_alone(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    result = ilf("data", "push", str(tmp_path / "train.jsonl"), "--name", "other.jsonl")
    assert result.exit_code == 0, result.output
    assert services.uploads == {result.stdout.strip(): b"{}"} and result.stdout.endswith("/other.jsonl\n")


@pytest.mark.parametrize("source", ["runs/toy/it-1/checkpoint", "toy/it-1"], ids=["uri", "version"])
def test_without_a_store_a_checkpoint_comes_from_the_services(
    ilf: Ilf, services: FakeServices, tmp_path: Path, source: str
) -> None:
    services.directories = {"runs/toy/it-1/checkpoint": {"config.json": b"{}", "model.safetensors": b"weights"}}
    result = ilf("policies", "pull", source, str(tmp_path / "here"))
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == services.directories[
        "runs/toy/it-1/checkpoint"
    ]
    known = source == "runs/toy/it-1/checkpoint"
    assert len(services.calls["GetDirectory"]) == (1 if known else 2)
    assert len(services.calls["GetPolicy"]) == (0 if known else 1)


def test_fetching_a_checkpoint_keeps_to_the_time_that_is_given(
    ilf: Ilf, services: FakeServices, tmp_path: Path
) -> None:
    services.directories = {"runs/toy/it-1/checkpoint": {"config.json": b"{}"}}
    assert ilf("policies", "pull", "toy/it-1", str(tmp_path / "here"), "--timeout", "9").exit_code == 0
    assert {rpc: len(seconds) for rpc, seconds in services.seconds.items()} == {
        "GetDirectory": 2,
        "GetPolicy": 1,
        "DownloadFile": 1,
    }
    assert all(0 < one <= 9.5 for seconds in services.seconds.values() for one in seconds)


def test_a_checkpoint_of_a_store_on_this_machine_needs_no_services(
    ilf: Ilf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    store.publish_directory(tmp_path / "model", "models/a")
    monkeypatch.setattr(Session, "client", None)
    result = ilf("policies", "pull", "models/a", str(tmp_path / "copy"), "--store", str(tmp_path / "store"))
    assert result.exit_code == 0, result.output


def test_a_preview_shows_rows_scores_cost_and_time(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    services.samples = [sample()]
    arguments = ("run", str(write_run(tmp_path)), "--preview", "2", "--store", str(tmp_path / "store"))
    result = ilf(*arguments)
    assert services.calls["CreateRun"][0].spec.preview_rows == 2
    assert "* " in result.stdout and "0.9000" in result.stdout
    cells = next(line for line in result.stdout.splitlines() if line.startswith("refine ")).split()
    assert cells == ["refine", "2", "10s", "100", "20", "40s", "480"]
    assert "Expected for the whole run: 40s" in result.stdout
    last = json.loads(ilf(*arguments, "-o", "json").stdout.splitlines()[-1])
    assert last["costs"][0]["expected_tokens"] == 480


def test_a_failed_run_is_exit_code_1_and_says_how_to_go_on(ilf: Ilf, services: FakeServices) -> None:
    services.run = orchestrator.Run(
        name="runs/toy", state=orchestrator.RUN_STATE_FAILED, error=to_status(InternalError("broke", reason="BROKEN"))
    )
    result = ilf("runs", "watch", "toy")
    assert result.exit_code == 1
    assert "broke [BROKEN]" in result.stderr and "ilf runs resume toy" in result.stderr


def test_waiting_is_told(ilf: Ilf, services: FakeServices) -> None:
    waiting = orchestrator.Waiting(reason="PEOPLE", message="0 of 4 tasks")
    services.run_history = [
        orchestrator.Run(name="runs/toy", state=orchestrator.RUN_STATE_WAITING, waiting=waiting),
        succeeded(),
    ]
    assert "PEOPLE (0 of 4 tasks)" in ilf("runs", "watch", "toy").stdout


def test_a_terminal_shows_a_table(ilf: Ilf, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilf_client.cli.watching.is_terminal", lambda: True)
    services.run = succeeded(waiting=orchestrator.Waiting(reason="PEOPLE"))
    output = ilf("runs", "watch", "toy").stdout
    assert "refine" in output and "2/2" in output and "12.0/min" in output and "PEOPLE" in output


def test_detaching_leaves_the_run_alone(ilf: Ilf, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ilf_client.cli.watching._Lines.show", interrupt)
    result = ilf("runs", "watch", "toy")
    assert result.exit_code == 130 and "ilf runs watch toy" in result.stderr
    assert not services.calls["CancelRun"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "list"),
        ("runs", "list", "--state", "succeeded", "--text", "toy"),
        ("runs", "show", "toy"),
        ("runs", "cancel", "toy"),
        ("runs", "resume", "toy"),
        ("runs", "explain", "toy"),
        ("runs", "samples", "toy"),
        ("runs", "samples", "toy", "--not-failed", "--min-length", "1", "--order-by", "length", "--descending"),
        ("runs", "watch", "toy"),
        ("runs", "report", "toy"),
        ("policies", "list"),
        ("policies", "show", "toy"),
        ("policies", "load", "toy/it-1", "runs/toy/it-1/checkpoint"),
        ("policies", "promote", "production", "toy/it-1"),
        ("policies", "rollback", "production"),
        ("policies", "unload", "toy/it-1"),
        ("jobs", "list"),
        ("jobs", "cancel", "x"),
        ("jobs", "watch", "x"),
    ],
)
def test_every_command_speaks_json_and_plain_text(ilf: Ilf, services: FakeServices, arguments: tuple[str, ...]) -> None:
    services.run = succeeded()
    services.samples = [sample()]
    as_json = ilf(*arguments, "-o", "json")
    assert as_json.exit_code == 0, as_json.output
    try:
        json.loads(as_json.stdout)
    except ValueError:
        [json.loads(line) for line in as_json.stdout.splitlines()]
    assert ilf(*arguments).exit_code == 0


def test_conditions_of_runs_and_samples_reach_the_server(ilf: Ilf, services: FakeServices) -> None:
    services.run = succeeded()
    ilf("runs", "list", "--state", "failed", "--text", "toy")
    asked = services.calls["ListRuns"][-1]
    assert (list(asked.states), asked.text) == ([orchestrator.RUN_STATE_FAILED], "toy")
    conditions = ("--text", "cat", "--min-score", "0.5", "--failed", "--item", "a", "--order-by", "spread")
    ilf("runs", "samples", "toy", "--iteration", "2", *conditions, "--descending", "--limit", "7")
    asked = services.calls["ListSamples"][-1]
    assert (asked.iteration, asked.page_size, asked.descending) == (2, 7, True)
    assert asked.order_by == orchestrator.SAMPLE_ORDER_SPREAD
    found = asked.filter
    assert (found.text, found.min_score, found.failed, list(found.item_ids)) == ("cat", 0.5, True, ["a"])
    assert not found.HasField("max_score")


def test_jobs_are_created_from_a_file(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: sft\nbase_model: toy\ndataset_uri: d.jsonl\noutput_uri: out\n")
    result = ilf("jobs", "create", "job.yaml", "--set", "hyperparameters.epochs=2")
    assert "ilf jobs watch jobs/0" in result.stdout
    assert services.calls["CreateFinetuneJob"][0].spec.hyperparameters.epochs == 2


def test_people_give_feedback_skip_edit_and_quit(ilf: Ilf, services: FakeServices) -> None:
    services.tasks = [
        orchestrator.FeedbackTask(name=f"runs/toy/feedbackTasks/{k}", item_id=str(k), initial_output=f"x{k}")
        for k in range(3)
    ]
    text = "too long\\\nand dull\n/edit\nmuch too long\nwrong name\n/quit\n"
    result = ilf("feedback", "toy", "--annotator", "anna", text=text)
    assert result.exit_code == 0 and "2 answered" in result.stdout
    sent = [(request.name[-1], request.feedback) for request in services.calls["SubmitFeedback"]]
    assert sent == [("0", "too long\nand dull"), ("0", "much too long"), ("1", "wrong name")]
    ilf("feedback", "toy", "--annotator", "anna", text="/skip\n")
    assert services.calls["SubmitFeedback"][-1].skip
    assert services.calls["ListFeedbackTasks"][0].annotator == "anna"


def test_a_lease_that_ran_out_is_taken_again(ilf: Ilf, services: FakeServices) -> None:
    services.tasks = [orchestrator.FeedbackTask(name="runs/toy/feedbackTasks/0", item_id="0")]
    services.failures["SubmitFeedback"] = [FailedPreconditionError("too late", reason="LEASE_EXPIRED")]
    result = ilf("feedback", "toy", text="fine\n")
    assert "1 answered" in result.stdout and len(services.calls["SubmitFeedback"]) == 2


def test_people_compare(ilf: Ilf, services: FakeServices) -> None:
    services.pairs = [orchestrator.ComparisonTask(name=f"runs/toy/comparisonTasks/{k}") for k in range(2)]
    result = ilf("feedback", "toy", "--compare", text="x\nb\nT\n")
    assert "2 answered" in result.stdout
    assert [request.preference for request in services.calls["SubmitComparison"]] == [2, 3]


def test_training_data_is_exported_with_trl_names(ilf: Ilf, services: FakeServices, tmp_path: Path) -> None:
    services.run = succeeded()
    services.run.spec.generate.template.text = "Q: {context}\nA:"
    services.run.spec.generate.template.target_prefix = " "
    failed = orchestrator.RunSample(item_id="b", error=to_status(InternalError("x")), candidates=sample().candidates)
    services.samples = [sample(), failed]
    assert [json.loads(line) for line in ilf("runs", "export", "toy").stdout.splitlines()] == [
        {"prompt": "Q: c\nA:", "completion": " two", "weight": 1.0}
    ]
    pair = json.loads(ilf("runs", "export", "toy", "--kind", "preference").stdout)
    assert pair == {"prompt": "Q: c\nA:", "chosen": " two", "rejected": " x0"}
    worst = json.loads(ilf("runs", "export", "toy", "--kind", "preference", "--rejected", "worst").stdout)
    assert worst["rejected"] == " one"

    import pyarrow.parquet as parquet

    assert "wrote 1 rows" in ilf("runs", "export", "toy", "-o", str(tmp_path / "rows.parquet")).stdout
    assert parquet.read_table(tmp_path / "rows.parquet").column_names == ["prompt", "completion", "weight"]
    assert ilf("runs", "export", "toy", "-o", "rows.xlsx").exit_code == 2


def test_checkpoints_go_into_the_store_and_out_again(ilf: Ilf, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    store = ("--store", str(tmp_path / "store"))
    assert ilf("policies", "push", str(model), "models/a", *store).exit_code == 2
    (model / "config.json").write_text("{}")
    assert "1 files" in ilf("policies", "push", str(model), "models/a", *store).stdout
    assert ilf("policies", "pull", "models/a", str(tmp_path / "copy"), *store).exit_code == 0
    assert (tmp_path / "copy" / "config.json").read_text() == "{}"
    assert ilf("policies", "pull", "models/a", str(tmp_path / "copy"), *store).exit_code == 5
    assert ilf("policies", "push", str(model), "../elsewhere", *store).exit_code == 2


def test_completion_scripts_are_printed(ilf: Ilf) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_ILF_COMPLETE" in ilf("completion", shell).stdout


def test_status_is_exit_code_3_without_services(ilf: Ilf) -> None:
    result = ilf("status", "--server", "127.0.0.1:9")
    assert result.exit_code == 3 and "unreachable" in result.stdout


def test_an_unknown_command_is_a_usage_error(ilf: Ilf) -> None:
    assert ilf("rnus").exit_code == 2
