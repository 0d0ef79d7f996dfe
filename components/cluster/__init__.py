"""The pipeline on a cluster: submitted, followed, scheduled, through kfp's own client."""
