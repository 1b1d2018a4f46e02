"""The ``Store`` protocol and its implementations: local file system and S3."""
