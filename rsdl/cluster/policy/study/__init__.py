"""What rsdl asks of the Jobs that train its configs."""
