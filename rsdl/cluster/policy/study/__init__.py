"""rsdl's requirements on the Jobs that train its configs."""
