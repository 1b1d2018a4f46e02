"""The rules that manifests must keep, as pure functions.

``api/`` holds what the API server of any cluster refuses, ``nautilus/`` the policies of that
cluster, ``study/`` what rsdl asks of its own Jobs, and ``schema`` the published schema. A rule
looks at one object (or at one pod, wherever its template lies) and yields what is wrong; nothing
here talks to a cluster. Rules are lenient where a cluster's own defaults decide: a false alarm
teaches people to ignore the next one.
"""
