"""Rules for manifests, as pure functions.

``api/`` holds rules of any cluster's API server, ``nautilus/`` the policies of that cluster,
``study/`` rsdl's requirements on its own Jobs, and ``schema`` the published schema. A rule checks
one object (or one pod, wherever its template is) and yields violations; nothing here talks to a
cluster. Rules are lenient where a cluster's defaults decide: false alarms teach people to ignore
the next one.
"""
