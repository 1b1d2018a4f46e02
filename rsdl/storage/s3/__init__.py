"""A store on S3 or Ceph, over boto3."""
