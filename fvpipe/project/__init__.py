"""A project folder: params.yaml and the stages of its DAG."""
