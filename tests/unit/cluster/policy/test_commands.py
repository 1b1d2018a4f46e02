"""What a container does, read from its words: does it sleep, what does it train?"""

import pytest

from rsdl.cluster.policy.field import Field
from rsdl.cluster.policy.nautilus.idle_pods import sleeps
from rsdl.cluster.policy.objects import expand
from rsdl.cluster.policy.study.command import parse_training
from rsdl.cluster.policy.study.contract import decide


@pytest.mark.parametrize(
    "words",
    [
        ["sleep", "infinity"],
        ["/usr/bin/sleep", "1d"],
        ["timeout", "3600", "sleep", "9999"],
        ["tail", "-f", "/dev/null"],
        ["sh", "-c", "sleep 3600"],
        ["bash", "-lc", "rsdl train x.yaml && sleep 60"],
        ["bash", "-c", "rsdl train x.yaml\nsleep infinity &\nwait"],
        ["bash", "-c", "rsdl train x.yaml; exec sleep inf"],
        ["bash", "-c", "while true; do nvidia-smi; sleep 10; done"],
        ["/bin/sh", "-ec", "if ! rsdl train x.yaml; then\n  sleep 600\nfi\n"],
        ["bash", "-c", "rsdl train x.yaml # that's it\nsleep 600"],
        ["bash", "-c", "(rsdl train x.yaml; sleep 600)"],
        ["bash", "-c", "trap : TERM; tail -F /dev/null & wait"],
    ],
)
def test_who_holds_a_place_is_found(words: list[str]):
    assert sleeps(words)


@pytest.mark.parametrize(
    "words",
    [
        ["rsdl", "train", "configs/resnet50_ucm.yaml"],
        ["train", "sleep.yaml"],
        ["sh", "-c", "until rsdl doctor; do sleep 5; done; exec rsdl train x.yaml"],
        ["bash", "-c", "for i in 1 2 3; do rsdl train x.yaml && break || sleep 30; done; echo x"],
        ["bash", "-c", "echo 'no sleep'"],
        ["bash", "script.sh"],
        ["bash"],
        ["python", "-m", "sleepy"],
    ],
)
def test_who_works_is_let_be(words: list[str]):
    assert not sleeps(words)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["train", "a.yaml"], ("a.yaml", ())),
        (["rsdl", "train", "a.yaml", "x=1", "--restart", "y=2"], ("a.yaml", ("x=1", "y=2"))),
        (["train", "--nnodes", "2", "a.yaml"], ("a.yaml", ("trainer.num_nodes=2",))),
        (["train", "a.yaml", "--nproc-per-node=4"], ("a.yaml", ("trainer.devices=4",))),
        (["train", "a.yaml", "--fold", "2/5"], ("a.yaml", ("data.fold=2/5",))),
        (["train", "--rdzv-endpoint", "a-0.b:29500", "a.yaml"], ("a.yaml", ())),
        (["torchrun", "--nnodes", "2", "-m", "rsdl", "train", "a.yaml"], ("a.yaml", ())),
        (["sh", "-c", "cd /app && exec rsdl train a.yaml x='1 2'; echo"], ("a.yaml", ("x=1 2",))),
        (["sh", "-c", "echo don't; rsdl train a.yaml"], ("a.yaml", ())),
        (["evaluate", "train"], None),
        (["train"], None),
        (["sh", "-c", "python train a.yaml"], None),
        ([], None),
    ],
)
def test_what_is_trained_is_read_from_the_command(words: list[str], wanted: object):
    assert parse_training(words) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("s3://$(A)/$(B)", "s3://1/$(B)"),
        ("$$(A)", "$(A)"),
        ("$(A", "$(A"),
        ("$A ${A} $(A)$(A)", "$A ${A} 11"),
    ],
)
def test_variables_are_filled_in_as_kubernetes_does(text: str, wanted: str):
    assert expand(text, {"A": "1"}) == wanted


def exit_rule(
    action: str, operator: str, *values: int, container: str | None = None
) -> dict[str, object]:
    codes = {"operator": operator, "values": list(values), "containerName": container}
    return {"action": action, "onExitCodes": codes}


def test_the_first_rule_of_a_failure_policy_that_fits_decides():
    policy = Field("", {"rules": [
        exit_rule("FailIndex", "In", 3, container="other"),
        exit_rule("FailJob", "In", 2, 3),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        exit_rule("Ignore", "NotIn", 1),
    ]})  # fmt: skip
    assert decide(policy, "rsdl", 3) == "FailJob"
    assert decide(policy, "other", 3) == "FailIndex"
    assert decide(policy, "rsdl", 2, ("DisruptionTarget",)) == "FailJob"
    assert decide(policy, "rsdl", 1, ("DisruptionTarget",)) == "Ignore"
    assert decide(policy, "rsdl", 75) == "Ignore"
    assert decide(policy, "rsdl", 1) == "Count"
