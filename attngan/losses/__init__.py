"""What trainings lower: the adversarial losses (section 3.1) and those of the DAMSM (section 3.2, Eq. 7 to 12).

Open `damsm.py` first; `as_written.py` has the word scores as the paper writes them, `augmentation.py` what
discriminators are shown. Imports models.
"""
