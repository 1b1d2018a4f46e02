"""A store on S3 or Ceph, using boto3."""
