"""One folder per stage: component.py (what Kubeflow runs), metadata.yaml (what it is), README.md (how to use it)."""
