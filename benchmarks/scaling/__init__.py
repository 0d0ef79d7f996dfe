"""How steps scale over processes: measured where there are devices (`processes.py`), else modelled (`model.py`)."""
