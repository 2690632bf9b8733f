"""The sealed test of a run that has ended."""

from kfp import dsl

from components.sealed_test.component import sealed_test


@dsl.pipeline(name="optimas-sealed-test", description="Both configurations on every test example, once.")
def sealed_test_of(workspace: str, run_id: str, bundle: str, before: str, after: str):
    sealed_test(workspace=workspace, run_id=run_id, bundle=bundle, before=before, after=after).set_caching_options(False)
