"""What kubectl says when something is wrong, in one line with a remedy."""

import os
from pathlib import Path

import pytest

from rsdl.cluster.kubectl import Kubectl, translate
from rsdl.core.errors import ClusterError, UnreachableClusterError

LOG = 'E1125 07:14:50.266619   13698 memcache.go:265] "Unhandled Error" err="connection refused"'
FORBIDDEN = (
    'Error from server (Forbidden): jobs.batch is forbidden: User "me" cannot list resource "jobs" '
    'in API group "batch" in the namespace "theirs"'
)
# As an old cluster has them, seen on a real one.
RETRIEVING = """Error from server (Forbidden): error when retrieving current configuration of:
Resource: "/v1, Resource=services", GroupVersionKind: "/v1, Kind=Service"
Name: "rsdl", Namespace: "x"
from server for: "STDIN": services "rsdl" is forbidden: User "me" cannot get resource "services"
"""
IMMUTABLE = (
    'The Job "x" is invalid: spec.template: Invalid value: core.PodTemplateSpec{ObjectMeta:v1.'
    'ObjectMeta{Name:""}, Spec:core.PodSpec{Volumes:[]core.Volume(nil)}}: field is immutable'
)
VALIDATING = 'error: error validating "STDIN": error validating data: '
UNKNOWN = 'ValidationError(Job.spec): unknown field "{}" in io.k8s.api.batch.v1.JobSpec'
TURN_OFF = "; if you choose to ignore these errors, turn validation off with --validate=false"


@pytest.mark.parametrize(
    ("said", "words", "remedy", "passing"),
    [
        ("The connection to the server localhost:8080 was refused - did you specify the right host "
         "or port?", "no cluster is configured", "KUBECONFIG", False),
        ("Error in configuration: context was not found for specified context: nope",
         "no such context", "use-context", False),
        ('error: error loading config file "bad": yaml: line 1: did not find expected node',
         "its config cannot be read", "KUBECONFIG", False),
        ("error: You must be logged in to the server (Unauthorized)", "does not know you", "log in",
         False),
        ('Error from server: error when creating "STDIN": admission webhook "job.nrp-nautilus.io" '
         "denied the request: Your pods resources utilization is too low for account",
         "takes no new Jobs while more than four of your pods", "wait, or cancel", True),
        ('Error from server: admission webhook "job.nrp-nautilus.io" denied the request: TO '
         "RESOLVE THE ISSUE:\nPlease ask your namespace admin add description, institution",
         "page is not complete", "nrp.ai/namespaces", False),
        ("Unable to connect to the server: getting credentials: exec: get-token: oidc discovery "
         "error: 503 Service Unavailable: No server is available", "login server does not answer",
         "wait", True),
        ("Unable to connect to the server: getting credentials: exec: executable kubelogin not "
         "found", "does not know you: getting credentials", "log in", False),
        ("Unable to connect to the server: tls: failed to verify certificate: x509: certificate "
         "signed by unknown authority", "certificate is not trusted", "log in", False),
        (RETRIEVING, 'may not do this: services "rsdl" is forbidden: User', "--namespace", False),
        (FORBIDDEN, 'may not do this: jobs.batch is forbidden: User "me"', "--namespace", False),
        ('Error from server (Forbidden): error when creating "STDIN": jobs.batch "x" is forbidden: '
         "exceeded quota: gpu", "a quota is used up", "ask for more", True),
        ('Error from server (Forbidden): error when creating "STDIN": admission webhook "policy" '
         "denied the request: no sleep", "policy refuses it", "rsdl k8s check", False),
        ('Error from server (NotFound): namespaces "x" not found', "no such namespace",
         "--namespace", False),
        ("error: the namespace from the provided object \"a\" does not match the namespace \"b\".",
         "does not match the namespace", "--namespace", False),
        ('Error from server (AlreadyExists): error when creating "STDIN": jobs.batch "x" already '
         "exists", "is there already", "status", False),
        ('The Job "x" is invalid: spec.template: Invalid value: {}: field is immutable',
         "cannot be changed in place", "cancel it", False),
        ('The Job "x" is invalid: spec.backoffLimit: Invalid value: -1: must be greater than or '
         "equal to 0", "takes no such object", "rsdl k8s check", False),
        (f'{VALIDATING}failed to download openapi: Get "https://10.0.0.1/openapi/v2?timeout=30s": '
         f"dial tcp 10.0.0.1:6443: connect: connection refused{TURN_OFF}",
         "the cluster does not answer: failed to download openapi", "network", True),
        (f'{VALIDATING}failed to download openapi: Get "http://localhost:8080/openapi/v2?time=9s": '
         f"dial tcp 127.0.0.1:8080: connect: connection refused{TURN_OFF}",
         "no cluster is configured", "KUBECONFIG", False),
        ('Error from server (Forbidden): error when creating "STDIN": pods "x" is forbidden: error '
         'looking up service account y/rsdl: serviceaccount "rsdl" not found',
         "what it runs as is not there: pods", "k8s/base first", False),
        (IMMUTABLE, 'place: The Job "x" is invalid: spec.template: Invalid value: field is imm',
         "cancel it", False),
        ('The Job "x" is invalid: \n* spec.a: Required value\n* spec.b: Invalid value: -1: too low',
         "invalid: spec.a: Required value; spec.b: Invalid value: -1: too low", "k8s check", False),
        (f'{VALIDATING}{UNKNOWN.format("backofLimit")}{TURN_OFF}',
         f'takes no such object: {UNKNOWN.format("backofLimit")}; rsdl', "names the field", False),
        (f'{VALIDATING}[{UNKNOWN.format("podFailurePolicy")}, '
         f'{UNKNOWN.format("podReplacementPolicy")}]{TURN_OFF}',
         "older than 1.29 and knows no podFailurePolicy, podReplacementPolicy", "1.29 or newer",
         False),
        (f"{LOG}\nThe connection to the server 10.0.0.1:6443 was refused - did you specify the "
         "right host or port?", "the cluster does not answer", "network", True),
        (f"{LOG}\nUnable to connect to the server: dial tcp: lookup api.example.org: no such host",
         "the cluster does not answer: dial tcp: lookup", "network", True),
        ("Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded "
         "while awaiting headers)", "does not answer", "network", True),
        ("Error from server (ServiceUnavailable): apiserver not ready", "is busy", "minute", True),
        ("Error from server (TooManyRequests): slow down", "is busy", "minute", True),
        ("something new", "something new", "", False),
        (LOG, "Unhandled Error", "", False),
        ("", "failed without a word", "", False),
    ],
)  # fmt: skip
def test_each_complaint_is_one_line(said: str, words: str, remedy: str, passing: bool):
    error = translate(["get", "jobs"], said)
    line = str(error)
    assert line.startswith("kubectl get: ") and words in line and remedy in line
    assert "\n" not in line and "did you specify" not in line and "Error from server" not in line
    assert isinstance(error, UnreachableClusterError) == passing
    assert error.exit_code == (69 if passing else 2)


def test_kubectl_that_is_not_here_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"kubectl: is not on PATH; install it .* and log in"):
        Kubectl().run("get", "jobs")


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "kubectl"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_arguments_are_no_shells(tmp_path: Path):
    said = Kubectl("n s", program(tmp_path, 'printf "%s|" "$@"')).run("get", "$(touch x); a b")
    assert said == "--request-timeout=30s|--namespace=n s|get|$(touch x); a b|"
    assert not (tmp_path / "x").exists() and not os.path.exists("x")


def test_a_program_that_cannot_be_run_or_prints_no_json_is_told_of(tmp_path: Path):
    path = program(tmp_path, "echo hello")
    with pytest.raises(ClusterError, match="did not print JSON but 'hello"):
        Kubectl(program=path).read("get", "jobs")
    os.chmod(path, 0o644)
    with pytest.raises(ClusterError, match="cannot be run: Permission denied"):
        Kubectl(program=path).run("get", "jobs")
