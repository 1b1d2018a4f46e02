"""What a cluster says of an object becomes a finding for each field that it names."""

import pytest

from rsdl.cluster.kubectl import complaints, translate
from rsdl.cluster.server import explain

CREATING = 'error when creating "STDIN": '
UNKNOWN = 'ValidationError({}): unknown field "{}" in io.k8s.api.batch.v1.JobSpec'
CLIENT = 'error: error validating "STDIN": error validating data: '
TURN_OFF = "; if you choose to ignore these errors, turn validation off with --validate=false"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('The Job "x" is invalid: spec.template.spec.containers[0].image: Required value',
         [("spec.template.spec.containers[0].image", "Required value", "set it")]),
        ('The Job "x" is invalid: \n* spec.a.limits[nvidia.com/gpu]: Invalid value: resource.'
         'Quantity{i:resource.int64Amount{value:5}, s:""}: must be an integer\n* spec.b: Forbidden',
         [("spec.a.limits[nvidia.com/gpu]", "Invalid value: must be an integer", "mend it"),
          ("spec.b", "Forbidden", "mend it")]),
        ('The Job "x" is invalid: spec.template: Invalid value: core.PodTemplateSpec{ObjectMeta:v1.'
         'ObjectMeta{Name:""}}: field is immutable',
         [("spec.template", "Invalid value: field is immutable", "delete it first")]),
        (f'Error from server (BadRequest): {CREATING}Job in version "v1" cannot be handled as a '
         'Job: strict decoding error: unknown field "spec.backofLimit", '
         'duplicate field "spec.suspend"',
         [("spec.backofLimit", "unknown field", "leave it out"),
          ("spec.suspend", "duplicate field", "leave it out")]),
        (f"{CLIENT}[{UNKNOWN.format('Job.spec', 'completionMode')}, "
         f"{UNKNOWN.format('Job.spec.template.spec', 'contaners')}]{TURN_OFF}",
         [("spec.completionMode", "Kubernetes is older than 1.22", "1.22 or newer"),
          ("spec.template.spec.contaners", "unknown field", "leave it out")]),
        (f"{CLIENT}ValidationError(Job.spec.backoffLimit): invalid type for io.k8s.api.batch.v1."
         f'JobSpec.backoffLimit: got "string", expected "integer"{TURN_OFF}',
         [("spec.backoffLimit", 'got "string", expected "integer"', "mend it")]),
        (f'Error from server (Forbidden): {CREATING}jobs.batch "x" is forbidden: exceeded quota: q',
         [("metadata", "a quota is used up", "ask for more")]),
        ('The Deployment "x" is invalid: spec.template.metadata.labels: Invalid value: map[string]'
         'string{"app":"x"}: `selector` does not match template `labels`',
         [("spec.template.metadata.labels", "Invalid value: `selector` does not", "mend it")]),
        ("error: resource name may not be empty",
         [("metadata", "resource name may not be empty", "mend it")]),
        (f'Error from server (NotFound): {CREATING}namespaces "x" not found',
         [("metadata", "no such namespace", "--set namespace")]),
        (f'Error from server (Forbidden): {CREATING}jobs.batch is forbidden: User "me" cannot',
         [("metadata", 'may not do this: jobs.batch is forbidden: User "me"', "administrator")]),
        (f'Error from server (Forbidden): {CREATING}admission webhook "p" denied the request: no',
         [("metadata", "policy refuses it", "names the rule")]),
    ],
)  # fmt: skip
def test_each_field_is_a_finding(said: str, found: list[tuple[str, str, str]]):
    lines = complaints(said)
    findings = explain(lines, translate(["apply"], said))
    assert [finding.field for finding in findings] == [field for field, _, _ in found]
    for finding, (_, problem, remedy) in zip(findings, found, strict=True):
        assert problem in finding.problem and remedy in finding.remedy
        assert "{" not in finding.problem and "io.k8s" not in finding.problem.partition("for ")[0]
