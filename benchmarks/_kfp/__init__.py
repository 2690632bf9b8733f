"""What kfp_overhead.py and the tests on a real Kubeflow Pipelines share: a small project and the programs of pods beside it."""
