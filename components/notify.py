"""After all steps, however they ended: a notice."""

from kfp.dsl import PipelineTaskFinalStatus

from components.image import component


@component
def notify(to: str, run_id: str, run_name: str, page: str, runs: str, model_uri: str, status: PipelineTaskFinalStatus):
    """Send a notice of how the run ended; whatever becomes of it, this step succeeds.

    Args:
        to: The address, or the Kubernetes secret that holds it: NAME/KEY.
        run_id: Of the run.
        run_name: Of the run, for people.
        page: Address of the run's page without its ID.
        runs: Folder of the pipeline's runs, in cloud storage.
        model_uri: Folder that holds the champion and the history of decisions.
        status: How the steps ended.
    """
    try:
        from attngan.errors import InputError
        from attngan.steps import notify as step

        try:
            folder, link = f"{runs}/{run_id}", f"{page}{run_id}"
            given = {"folder": folder, "state": status.state, "run_name": run_name, "link": link}
            print(step.notify(to, **given, model_uri=model_uri))
        except InputError as error:
            print(f"no notice was sent: {error}")
    except Exception as error:  # a bug, or an image without this step; its text could hold the address
        import traceback

        traceback.print_tb(error.__traceback__)
        print(f"no notice was sent: {type(error).__name__}")
