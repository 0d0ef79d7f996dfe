"""Both trainings: the loop, one step of each, their state, and what people see of them meanwhile.

Open `loop.py` first, then `gan_step.py` (section 4 of the paper) or `damsm_step.py` (section 3.2). What a run holds is
in `gan_run.py` and `damsm_run.py`; states for going on in `states.py`; what is looked at, and what is done when a run
goes wrong, in the watchers. Imports evaluation, inference and all below.
"""
