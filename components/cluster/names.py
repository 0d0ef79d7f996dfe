"""Things of the API found by their names, whatever characters these have."""

import json
import urllib.parse
from typing import TYPE_CHECKING

from components.cluster.options import Connection

if TYPE_CHECKING:
    from kfp import Client


def equals(value: str, key: str = "display_name") -> str:
    """Return the filter for what has this name, or this value of another key.

    The server unescapes a filter twice, so it is escaped once here and once more by the client: a `+` would arrive as a
    space, and a `%` as nothing or as an error.
    """
    wanted = {"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]}
    return urllib.parse.quote(json.dumps(wanted))


def experiment(client: "Client", connection: Connection) -> str | None:
    """Return the ID of the experiment, None where there is none."""
    filter_ = equals(connection.experiment)
    found = client.list_experiments(namespace=connection.namespace, filter=filter_).experiments
    return found[0].experiment_id if found else None


def made_experiment(client: "Client", connection: Connection) -> str:
    """Return the ID of the experiment, which is made if absent; kfp's own function finds only plain names."""
    from kfp_server_api import ApiException, V2beta1Experiment

    found = experiment(client, connection)
    if found:
        return found
    wanted = V2beta1Experiment(display_name=connection.experiment, namespace=connection.namespace)
    try:
        return client.experiments.experiment_service_create_experiment(experiment=wanted).experiment_id
    except ApiException as error:
        found = experiment(client, connection) if error.status == 409 else None  # another command was faster
        if not found:
            raise
        return found
